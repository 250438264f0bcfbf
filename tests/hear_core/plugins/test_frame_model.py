"""Frame-wise plug-in models, with a network whose frames see a second and no more."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hear_core.audio.framing import CrossfadedWindows
from hear_core.errors import ConfigError
from hear_core.export.onnx_file import compare, describe, export
from hear_core.frontends.log_mel import LogMel
from hear_core.networks.backbone import Backbone
from hear_core.networks.taps import TapShape
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.plugins.loading import load_plugin
from hear_core.zoo.checkpoints import Checkpoint
from hear_core.zoo.registry import NetworkRecord, Zoo

FRAME = 1280  # samples
SEEN = 25  # frames on either side that a frame sees, with those that the spectrum's window sees


class Net(Backbone):
    tap_shapes: ClassVar = {
        "b0": TapShape(2, 4),
        "b1": TapShape(3, 2),
        "sequence": TapShape(5),
        "weak": TapShape(6),
    }
    class_layers = ()
    frame_stride = 4

    def __init__(self, num_classes=6):
        super().__init__()
        self.b0 = nn.Conv2d(1, 2, (32, 3), stride=(32, 2), padding=(0, 1))
        self.b1 = nn.Conv2d(2, 3, (2, 3), stride=2, padding=(0, 1))
        self.sequence = nn.Conv1d(6, 5, 47, padding=23)
        self.weak = nn.Linear(5, num_classes)

    def forward(self, log_mel, taps=("sequence",)):
        values = {"b0": self.b0(log_mel[:, None]).relu()}
        values["b1"] = self.b1(values["b0"])
        values["sequence"] = self.sequence(values["b1"].flatten(1, 2))
        values["weak"] = self.weak(values["sequence"].mean(2))
        return {tap: values[tap] for tap in taps}


ZOO = Zoo({"net": NetworkRecord(Net, {}, LogMel, Checkpoint("net.pt", "", None))})


def model(*taps, **options):
    config = EmbeddingConfig("net", taps or ("mel_avgs", "b0", "b1", "sequence"))
    options = {"engine": "torch", "scene_hop": 5.0, **options}
    return load_plugin(ZOO, config, pretrained=False, **options)


def sound(samples, clips=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(clips, samples, generator=generator) - 0.5


def whole(model, audio):
    with torch.inference_mode():
        return model.extractor(audio)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("samples", [1, FRAME - 1, FRAME, FRAME + 1, 32000, 320000, 320001, 700001])
def test_there_is_an_embedding_every_40_milliseconds(samples, engine):
    found = model("mel_avgs", "sequence", engine=engine)
    embeddings, timestamps = found.get_timestamp_embeddings(sound(samples, clips=2))
    count = -(-samples // FRAME)
    assert embeddings.shape == (2, count, found.timestamp_embedding_size)
    assert timestamps.tolist() == [[40.0 * i for i in range(count)]] * 2
    scenes = found.get_scene_embeddings(sound(samples, clips=2))
    torch.testing.assert_close(scenes, embeddings.mean(1), atol=1e-5, rtol=1e-5)


def test_short_clips_are_embedded_as_a_whole():
    found = model()
    audio = sound(200 * FRAME, clips=2)
    torch.testing.assert_close(found.get_frames(audio), whole(found, audio))


def test_a_frame_is_made_of_the_part_of_a_map_behind_it():
    found = model(pooling="cat_avg_max")
    audio = sound(10 * FRAME)
    columns = found.extractor.slices
    frames = found.get_frames(audio)[0]
    with torch.inference_mode():
        log_mel = found.extractor.frontend(audio)
        b0 = found.extractor.backbone(log_mel, ("b0",))["b0"]
    torch.testing.assert_close(frames[3, columns["mel_avgs"]], log_mel[0, :, 12:16].mean(1))
    part = b0[0, :, :, 6:8]
    expected = torch.cat([part.mean((1, 2)), part.amax((1, 2))])
    torch.testing.assert_close(frames[3, columns["b0"]], expected)


def test_values_of_the_clip_are_repeated_in_every_frame():
    found = model("weak", "sequence")
    frames = found.get_frames(sound(10 * FRAME))
    assert (frames[:, :, :6] == frames[:, :1, :6]).all()


@settings(max_examples=15, deadline=None)
@given(window=st.integers(60, 200), hop=st.integers(10, 100), frames=st.integers(200, 600))
def test_chunks_do_not_change_what_lies_beyond_the_reach_of_their_borders(window, hop, frames):
    found = model()
    chunks = CrossfadedWindows(window, min(hop, window))
    audio = sound(frames * FRAME)
    one, many = whole(found, audio)[0], found.get_frames(audio, chunks)[0]
    inside = np.ones(frames, bool)
    for start in chunks.starts(frames):
        for border in {start, start + window} - {0, frames}:
            inside[max(0, border - SEEN) : border + SEEN] = False
    torch.testing.assert_close(many[inside], one[inside], atol=1e-5, rtol=1e-5)


def test_borders_are_faded_out():
    found = model()
    audio = sound(600 * FRAME)
    one = whole(found, audio)
    hard, faded = (found.get_frames(audio, CrossfadedWindows(200, hop)) for hop in (200, 100))
    assert (faded - one).abs().max() < 0.3 * (hard - one).abs().max()


def test_chunks_cover_everything_evenly():
    for frames in (1, 9, 10, 11, 25, 100):
        chunks = CrossfadedWindows(10, 4)
        starts = chunks.starts(frames)
        covered = {f for s in starts for f in range(s, s + min(10, frames))}
        assert covered == set(range(frames))
        assert all(0 < b - a <= 4 for a, b in pairwise(starts))


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_batch_gives_what_its_rows_give_alone(engine):
    found = model(engine=engine, megabytes=20.0)
    audio = sound(500 * FRAME + 7, clips=3)
    together = found.get_frames(audio)
    for row in range(3):
        alone = found.get_frames(audio[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-5)


def test_both_engines_give_the_same():
    pytest.importorskip("onnxruntime")
    audio = sound(300 * FRAME)
    ours, theirs = (model(engine=engine).get_frames(audio) for engine in ("torch", "onnx"))
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_can_be_exported(tmp_path):
    pytest.importorskip("onnxruntime")
    found = model()
    export(found, tmp_path / "out.onnx")
    results = list(compare(tmp_path / "out.onnx", found, list(sound(64000, 2).numpy()), "float32"))
    assert results
    assert all(result.passed for result in results)
    assert describe(found, "float32")["samples_per_frame"] == str(FRAME)


@pytest.mark.parametrize(("window", "hop"), [(1.0, 2.0), (0.01, 0.01)])
def test_chunks_with_gaps_are_refused(window, hop):
    with pytest.raises(ConfigError, match=f"windows of {window} s every {hop} s do not cover"):
        model(scene_window=window, scene_hop=hop)
