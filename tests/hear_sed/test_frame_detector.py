"""Detectors against the original, with stand-in weights, and every backbone with every model."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_core.networks.batch_norm_folding import fold_batch_norms
from hear_core.networks.extractor import Extractor
from hear_core.runtime.onnx_graph import extractor_to_onnx
from hear_sed.backbones.frame_mobilenet import FRONTEND, FrameMobileNet
from hear_sed.frame_detector import HEADS, FrameDetector
from hear_sed.sequence.registry import SEQUENCE_MODELS
from tests import goldens
from tests.goldens import waveform

COMBINATIONS = goldens.manifests("fmn*")
FAST = ("fmn04", "fmn10+tf-256", "fmn10+gru-256", "fmn10+hybrid-256")
SLOW_GRAPHS = ("tf", "attn", "hybrid", "tcn", "mamba")
AFTER = ("frames", "sequence", "logits", "weak")
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
some_kinds = pytest.mark.parametrize("kind", [None, *SEQUENCE_MODELS])


def build(name, *, scaled=True, weak527=False, **other):
    """Return a detector of the manifests with its stand-in weights."""
    facts = goldens.manifest(name)["build"]
    if "+" in name:
        other |= {"sequence_model": facts["seq_model_type"], "dim": facts["seq_model_dim"]}
    weak = 527 if weak527 else None
    network = FrameDetector(name.partition("+")[0], weak_classes=weak, **other).eval()
    state = goldens.detector(name, scaled=scaled, weak527=weak527)
    network.load_state_dict(state, strict=True)
    return network


def small(kind=None, **other):
    torch.manual_seed(0)
    return FrameDetector(FrameMobileNet(0.1), kind, 64, num_classes=5, **other).eval()


def run(network, log_mel, taps=("logits",)):
    with torch.inference_mode():
        return network(torch.as_tensor(log_mel), taps)


def mel():
    return torch.from_numpy(goldens.arrays("sed/frontends")["fmn_mel"][:, 0])


def strong(values, golden):
    """Return those of the strong logits (batch, classes, frames) that a golden has."""
    found = values["logits"].squeeze(2)
    return found[:, :, :: found.shape[2] // golden.shape[2]]


def test_the_front_end_equals_the_original():
    frontend = FRONTEND()
    audio = waveform(10.0, sample_rate=16000)
    for found in (frontend(audio), frontend.exportable()(audio)):
        difference = (found - mel()).abs()
        assert difference.shape == (1, 128, 1000)
        assert difference.max() < 5e-3
        assert difference.mean() < 5e-5
    assert frontend.frames(160000) == 1000
    silence = frontend(torch.zeros(1, 1600))
    np.testing.assert_allclose(silence, (np.log(1e-7) + 4.5) / 5, rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in COMBINATIONS],
)
def test_equals_the_original(name):
    network = build(name)
    values = run(network, mel(), AFTER)
    if "+" not in name:
        golden = goldens.arrays(f"sed/{name}")
        goldens.assert_close(strong(values, golden["strong"]), golden["strong"], **CLOSE)
        goldens.assert_close(values["weak"], golden["weak"], **CLOSE)
        other = run(build(name, weak527=True), mel(), ("weak",))
        goldens.assert_close(other["weak"], golden["weak527"], **CLOSE)
        plain = run(build(name, scaled=False), FRONTEND()(waveform(10.0, sample_rate=16000)), AFTER)
        expected = golden["plain_strong"]
        goldens.assert_close(strong(plain, expected), expected, atol=1e-5)
        goldens.assert_close(plain["weak"], golden["plain_weak"], atol=1e-5)
    elif f"{name}.strong" in goldens.arrays("sed/fmn_seq_full"):
        golden = goldens.arrays("sed/fmn_seq_full")
        expected = golden[f"{name}.strong"]
        goldens.assert_close(strong(values, expected), expected, **CLOSE)
        goldens.assert_close(values["weak"], golden[f"{name}.weak"], **CLOSE)
    if "+" in name:
        golden = goldens.arrays(f"sed/seq_{name.partition('+')[2].partition('-')[0]}")
        with torch.inference_mode():
            sequence = network.seq_model(goldens.frame_features(network.backbone.channels))
            found = network.strong_head(sequence).transpose(1, 2)[:, :, ::10]
            weak = network.weak_head(sequence.mean(1))
        goldens.assert_close(found, golden[f"{name}.strong"], **CLOSE)
        goldens.assert_close(weak, golden[f"{name}.weak"], **CLOSE)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_has_as_many_parameters_as_the_original(name):
    facts = goldens.manifest(name)
    kind, dim = facts["build"].get("seq_model_type"), facts["build"].get("seq_model_dim", 256)
    with torch.device("meta"):
        network = FrameDetector(name.partition("+")[0], kind if "+" in name else None, dim)
    # It counts the frequencies of rotary positions, which are not trained there either.
    frequencies = sum(b.numel() for n, b in network.named_buffers() if n.endswith("freqs"))
    found = sum(p.numel() for p in network.parameters()) + frequencies
    assert found == facts["param_count"]
    assert set(network.state_dict()) == set(facts["tensors"]) | set(facts["tied"])


@pytest.mark.parametrize("seconds", [5, 20])
def test_other_lengths_brought_to_250_frames_equal_the_original(seconds):
    golden = goldens.arrays("sed/fmn10")
    log_mel = FRONTEND()(waveform(float(seconds), sample_rate=16000))
    values = run(build("fmn10", resized_to=250), log_mel, AFTER)
    expected = golden[f"strong_{seconds}s"]
    assert values["logits"].shape == (1, 447, 1, 250)
    goldens.assert_close(strong(values, expected), expected, atol=3e-3)
    goldens.assert_close(values["weak"], golden[f"weak_{seconds}s"], atol=3e-3)
    frames = values["frames"][:, :, 0, ::5].transpose(1, 2)
    goldens.assert_close(frames, golden[f"embedding_{seconds}s"], atol=3e-3)
    as_it_is = run(build("fmn10"), log_mel)["logits"]
    assert as_it_is.shape == (1, 447, 1, 25 * seconds)


@pytest.mark.parametrize("name", ["fmn10+tf-256", "fmn10+gru-256", "fmn10+hybrid-256"])
def test_equals_the_original_with_batch_norms_folded_and_channels_last(name):
    network = build(name)
    fold_batch_norms(network)
    network.to(memory_format=torch.channels_last)
    expected = goldens.arrays("sed/fmn_seq_full")[f"{name}.strong"]
    goldens.assert_close(strong(run(network, mel()), expected), expected, **CLOSE)


@some_kinds
@pytest.mark.parametrize("frames", [1, 7, 313])
def test_any_length_and_a_batch_gives_what_its_rows_give(kind, frames):
    network = small(kind)
    log_mel = 3 * torch.randn(2, 128, 4 * frames - 3)
    together = run(network, log_mel, AFTER)
    assert together["logits"].shape == (2, 5, 1, frames)
    for row in range(2):
        alone = run(network, log_mel[row : row + 1], AFTER)
        for tap in AFTER:
            torch.testing.assert_close(together[tap][row], alone[tap][0], atol=1e-5, rtol=1e-5)


@some_kinds
@pytest.mark.parametrize("frames", [1, 250, 300])
def test_sequences_can_all_be_as_long(kind, frames):
    network = small(kind, resized_to=250)
    values = run(network, torch.randn(1, 128, 4 * frames), AFTER)
    assert [values[tap].shape[-1] for tap in AFTER[:3]] == [frames, 250, 250]
    if frames == 250:
        plain = run(small(kind), torch.zeros(1, 128, 1000))
        torch.testing.assert_close(run(network, torch.zeros(1, 128, 1000)), plain)


def test_a_tap_is_the_same_alone_and_among_others():
    network, log_mel = small("tf"), torch.randn(1, 128, 50)
    together = run(network, log_mel, tuple(network.tap_shapes))
    assert together.keys() == network.tap_shapes.keys()
    for tap, value in together.items():
        alone = run(network, log_mel, (tap,))
        assert alone.keys() == {tap}
        assert torch.equal(alone[tap], value)


@pytest.mark.parametrize(
    ("tap", "last"),
    [
        ("b0", "model.fmn.features.0.2"),
        ("frames", "model.fmn.features.16.2"),
        ("sequence", "seq_model.1.norm"),
        ("logits", "strong_head"),
        ("weak", "weak_head"),
    ],
)
def test_nothing_runs_after_the_deepest_tap(tap, last):
    network, ran = small("tf"), []
    for name, module in network.named_modules():
        if not any(module.children()):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    run(network, torch.randn(1, 128, 50), (tap,))
    assert ran[-1] == last


def test_the_attention_head_is_a_weighted_mean_of_probabilities():
    network = small("tf", head="attention")
    values = run(network, torch.randn(2, 128, 200), ("weak", "sequence", "logits"))
    sequence = values["sequence"][:, :, 0].transpose(1, 2)
    with torch.inference_mode():
        scores = network.weak_head(sequence).exp()
    weights = (scores / scores.sum(2, keepdim=True)).clamp(1e-7, 1)
    probabilities = values["logits"][:, :, 0].transpose(1, 2).sigmoid()
    expected = (weights * probabilities).sum(1) / weights.sum(1)
    torch.testing.assert_close(values["weak"].sigmoid(), expected)
    assert set(HEADS) == {"linear", "attention"}


@pytest.mark.parametrize(
    "kind", [None, "gru", *(pytest.param(k, marks=pytest.mark.slow) for k in SLOW_GRAPHS)]
)
def test_as_an_extractor_and_as_its_graph(kind):
    """An embedding of every frame, and a graph that takes any whole number of them."""
    onnxruntime = pytest.importorskip("onnxruntime")
    taps = ["mel_avgs", "b5", "sequence", "logits", "weak"]
    extractor = Extractor(FRONTEND(), small(kind), taps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = extractor_to_onnx(extractor)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
    for seconds, batch in [(0.12, 3), (1.0, 1), (10.0, 2)]:
        audio = waveform(seconds, batch, 16000)
        with torch.inference_mode():
            expected = extractor(audio)
        (found,) = session.run(None, {"waveform": audio.numpy()})
        assert found.shape == (batch, round(seconds / 0.04), extractor.size)
        np.testing.assert_allclose(found, expected, atol=5e-4, rtol=1e-3)


@pytest.mark.parametrize("resized_to", [None, 4])
def test_frames_as_a_graph(resized_to):
    """Probabilities of every frame; only what has one length has a graph if it is resized."""
    onnxruntime = pytest.importorskip("onnxruntime")

    class Frames(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = small("gru", resized_to=resized_to)

        def forward(self, log_mel):
            return self.network(log_mel)["logits"].squeeze(2)

    frames, file = Frames().eval(), io.BytesIO()
    log_mel = torch.randn(2, 128, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dynamic = {} if resized_to else {"x": {0: "batch", 2: "frames"}}
        torch.onnx.export(
            frames, (log_mel,), file, input_names=["x"], dynamic_axes=dynamic, dynamo=False
        )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for x in [log_mel] if resized_to else [log_mel, torch.randn(1, 128, 333)]:
        with torch.inference_mode():
            expected = frames(x)
        np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "fmn1"}, r"unknown backbone 'fmn1'; did you mean 'fmn10'"),
        ({"sequence_model": "elman"}, r"unknown sequence model 'elman'"),
        ({"sequence_model": "tf", "dim": 12}, r"multiple of 8, such as 16, not 12"),
        ({"head": "mean"}, r"unknown head 'mean'"),
        ({"head": "attention", "weak_classes": 527}, r"must be 447 as num_classes, not 527"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ConfigError, match=message), torch.device("meta"):
        FrameDetector(**arguments)
