"""Exported files: their outputs compared with the model, and their metadata."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hear_core.audio.reading import read_audio
from hear_core.errors import ConfigError
from hear_core.export.onnx_file import compare, describe, export
from hear_core.zoo.labels import audioset_labels
from hear_mn import ZOO, mn01_all_b_mel_avgs, mn04_e1_l, mn10_all_b_mel_avgs_hop15, starter
from tests.shared import ESC10, METRO, MN04, needs_esc10, needs_metro, needs_mn04

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def sound(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * 32000)).astype("f")


@pytest.fixture(scope="module")
def trained():
    return starter.load_model(engine="torch", taps=["logits", "e1"])


@pytest.fixture(scope="module")
def real():
    return mn04_e1_l.load_model(str(MN04), engine="torch")


@pytest.fixture(scope="module")
def recordings():
    files = [METRO, *sorted((ESC10 / "audio").glob("*.ogg"))[::40]]
    return [read_audio(file, 32000).numpy() for file in files]


@pytest.mark.parametrize(
    ("plugin", "options"),
    [
        (mn01_all_b_mel_avgs, {}),
        (mn01_all_b_mel_avgs, {"taps": ["mel_avgs"]}),
        (mn01_all_b_mel_avgs, {"taps": ["b3"], "pooling": "avg_max_time"}),
        (mn01_all_b_mel_avgs, {"taps": ["clf", "all_se", "b0"], "pooling": "cat_avg_max"}),
        (mn01_all_b_mel_avgs, {"taps": ["mel_stds", "mel_maxs", "mel_changes", "logf_avgs"]}),
        (mn01_all_b_mel_avgs, {"taps": ["b5", "logf_avgs", "b15"], "pooling": "avg_max_bands4"}),
        (mn01_all_b_mel_avgs, {"taps": ["all_b"], "pooling": "avg_std_bands8"}),
        (mn01_all_b_mel_avgs, {"taps": ["all_b"], "pooling": "avg_segments3"}),
        (mn10_all_b_mel_avgs_hop15, {"taps": ["logits", "mels"]}),
        (mn01_all_b_mel_avgs, {"backbone": "mn10_as_fc_s2211", "taps": ["logits"]}),
        (mn01_all_b_mel_avgs, {"backbone": "mn10_as_mels_40"}),
    ],
)
def test_a_file_computes_what_the_model_computes(tmp_path, plugin, options):
    model = plugin.load_model(pretrained=False, engine="torch", **options)
    export(model, tmp_path / "out.onnx")
    found = list(compare(tmp_path / "out.onnx", model, [sound(3.0), sound(0.5, 1)], "float32"))
    assert len(found) >= 4
    assert all(comparison.passed for comparison in found)


@pytest.mark.parametrize("samples", [402, 403, 1000, 5120, 100000])
@pytest.mark.parametrize("clips", [1, 5])
def test_batch_and_length_are_free(tmp_path, samples, clips):
    model = mn01_all_b_mel_avgs.load_model(pretrained=False, engine="torch")
    export(model, tmp_path / "out.onnx")
    waveform = np.stack([sound(samples / 32000, seed) for seed in range(clips)])
    session = onnxruntime.InferenceSession(tmp_path / "out.onnx")
    (found,) = session.run(None, {"waveform": waveform})
    with torch.no_grad():
        expected = model.extractor(torch.from_numpy(waveform))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@needs_mn04
@needs_metro
@needs_esc10
def test_real_weights_on_real_audio(tmp_path, real, recordings):
    for precision in ("float32", "float16"):
        export(real, tmp_path / "out.onnx", precision=precision)
        found = list(compare(tmp_path / "out.onnx", real, recordings, precision))
        assert {c.clips for c in found} == {len(recordings)}
        assert all(comparison.passed for comparison in found), precision


def test_half_precision_halves_the_file(tmp_path):
    model = mn04_e1_l.load_model(pretrained=False, engine="torch")
    export(model, tmp_path / "whole.onnx")
    export(model, tmp_path / "half.onnx", precision="float16")
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * (tmp_path / "whole.onnx").stat().st_size


def test_a_file_describes_itself(tmp_path, trained):
    export(trained, tmp_path / "out.onnx")
    metadata = onnxruntime.InferenceSession(tmp_path / "out.onnx").get_modelmeta()
    said = metadata.custom_metadata_map
    assert said == describe(trained, "float32")
    assert said["sample_rate"] == "32000"
    assert json.loads(said["taps"]) == {"logits": [0, 527], "e1": [527, 623]}
    assert json.loads(said["labels"])[:2] == ["Speech", "Male speech, man speaking"]
    assert said["checkpoint_sha256"] == ZOO["mn01_starter"].checkpoint.sha256
    assert said["licence"] == "MIT"


def test_labels_are_written_only_for_logits_that_they_fit():
    options = {"pretrained": False, "engine": "torch"}
    assert "labels" not in describe(mn01_all_b_mel_avgs.load_model(**options), "float32")
    fine_tuned = mn04_e1_l.load_model(**options, num_classes=10)
    labels = describe(fine_tuned, "float32").get("labels", "[]")
    assert json.loads(labels) == list(fine_tuned.record.labels)
    assert len(audioset_labels()) == 527


def test_a_wrong_file_does_not_pass(tmp_path):
    model, other = (
        mn01_all_b_mel_avgs.load_model(pretrained=False, engine="torch", taps=taps)
        for taps in (["b3", "b4"], ["b4", "b3"])
    )
    export(other, tmp_path / "out.onnx")
    assert not any(c.passed for c in compare(tmp_path / "out.onnx", model, [sound(1)], "float32"))


def test_a_failed_export_leaves_nothing(tmp_path):
    model = mn01_all_b_mel_avgs.load_model(pretrained=False, engine="torch")
    with pytest.raises(ConfigError, match=r"unknown precision 'int4'; did you mean 'int8'"):
        export(model, tmp_path / "out.onnx", precision="int4")
    with pytest.raises(ConfigError, match=r"int8 needs recordings to calibrate on"):
        export(model, tmp_path / "out.onnx", precision="int8")
    assert list(tmp_path.iterdir()) == []


@needs_mn04
@needs_metro
@needs_esc10
def test_int8_is_small_and_close(tmp_path, real, recordings):
    export(real, tmp_path / "out.onnx", precision="int8", calibration=recordings)
    assert (tmp_path / "out.onnx").stat().st_size < 2.6e6
    found = list(compare(tmp_path / "out.onnx", real, recordings, "int8"))
    assert all(c.cosine > 0.9 for c in found)
    graph = onnx.load(tmp_path / "out.onnx").graph
    weights = [i for i in graph.initializer if "backbone" in i.name or "features" in i.name]
    assert any(i.data_type == onnx.TensorProto.INT8 for i in weights)


def test_outputs_are_named_by_what_they_are(tmp_path):
    for taps, probabilities, name in [
        (["logits"], False, "logits"),
        (["logits"], True, "probabilities"),
        (["logits", "e1"], False, "embedding"),
    ]:
        model = starter.load_model(engine="torch", taps=taps)
        export(model, tmp_path / "out.onnx", probabilities=probabilities)
        (output,) = onnxruntime.InferenceSession(tmp_path / "out.onnx").get_outputs()
        assert output.name == name
        results = list(
            compare(
                tmp_path / "out.onnx", model, [sound(3.0)], "float32", probabilities=probabilities
            )
        )
        assert all(result.passed for result in results)
        assert results[0].first_class == results[0].decisions == 0
        labels = json.loads((tmp_path / "out.labels.json").read_text())
        assert tuple(labels) == audioset_labels()


def test_probabilities_need_logits_alone(tmp_path):
    model = starter.load_model(engine="torch", taps=["logits", "e1"])
    with pytest.raises(ConfigError, match=r"probabilities need the tap logits alone, .* e1"):
        export(model, tmp_path / "out.onnx", probabilities=True)


def test_without_onnx_the_error_names_the_extra(tmp_path, monkeypatch):
    model = starter.load_model(engine="torch", taps=["logits"])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="an export needs onnx: install the extra 'onnx'"):
        export(model, tmp_path / "out.onnx")


def test_changed_decisions_fail_the_check(tmp_path):
    model = starter.load_model(engine="torch", taps=["logits"])
    export(model, tmp_path / "out.onnx", precision="float16")
    with torch.no_grad():  # the same direction and nearly the same norm, but other first classes
        last = model.extractor.backbone.classifier[-1]
        best = model.get_scene_embeddings(torch.from_numpy(sound(3.0))[None])[0].topk(2).indices
        last.bias[best[0]] -= 2.0
        last.bias[best[1]] += 2.0
    found = list(compare(tmp_path / "out.onnx", model, [sound(3.0)], "int8"))
    assert any(c.cosine > 0.9 and not c.passed and c.first_class == 1 for c in found)


def test_the_last_layer_stays_in_float(tmp_path):
    model = starter.load_model(engine="torch", taps=["logits"])
    export(model, tmp_path / "out.onnx", precision="int8", calibration=[sound(3.0)])
    graph = onnx.load(tmp_path / "out.onnx").graph
    gemm = [node for node in graph.node if node.op_type in ("Gemm", "MatMul")][-1]
    weights = {i.name: i for i in graph.initializer}
    assert any(weights[n].dims and weights[n].data_type == 1 for n in gemm.input if n in weights)
    assert any(i.data_type == onnx.TensorProto.INT8 for i in graph.initializer)
