"""The recipes of detectors, each trained for some steps on recordings that the test makes."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import soundfile
import torch
from accelerate import Accelerator
from typer.testing import CliRunner

from hear_cli.app import app
from hear_core.events.event import Event
from hear_core.zoo.metadata import read_metadata
from hear_sed import DetectionStream, Detector
from hear_train.loop.logs import read_log
from hear_train.recipes import load_recipe
from hear_train.runs import build

DETECTION = {
    "audioset_strong",
    "audioset_strong_distill",
    "audioset_strong_online",
    "audioset_weak",
    "dcase2016_task2",
    "detect",
}
"""Recipes that are tested here."""

RATE = 16000
SECONDS = 1.6
TINY = (
    "model.backbone=fmn04",
    "model.pretrained=false",
    "model.weights=[]",
    "model.norm_momentum=0.3",
    f"data.seconds={SECONDS}",
    "data.batch_size=4",
    "trainer.epochs=4",
    "trainer.log_every=1",
    "trainer.validate_every=2",
    "trainer.optimiser.lr=4e-3",
    "trainer.optimiser.head_lr=2e-2",
    "trainer.optimiser.layer_decay=1",
    "trainer.schedule={name: constant}",
    "waveforms={}",
    "frames={mel_edges: false}",
)


def scene(number):
    """Return a recording of noise with two tones, low and high, and their events."""
    rng = np.random.default_rng(number)
    samples = 0.01 * rng.standard_normal(round(SECONDS * RATE))
    events = []
    for start, (label, pitch) in zip(
        (rng.uniform(0, 0.4), rng.uniform(0.8, 1.1)),
        (("low", 400), ("high", 2500)) if number % 2 else (("high", 2500), ("low", 400)),
        strict=True,
    ):
        begin, end = round(start * RATE), round((start + 0.4) * RATE)
        samples[begin:end] += 0.3 * np.sin(2 * np.pi * pitch * np.arange(end - begin) / RATE)
        events.append(Event(label, start, start + 0.4))
    return samples.astype(np.float32), events


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A folder of 20 recordings with a table of their events."""
    folder = tmp_path_factory.mktemp("scenes")
    rows = ["filename\tonset\toffset\tevent_label"]
    for number in range(20):
        samples, events = scene(number)
        soundfile.write(folder / f"scene{number:02}.wav", samples, RATE)
        rows += [f"scene{number:02}.wav\t{e.onset}\t{e.offset}\t{e.label}" for e in events]
    (folder / "events.tsv").write_text("\n".join(rows))
    return folder


def train(folder, run, *more, recipe="detect", data=None):
    loaded = load_recipe(recipe, [*TINY, f"data.labels={folder / 'events.tsv'}", *more])
    return build(loaded, data or [folder], run, Accelerator(cpu=True))


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """A detector of the tones, trained by the command."""
    run = tmp_path_factory.mktemp("runs") / "mine"
    line = ["train", "detect", run, "--data", scenes, "--labels", scenes / "events.tsv", "--cpu"]
    line += ["--workers", 0, *(word for value in TINY for word in ("--set", value))]
    line += ["--set", "trainer.epochs=8"]
    result = CliRunner().invoke(app, list(map(str, line)))
    assert result.exit_code == 0, result.output
    return run


def test_a_detector_of_own_events_learns_them(trained):
    losses = [row["loss"] for row in read_log(trained / "log.csv") if "loss" in row]
    assert losses[-1] < 0.5 * losses[0]
    metadata = read_metadata(trained / "best.safetensors")
    assert metadata.labels == ("high", "low")
    assert set(metadata.thresholds) == {"high", "low"}
    report = json.loads((trained / "report" / "metrics.json").read_text())
    assert report["event_onset_200ms_fms"] > 0.8
    rows = (trained / "report" / "recordings.csv").read_text().splitlines()
    assert rows[0] == "recording,events,detected,correct,errors"
    assert sum(int(row.split(",")[1]) for row in rows[1:]) == 2 * len(rows[1:])
    assert len((trained / "report" / "classes.csv").read_text().splitlines()) == 3


def test_it_detects_in_a_new_recording_by_command_in_a_stream_and_exported(trained, tmp_path):
    samples, events = scene(99)
    soundfile.write(tmp_path / "new.wav", samples, RATE)
    weights = trained / "best.safetensors"
    line = ["detect", tmp_path / "new.wav", "--model", weights, "--format", "csv"]
    result = CliRunner().invoke(app, list(map(str, line)))
    assert result.exit_code == 0, result.output
    found = [row.split(",") for row in result.output.splitlines()[1:]]
    assert [row[3] for row in found] == [event.label for event in events]
    onsets = [float(row[1]) for row in found]
    assert onsets == pytest.approx([event.onset for event in events], abs=0.2)
    detector = Detector(weights, engine="torch", window=SECONDS, hop=SECONDS / 2)
    assert detector.labels == ("high", "low")
    whole = detector.frames(samples).scores
    stream = DetectionStream(detector)
    parts = [*map(stream.feed, np.array_split(samples, 7)), stream.finish()]
    np.testing.assert_allclose(np.concatenate([p.scores for p in parts]), whole, atol=1e-6)
    exported = tmp_path / "mine.onnx"
    line = ["export", weights, exported]
    result = CliRunner().invoke(app, list(map(str, line)))
    assert result.exit_code == 0, result.output
    assert exported.is_file()


def audioset_strong(root):
    """Write AudioSet Strong as files with the published tables."""
    classes = {"low": "/m/09x0r", "high": "/m/04rlf"}
    for split, count in (("train", 8), ("eval", 4)):
        rows = ["segment_id\tstart_time_seconds\tend_time_seconds\tlabel"]
        for number in range(count):
            samples, events = scene(number)
            (root / split).mkdir(parents=True, exist_ok=True)
            name = f"{split:a<10}{number}"
            soundfile.write(root / split / f"Y{name}.wav", samples, RATE)
            rows += [
                f"{name}_30000\t{e.onset:.3f}\t{e.offset:.3f}\t{classes[e.label]}" for e in events
            ]
        (root / f"audioset_{split}_strong.tsv").write_text("\n".join(rows))
    return [root], ()


def audioset_strong_distill(root):
    audioset_strong(root)
    logits = np.random.default_rng(0).normal(-4, 1, (8, 447, 40)).astype(np.float16)
    with h5py.File(root / "pseudo.hdf5", "w") as file:
        file["filenames"] = [f"Y{'train':a<10}{number}.mp3".encode() for number in range(8)]
        file["strong_logits"] = logits
    return [root], (f"teacher.predictions={root / 'pseudo.hdf5'}",)


def audioset_strong_online(root):
    """Use the clips of AudioSet without events, and a random teacher."""
    from tests.hear_train.test_recipes import audioset

    audioset_strong(root / "strong")
    audioset(root / "weak")
    more = ("teacher.networks=[fmn04]", "teacher.pretrained=false", "unlabelled.data.batch_size=4")
    more += (f"unlabelled.data.seconds={SECONDS}", "unlabelled.frames.mel_edges=false")
    return [root / "strong", root / "weak"], more


def audioset_weak(root):
    from tests.hear_train.test_recipes import audioset_distill

    more = audioset_distill(root)
    return [root], ("model.backbone=fmn04_weak", "spectrograms={}", "trainer.epochs=3", *more)


def dcase2016_task2(root):
    for split in ("train", "valid", "test"):
        task = {}
        for number in range(4):
            samples, events = scene(number)
            path = root / "16000" / split / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, RATE)
            task[path.name] = [
                {"label": e.label, "start": 1000 * e.onset, "end": 1000 * e.offset} for e in events
            ]
        (root / f"{split}.json").write_text(json.dumps(task))
    (root / "task_metadata.json").write_text('{"embedding_type": "event"}')
    (root / "labelvocabulary.csv").write_text("idx,label\n0,high\n1,low\n")
    return [root], ("trainer.epochs=6",)


LAYOUTS = {
    "audioset_strong": audioset_strong,
    "audioset_strong_distill": audioset_strong_distill,
    "audioset_strong_online": audioset_strong_online,
    "audioset_weak": audioset_weak,
    "dcase2016_task2": dcase2016_task2,
}
SHORT = ("trainer.epochs=2", "trainer.accumulate=1", "trainer.optimiser.frozen_epochs=0")


def run_of(name, layout, run, *options):
    """Return a short run of a recipe on data that one of `LAYOUTS` wrote."""
    paths, more = layout
    recipe = load_recipe(name, [*TINY, *SHORT, *more, *options])
    return build(recipe, paths, run, Accelerator(cpu=True))


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "audioset_strong_online"])
def test_a_tiny_run_of_a_recipe(name, tmp_path):
    run = run_of(name, LAYOUTS[name](tmp_path / "data"), tmp_path / "run")
    weights = run.run()
    losses = [row["loss"] for row in read_log(tmp_path / "run" / "log.csv") if "loss" in row]
    assert losses[-1] < losses[0]
    metadata = read_metadata(weights)
    assert metadata.labels == run.labels
    assert set(metadata.metrics) <= set(load_recipe(name).evaluation.metrics)
    assert metadata.network == "FrameDetector"
    if name == "audioset_strong":
        check_test_command(tmp_path / "data", weights, tmp_path / "classes.csv")


def check_test_command(data, weights, table):
    """Check that hear test prints the score that EfficientSED does."""
    line = ["test", "audioset_strong", "--data", data, "--model", weights, "--per-class", table]
    result = CliRunner().invoke(app, list(map(str, line)))
    assert result.exit_code == 0, result.output
    assert "4 clips, 0 skipped" in result.output
    assert "psds1_macro_averaged: " in result.output
    assert len(table.read_text().splitlines()) == 448


class KilledError(Exception):
    """The end of the process."""


def test_online_distillation_that_was_killed_ends_like_one_that_was_not(tmp_path):
    name, terms = "audioset_strong_online", []
    layout = audioset_strong_online(tmp_path / "data")
    whole = run_of(name, layout, tmp_path / "whole")
    whole.run(lambda step, values: terms.append(values))
    for values in terms:
        teacher = 0.9 * (0.5 * values["teacher"] + 0.5 * values["unlabelled"])
        assert values["loss"] == pytest.approx(0.1 * values["labels"] + teacher, rel=1e-5)

    def kill(step, values):
        if step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        run_of(name, layout, tmp_path / "killed", "trainer.save_every=2").run(kill)
    resumed = run_of(name, layout, tmp_path / "killed", "trainer.save_every=2")
    assert resumed.trainer.position.step == 2
    resumed.run()
    for key, value in resumed.network.state_dict().items():
        assert torch.equal(value, whole.network.state_dict()[key]), key
