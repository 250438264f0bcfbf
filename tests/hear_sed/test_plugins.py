"""Every published embedding of a detector: its size, its frames, its name."""

from __future__ import annotations

import importlib

import pytest
import torch

from hear_core.plugins.configs import embedding_configs
from hear_core.plugins.loading import extractor_skeleton
from hear_sed import ZOO

CONFIGS = embedding_configs("hear_sed")
FAST = (*(n for n in CONFIGS if n.startswith(("fmn04", "fmn06"))), "m2d", "beats_all_b_mel_avgs")


def test_every_detector_is_published():
    assert {config.backbone for config in CONFIGS.values()} == set(ZOO)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in FAST else pytest.mark.slow) for n in CONFIGS],
)
def test_declared_size_is_observed_size(name):
    module = importlib.import_module(f"hear_sed.{name}")
    model = module.load_model(pretrained=False, engine="torch")
    audio = torch.rand(2, 10000) - 0.5
    embeddings, timestamps = module.get_timestamp_embeddings(audio, model)
    hop = 320.0 if "cnn14" in name else 40.0
    frames = -(-10000 // round(hop / 1000 * model.sample_rate))
    assert embeddings.shape == (2, frames, model.timestamp_embedding_size)
    first = 155.0 if "cnn14" in name else 0.0  # the centre of 32 frames of 10 ms
    assert timestamps[1].tolist() == [first + hop * i for i in range(frames)]
    scenes = module.get_scene_embeddings(audio, model)
    assert scenes.shape == (2, model.scene_embedding_size)
    assert f"an embedding of {model.scene_embedding_size} numbers" in module.__doc__
    assert f"a timestamp embedding\nfor every frame of {hop / 1000} s" in module.__doc__


@pytest.mark.parametrize("name", CONFIGS)
def test_every_module_declares_its_size(name):
    """Without weights; a transformer has four of its blocks before the sequence."""
    config = CONFIGS[name]
    extractor = extractor_skeleton(ZOO, config)
    channels = ZOO[config.backbone].skeleton().tap_shapes["sequence"].channels
    assert extractor.slices["sequence"] == slice(extractor.size - channels, extractor.size)
    assert extractor.samples_per_frame == (10240 if "cnn14" in name else 640)
    if "fmn" not in config.backbone and "all_b" in config.taps:
        assert extractor.taps == ("mel_avgs", "b2", "b5", "b8", "b11", "sequence")
        assert extractor.size == extractor.frontend.n_mels + 4 * 768 + channels
