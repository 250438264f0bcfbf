"""Mixtures selected by a teacher."""

import numpy as np
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from hear_core.audio.reading import read_audio
from hear_mn import ZOO
from hear_train.data.mixtures import MixtureConfig
from hear_train.selection import best_of_classes, select_mixtures
from tests.hear_train.conftest import RATE


@given(seed=st.integers(0, 99), per_class=st.integers(1, 4), least=st.floats(0, 1))
def test_the_best_of_classes_equal_a_loop(seed, per_class, least):
    scores = np.random.default_rng(seed).random((9, 5))
    expected = set()
    for column in scores.T:
        ranked = sorted(range(9), key=lambda row: -column[row])
        expected |= {row for row in ranked[:per_class] if column[row] >= least}
    assert best_of_classes(scores, per_class, least) == sorted(expected)


def test_selected_mixtures_have_a_probable_class(sounds, tmp_path):
    config = MixtureConfig(seconds=0.5, synthetic=0.5)
    options = {"candidates": 60, "per_class": 1, "least": 0.2, "config": config}
    paths = select_mixtures(tmp_path, (sounds,), "mn01_starter", **options)
    assert 0 < len(paths) < 60
    some = select_mixtures(tmp_path / "some", (sounds,), "mn01_starter", only=("Music",), **options)
    assert len(some) == 1
    assert some[0].name in [path.name for path in paths]
    assert sorted(tmp_path.glob("*.flac")) == paths
    network, frontend = ZOO.load("mn01_starter").eval(), ZOO["mn01_starter"].frontend()
    for path in paths:
        assert soundfile.info(path).frames == RATE // 2
        with torch.no_grad():
            logits = network(frontend(read_audio(path, RATE)[None]))["logits"]
        assert logits.sigmoid().max() >= 0.19  # 16 bits take a little off
