"""Classifiers of the packaged network's embeddings, from clips to tags, exports and reports."""

import csv
import re
import sys
from importlib import import_module

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from hear_core.errors import ConfigError
from hear_core.networks.tap_classifier import HEAD_INPUT, TapClassifier
from hear_core.plugins.names import load_model
from hear_core.zoo.metadata import read_metadata
from hear_mn import ZOO, EATagger
from hear_train.classify import embeddings, training
from hear_train.classify.embedding_networks import open_embedding_network
from hear_train.classify.training import load_config, train_classifier
from tests.hear_cli.command import hear
from tests.hear_train.conftest import RATE
from tests.shared import ESC10, MN04, needs_esc10, needs_mn04

MODULE = "starter"
QUICK = (f"module={MODULE}", "hidden=[0]", "weight_decay=[0.01]", "folds=2", "window=0.5")


def sound(number, low, seconds=0.3):
    rng = np.random.default_rng(number)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * low * rng.uniform(0.9, 1.1) * time)
    return (0.3 * tone + 0.02 * rng.normal(size=len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six clips each of two classes, of which one is longer than a window, and background."""
    root = tmp_path_factory.mktemp("data")
    for number in range(6):
        for label, low in (("low", 300), ("high", 3000)):
            (root / label).mkdir(exist_ok=True)
            seconds = 1.2 if (label, number) == ("low", 0) else 0.3
            samples = sound(number, low, seconds)
            soundfile.write(root / label / f"{'abcdef'[number]}x.wav", samples, RATE)
        (root / "noise").mkdir(exist_ok=True)
        noise = 0.05 * np.random.default_rng(number).normal(size=RATE // 3)
        soundfile.write(root / "noise" / f"{'abcdef'[number]}x.wav", noise, RATE)
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tones"
    return train_classifier(load_config(overrides=QUICK), data, folder)


def same_result(found, wanted):
    """Compare weights, metadata and predictions; the order of the file's header is not defined."""
    state, other = (load_file(each.checkpoint) for each in (found, wanted))
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert read_metadata(found.checkpoint) == read_metadata(wanted.checkpoint)
    assert found.predictions.read_bytes() == wanted.predictions.read_bytes()


def test_the_result_of_a_run(run):
    assert run.labels == ("high", "low")
    assert run.scored.accuracy == 1.0
    assert run.failed == {}
    metadata = read_metadata(run.checkpoint)
    assert metadata.labels == run.labels
    assert metadata.arguments["network"] == "MobileNet"
    assert metadata.arguments["taps"] == list(load_model(MODULE).config.taps)
    assert set(metadata.thresholds) == set(run.labels)
    assert metadata.window == 0.5
    assert metadata.recipe["module"] == MODULE
    assert metadata.metrics["top1_acc"] == 1.0
    rows = list(csv.DictReader(run.predictions.open()))
    assert len(rows) == 18
    assert {row["labels"] for row in rows} == {"high", "low", ""}
    assert all(row["predicted"] == row["labels"] for row in rows if row["labels"])


@pytest.mark.parametrize("package", ["hear_mn", "hear_sed"])
def test_every_network_of_a_zoo_can_be_classified(package):
    zoo = import_module(package).ZOO
    classifiers = [each for each in zoo.networks.values() if issubclass(each, TapClassifier)]
    offered = {name for each in classifiers for name in each.networks}
    assert {type(record.skeleton()).__name__ for record in zoo.values()} <= offered


def test_the_report_needs_no_network(run):
    page = run.report.read_text("utf-8")
    assert not re.search(r"(src|href)=(?!\"data:)|@import|url\(|https?:", page)
    for part in ("Classifier tones", "high", "low", "background", "false alarms"):
        assert part in page
    assert page.count("<table>") == page.count("</table>")
    assert "$" not in re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)


def test_the_classifier_is_the_network_with_its_head(run, data):
    network, record, _ = ZOO.open(str(run.checkpoint))
    network.eval()
    waveform = torch.from_numpy(sound(9, 300))[None]
    with torch.inference_mode():
        log_mel = record.frontend()(waveform)
        taps = network(log_mel, (HEAD_INPUT, "logits", "e1"))
        own = ZOO.load("mn01_starter").eval()(log_mel, ("e1",))["e1"]
        logits = network.classifier(taps[HEAD_INPUT])
    model = load_model(MODULE, engine="torch")
    np.testing.assert_allclose(taps[HEAD_INPUT], model.get_scene_embeddings(waveform), atol=1e-5)
    np.testing.assert_allclose(taps["e1"], own, atol=1e-5)
    np.testing.assert_allclose(taps["logits"], logits, atol=1e-5)


def test_tags_of_new_clips_by_the_name_of_the_run(run, data, tmp_path, monkeypatch):
    file = tmp_path / "new.wav"
    soundfile.write(file, sound(8, 3000, 1.3), RATE)
    monkeypatch.chdir(run.checkpoint.parents[1])
    lines = hear("tag", file, "--model", "tones", "--top", 1).splitlines()
    assert lines[1].split()[-1] == "high"
    events = hear("tag", file, "--model", "tones", "--events", "--format", "csv").splitlines()
    assert "high" in {event.split(",")[3] for event in events[1:]}
    tagger = EATagger("tones")
    assert (tagger.labels, tagger.window) == (("high", "low"), 0.5)
    # As in training, a clip is the mean over windows, of which the last ends with it.
    samples = sound(8, 3000, 1.3)
    cuts = [
        samples[start : start + RATE // 2] for start in (0, RATE // 2, len(samples) - RATE // 2)
    ]
    network, record, _ = ZOO.open("tones/best.safetensors")
    with torch.inference_mode():
        log_mel = record.frontend()(torch.from_numpy(np.stack(cuts)))
        wanted = network.eval()(log_mel)["logits"].mean(0).sigmoid()
    np.testing.assert_allclose(tagger.clip(samples).scores[0], wanted, atol=1e-5)


def test_an_export_agrees_and_holds_labels_and_thresholds(run, tmp_path):
    target = tmp_path / "tones.onnx"
    printed = hear("export", run.checkpoint.parent, target, "--probabilities")
    assert "passed" in printed
    assert "FAILED" not in printed
    session = onnxruntime.InferenceSession(target)
    samples = sound(7, 300)
    (scores,) = session.run(None, {"waveform": samples[None]})
    np.testing.assert_allclose(
        scores[0], EATagger(run.checkpoint.parent).tag(samples)[0], atol=1e-5
    )
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["labels"] == '["high", "low"]'
    assert "high" in metadata["thresholds"]


def test_a_killed_run_resumes_to_the_same_result(run, data, tmp_path, monkeypatch):
    folder, embed = tmp_path / "tones", embeddings._embed
    calls = []

    def killed(embedder, group, window, failed):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(group))
        return embed(embedder, group, window, failed)

    config = load_config(overrides=QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(embeddings, "_PART", 5)
        patch.setattr(embeddings, "_embed", killed)
        with pytest.raises(KeyboardInterrupt):
            train_classifier(config, data, folder)
    (folder / "embeddings" / ".000002.npz.0123456789ab.part").write_text("killed while writing")
    done = []
    resumed = train_classifier(
        config, data, folder, progress=lambda stage, count, total: done.append((stage, count))
    )
    assert ("clips embedded", 18) in done
    assert min(count for stage, count in done if stage == "clips embedded") > 10
    same_result(resumed, run)
    # A long recording is read in blocks.
    monkeypatch.setattr(embeddings, "_LARGE", 0)
    same_result(train_classifier(config, data, tmp_path / "blocks" / "tones"), run)
    # A damaged part of the cache is embedded again.
    (folder / "embeddings" / "000000.npz").write_bytes(b"damaged")
    same_result(train_classifier(config, data, folder), run)


def test_unreadable_clips_are_skipped_counted_and_named(data, tmp_path):
    copies = tmp_path / "data"
    for path in data.glob("*/[a-d]x.wav"):
        (copies / path.parent.name).mkdir(parents=True, exist_ok=True)
        (copies / path.parent.name / path.name).write_bytes(path.read_bytes())
    (copies / "low" / "dx.wav").write_bytes(b"no audio")
    samples = sound(0, 300)
    samples[5] = np.nan
    soundfile.write(copies / "low" / "cx.wav", samples, RATE, "FLOAT")
    found = train_classifier(load_config(overrides=QUICK), copies, tmp_path / "run")
    assert set(found.failed) == {"low/cx.wav", "low/dx.wav"}
    page = found.report.read_text("utf-8")
    assert "low/dx.wav was skipped" in page
    for path in (copies / "low").iterdir():
        path.write_bytes(b"no audio")
    with pytest.raises(ConfigError, match=r"none of the 4 clips of the class low can be read"):
        train_classifier(load_config(overrides=QUICK), copies, tmp_path / "other")


def test_heads_for_large_data_are_compared_in_one_fold(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_MANY", 5)
    heads = list[int]()
    found = train_classifier(
        load_config(overrides=[*QUICK, "weight_decay=[100, 0.01]", "folds=3"]),
        data,
        tmp_path / "run",
        progress=lambda stage, done, total: heads.append(total) if "heads" in stage else None,
    )
    assert heads == [5] * 5  # both in one fold, and the better one in three
    assert found.head.weight_decay == 0.01
    assert found.scored.accuracy == 1.0


def test_folders_of_other_runs_and_modules_are_refused(run, data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "settings.json").write_text('{"description": "Fine-tune"}')
    with pytest.raises(ConfigError, match="is the folder of a run of another recipe"):
        train_classifier(load_config(overrides=QUICK), data, other)
    config = load_config(overrides=[*QUICK, "module=mn01_starter"])
    with pytest.raises(ConfigError, match="embeddings that were made with other settings"):
        train_classifier(config, data, run.checkpoint.parent)
    empty = tmp_path / "empty"
    empty.mkdir()
    printed = hear("tag", data / "low" / "ax.wav", "--model", empty, code=1)
    assert "does not hold a checkpoint" in printed


def test_mistakes_in_the_settings():
    with pytest.raises(ConfigError, match="did you mean 'window'"):
        load_config(overrides=["windw=3"])
    for wrong in ("window=0", "folds=1", "hidden=[]", "weight_decay=-1", "false_alarms=-2"):
        with pytest.raises(ConfigError, match=wrong.partition("=")[0]):
            load_config(overrides=[wrong])


def test_the_command(data, tmp_path):
    arguments = ["--data", data, "--module", MODULE, *(a for q in QUICK for a in ("--set", q))]
    printed = hear("train", "classify", tmp_path / "run", *arguments, "--random-weights")
    assert "accuracy" in printed
    assert "false alarms per hour" in printed
    assert "module: mn10_all_b_mel_avgs" in hear("train", "classify", "--show")
    assert "classify" in hear("train", "--list")
    printed = hear("train", "classify", tmp_path / "x", "--data", data, "--unfreeze", 99, code=1,
                   HEAR_CHECKPOINTS="", HEAR_MIRROR="file:///none")  # fmt: skip
    assert not (tmp_path / "x" / "settings.json").exists()


def test_fine_tuning_changes_the_last_blocks_only(data, tmp_path):
    tuned = ("fine_tuning={blocks: 2, epochs: 2, batch_size: 4, lr: 0.001}",)
    config = load_config(overrides=[*QUICK, *tuned])
    found = train_classifier(config, data, tmp_path / "run", accelerator=Accelerator(cpu=True))
    before = open_embedding_network(MODULE).network.state_dict()
    after = ZOO.load(str(found.checkpoint)).backbone.state_dict()
    changed = {
        name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }
    assert changed
    assert {re.match(r"[a-z]+\.\d+", name)[0] for name in changed} <= {"features.14", "features.15"}
    rows = list(csv.DictReader(found.predictions.open()))
    assert {row["fold"] for row in rows} == {"1"}  # the fold that was not trained on
    row = next(row for row in rows if row["labels"] == "high")
    score = EATagger(found.checkpoint).clip(data / row["file"]).scores[0, 0]
    assert float(row["high"]) == pytest.approx(score, abs=1e-4)
    with pytest.raises(ConfigError, match="99 blocks cannot be fine-tuned"):
        train_classifier(
            load_config(overrides=[*QUICK, "fine_tuning.blocks=99"]),
            data,
            tmp_path / "more",
            accelerator=Accelerator(cpu=True),
        )


@pytest.mark.slow
def test_a_classifier_of_a_detector_and_another_head_on_a_classifier(run, data, tmp_path):
    files = [data / "low" / "bx.wav", data / "high" / "bx.wav"]
    config = load_config(overrides=[*QUICK, "module=fmn04"])
    found = train_classifier(config, data, tmp_path / "frames", random_weights=True)
    tagger = EATagger(tmp_path / "frames")
    rows = {row["file"]: row for row in csv.DictReader(found.predictions.open())}
    assert tagger.labels == ("high", "low")
    assert tagger.tag(files[0])[0].shape == (2,)
    assert set(rows) >= {"low/bx.wav", "high/bx.wav"}
    assert "hear tag" in hear("detect", files[0], "--model", tmp_path / "frames", code=1)
    config = load_config(overrides=[*QUICK, f"module={run.checkpoint.parent}"])
    again = train_classifier(config, data, tmp_path / "again")
    for file in files:
        scores = [EATagger(each.checkpoint).tag(file)[0] for each in (run, again)]
        np.testing.assert_allclose(*scores, atol=1e-5)


OTHER = """
import torch

class Model:
    sample_rate = 16000
    scene_embedding_size = 3

def load_model(model_file_path=""):
    return Model()

def get_scene_embeddings(audio, model):
    spectrum = torch.fft.rfft(audio).abs()
    parts = spectrum.tensor_split(3, 1)
    return torch.stack([part.mean(1) for part in parts], 1)
"""


def test_a_module_of_another_package(data, tmp_path, monkeypatch):
    (tmp_path / "spectral_hear.py").write_text(OTHER)
    monkeypatch.syspath_prepend(tmp_path)
    config = load_config(overrides=[*QUICK, "module=spectral_hear"])
    found = train_classifier(config, data, tmp_path / "run")
    assert found.scored.accuracy == 1.0
    tagger = EATagger(tmp_path / "run")
    assert (tagger.sample_rate, tagger.labels) == (16000, ("high", "low"))
    assert tagger.tag(data / "low" / "bx.wav")[0].argmax() == 1
    printed = hear("export", tmp_path / "run", tmp_path / "x.onnx", code=1)
    assert "the module spectral_hear cannot be exported" in printed
    monkeypatch.delitem(sys.modules, "spectral_hear")
    (tmp_path / "spectral_hear.py").write_text("import missing_package")
    with pytest.raises(ConfigError, match="HEAR_TRUSTED_MODULES=spectral_hear"):
        EATagger(tmp_path / "run").tag(data / "low" / "bx.wav")
    assert "spectral_hear" not in sys.modules  # its code was not run
    monkeypatch.setenv("HEAR_TRUSTED_MODULES", "another, spectral_hear")
    with pytest.raises(ConfigError, match="spectral_hear cannot be imported: ModuleNotFound"):
        EATagger(tmp_path / "run").tag(data / "low" / "bx.wav")
    with pytest.raises(ConfigError, match="json is not a HEAR plug-in"):
        open_embedding_network("json")
    with pytest.raises(ConfigError, match="unknown module or backbone"):
        open_embedding_network("mn04_all_bb")


@pytest.mark.slow
@needs_esc10
@needs_mn04
def test_esc10_with_released_and_with_random_weights(tmp_path):
    config = load_config(overrides=["module=mn04_all_b_mel_avgs"])
    found = train_classifier(config, ESC10, tmp_path / "esc10", model=MN04)
    assert len(found.scored.accuracies) == 5
    assert found.scored.accuracy >= 0.94
    control = train_classifier(config, ESC10, tmp_path / "control", random_weights=True)
    assert control.scored.accuracy <= found.scored.accuracy - 0.15  # 0.21 when it was measured
