"""Every backbone with every sequence model and head: one contract, at tiny sizes."""

from __future__ import annotations

import warnings
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hear_core.analysis.activations import peak_activations, peak_activations_of_frames
from hear_core.errors import ConfigError
from hear_core.networks.extractor import Extractor
from hear_core.plugins.timed_model import join_scores
from hear_core.runtime.onnx_graph import extractor_to_onnx
from hear_sed import DetectionStream, Detector
from hear_sed.backbones.frame_mobilenet import FrameMobileNet
from hear_sed.backbones.registry import BACKBONES
from hear_sed.backbones.transformer import (
    FrameTransformer,
    MultiHeadAttention,
    average,
    interpolate,
)
from hear_sed.frame_detector import HEADS, FrameDetector
from hear_sed.sequence.registry import SEQUENCE_MODELS

TRANSFORMERS = [name for name in BACKBONES if not name.startswith("fmn")]
TINY = {"fmn10": partial(FrameMobileNet, 0.1)} | {
    name: partial(BACKBONES[name].make, depth=3, dim=32, heads=2) for name in TRANSFORMERS
}
AFTER = ("sequence", "logits", "weak")
SECOND = 16000
SIZES = {"num_classes": 5}
every = pytest.mark.parametrize("name", TINY)
transformers = pytest.mark.parametrize("name", TRANSFORMERS)


@cache
def frontend(name):
    return BACKBONES[name].frontend()


def backbone(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TINY[name]().eval()


def extractor(name, *taps, kind=None, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = FrameDetector(TINY[name](), kind, 32, **(SIZES | options))
    return Extractor(frontend(name), network, taps or ("mel_avgs", "all_b", *AFTER))


def sound(samples, clips=1):
    generator = torch.Generator().manual_seed(samples)
    return torch.rand(clips, samples, generator=generator) - 0.5


def run(model, audio):
    with torch.inference_mode():
        return model(audio)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", [None, *SEQUENCE_MODELS])
@every
def test_any_backbone_goes_with_any_sequence_model_and_head(name, kind, head):
    model = extractor(name, *AFTER, kind=kind, head=head)
    assert run(model, sound(SECOND, 2)).shape == (2, 25, model.size)
    assert model.slices["logits"].stop - model.slices["logits"].start == 5


@pytest.mark.parametrize("name", BACKBONES)
def test_full_networks_declare_what_they_give(name):
    frames = frontend(name).frames(5 * SECOND)
    with torch.device("meta"):
        network = FrameDetector(name, "tf", 96, num_classes=7, weak_classes=9).eval()
        log_mel = torch.empty(2, network.n_mels, frames)
        values = network(log_mel, tuple(network.tap_shapes))
    for tap, (channels, bands) in network.tap_shapes.items():
        sizes = (2, channels) if bands is None else (2, channels, bands)
        assert values[tap].shape[: len(sizes)] == sizes
        if bands is not None:
            assert values[tap].shape[3] % 125 == 0
    assert values["logits"].shape == (2, 7, 1, 125)
    assert values["weak"].shape == (2, 9)


@every
@pytest.mark.parametrize("frames", [5, 6, 7, 25, 124, 250])
def test_has_a_frame_for_every_40_ms(name, frames):
    model = extractor(name)
    assert model.samples_per_frame == 640
    assert run(model, sound(640 * frames)).shape == (1, frames, model.size)


@every
def test_takes_its_shortest_clip(name):
    model = extractor(name)
    assert model.min_samples <= SECOND // 5
    values = run(model, sound(model.min_samples))
    assert values.shape == (1, model.min_samples // 640, model.size)
    assert values.isfinite().all()


@every
def test_a_batch_gives_what_its_rows_give(name):
    model, audio = extractor(name), sound(3 * SECOND + 640, 3)
    audio[1] *= 1e-2
    rows = torch.cat([run(model, row[None]) for row in audio])
    torch.testing.assert_close(run(model, audio), rows, atol=2e-5, rtol=1e-4)


@transformers
def test_a_tap_is_the_same_alone_and_among_others(name):
    network = backbone(name)
    log_mel = frontend(name)(sound(2 * SECOND, 2))
    together = run(lambda x: network(x, tuple(network.tap_shapes)), log_mel)
    assert together.keys() == network.tap_shapes.keys()
    for tap, value in together.items():
        channels, bands = network.tap_shapes[tap]
        assert value.shape[:3] == (2, channels, bands)
        assert tap == "tokens" or value.shape[3] == 50
        alone = run(lambda x, tap=tap: network(x, (tap,)), log_mel)
        assert alone.keys() == {tap}
        assert torch.equal(alone[tap], value)


@transformers
@pytest.mark.parametrize(("tap", "blocks"), [("b0", 1), ("b1", 2), ("frames", 3), ("tokens", 3)])
def test_no_block_runs_after_the_deepest_tap(name, tap, blocks):
    network, ran = backbone(name), []
    (modules,) = (m for m in network.modules() if isinstance(m, torch.nn.ModuleList))
    for block in modules:
        block.register_forward_hook(lambda *_: ran.append(1))
    run(lambda x: network(x, (tap,)), torch.randn(1, network.n_mels, 60))
    assert len(ran) == blocks


@transformers
def test_groups_of_taps_are_declared_by_the_backbone(name):
    assert extractor(name, "all_b").taps == ("b0", "b1", "b2")
    with torch.device("meta"):
        aliases = BACKBONES[name].make().tap_aliases
    assert aliases["all_b"] == ("b2", "b5", "b8", "b11")
    assert aliases["block"] == ("b0", "b2", "b5", "b8", "b11")


@transformers
def test_frames_follow_the_sound(name):
    """The frames of a burst differ most from those of silence, hence times are not shifted."""
    model = extractor(name, "mel_avgs", "b0")
    quiet, burst = torch.zeros(2, 4 * SECOND)
    burst[2 * SECOND : 2 * SECOND + SECOND // 2] = sound(SECOND // 2)[0]
    difference = (run(model, burst[None]) - run(model, quiet[None])).norm(dim=2)[0]
    centre = (difference * torch.arange(100)).sum() / difference.sum()
    assert difference.argmax() in range(46, 67)
    assert 45 < centre < 68


@pytest.mark.parametrize("name", ["ATST-F", "fpasst", "M2D"])
def test_more_than_its_positions_is_explained(name):
    network = backbone(name)
    log_mel = torch.zeros(1, network.n_mels, network.max_frames + 1)
    with pytest.raises(ConfigError, match=r"has positions for 10\d\d log-mel frames.*windows of"):
        network(log_mel)
    network(log_mel[:, :, :-1])


@pytest.mark.parametrize("name", ["BEATs", "ASIT"])
def test_others_have_no_limit(name):
    assert isinstance(backbone(name), FrameTransformer)
    model = extractor(name)
    assert run(model, sound(25 * SECOND)).shape == (1, 625, model.size)


@pytest.mark.parametrize(("name", "kind"), zip(TINY, SEQUENCE_MODELS, strict=False))
def test_the_graph_gives_the_same_at_any_length(name, kind):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = extractor(name, kind=kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = extractor_to_onnx(model)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for frames, clips in [(5, 3), (93, 1)]:
        audio = sound(640 * frames, clips)
        (found,) = session.run(None, {"waveform": audio.numpy()})
        np.testing.assert_allclose(found, run(model, audio), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", SEQUENCE_MODELS)
def test_a_detector_by_name_gives_live_what_it_gives_of_the_recording(kind):
    detector = Detector(f"fmn04+{kind}:32", pretrained=False, engine="torch", window=2.0, hop=1.0)
    audio = sound(5 * SECOND)[0].numpy()
    expected = detector.frames(audio).scores
    stream, chunks = DetectionStream(detector), np.split(audio, [7000, 50000])
    parts = [*map(stream.feed, chunks), stream.finish()]
    assert expected.shape == (125, 447)
    np.testing.assert_allclose(join_scores(parts).scores, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TRANSFORMERS, "BEATs+tf:256"])
def test_a_large_detector_takes_a_whole_recording(name):
    detector = Detector(name, pretrained=False)
    long, short = sound(25 * SECOND)[0], sound(5 * SECOND)[0]
    assert detector.frames(long).scores.shape == (625, 447)
    assert detector.frames(short).scores.shape == (125, 447)


def test_attention_counts_with_the_scores_of_all_pairs():
    attention, numbers = MultiHeadAttention(32, 2), 3 * 100 * 32 + 2 * (2 * 100 * 100)
    assert peak_activations(attention, torch.zeros(1, 100, 32)) == 4 * numbers


@transformers
def test_memory_is_known_without_computing(name):
    network = TINY[name]()
    log_mel = torch.zeros(1, network.n_mels, 480)
    found = peak_activations_of_frames(network, network.n_mels, 480)
    assert found == peak_activations(network, log_mel)


@transformers
def test_trains(name):
    """Every weight of the backbone gets a gradient from the frames."""
    torch.manual_seed(0)
    network = TINY[name]()
    frames = network(torch.randn(2, network.n_mels, 120), ("frames",))["frames"]
    frames.square().mul(torch.rand_like(frames)).sum().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize(("length", "frames"), [(496, 250), (8, 4), (7, 7), (497, 250), (31, 8)])
def test_averages_are_those_of_torch(length, frames):
    x = torch.randn(2, 3, length)
    torch.testing.assert_close(average(x, frames), F.adaptive_avg_pool1d(x, frames))


@pytest.mark.parametrize(("length", "frames"), [(62, 250), (1, 5), (7, 7), (32, 125), (2, 3)])
def test_interpolated_values_are_those_of_torch(length, frames):
    x = torch.randn(2, 3, length)
    expected = F.interpolate(x, frames, mode="linear", align_corners=False)
    torch.testing.assert_close(interpolate(x, frames), expected, atol=1e-4, rtol=1e-4)
