"""Every published embedding of a detector: its size, its frames, its name."""

from __future__ import annotations

import importlib

import pytest
import torch

from hear_core.plugins.configs import embedding_configs
from hear_sed import ZOO

CONFIGS = embedding_configs("hear_sed")
SMALL = ("fmn04", "fmn06")


def test_every_detector_is_published():
    assert {config.backbone for config in CONFIGS.values()} == set(ZOO)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n.startswith(SMALL) else pytest.mark.slow) for n in CONFIGS],
)
def test_declared_size_is_observed_size(name):
    module = importlib.import_module(f"hear_sed.{name}")
    model = module.load_model(pretrained=False, engine="torch")
    audio = torch.rand(2, 10000) - 0.5
    embedding_configs, timestamps = module.get_timestamp_embeddings(audio, model)
    assert embedding_configs.shape == (2, 16, model.timestamp_embedding_size)
    assert timestamps[1].tolist() == [40.0 * i for i in range(16)]
    scenes = module.get_scene_embeddings(audio, model)
    assert scenes.shape == (2, model.scene_embedding_size)
    assert f"an embedding of {model.scene_embedding_size} numbers" in module.__doc__
    assert "that of a frame,\nevery 0.04 s" in module.__doc__
