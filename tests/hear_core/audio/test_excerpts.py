from __future__ import annotations

import numpy as np
import pytest
import soundfile

from hear_core.audio import excerpts
from hear_core.audio.excerpts import faded, read_excerpt
from hear_core.errors import AudioError


@pytest.fixture
def recording(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (44100 * 3, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 44100, "FLOAT")
    return tmp_path / "a.wav", samples


@pytest.mark.parametrize("times", [(0.5, 1.25), (-1, 0.5), (2.5, 9), (0, 3)])
@pytest.mark.parametrize("seeks", [True, False])
def test_an_excerpt_is_part_of_the_recording(recording, times, seeks):
    path, samples = recording
    wanted = samples[max(0, round(times[0] * 44100)) : round(times[1] * 44100)]
    if seeks:
        found, sample_rate = read_excerpt(path, *times)
    else:
        found, sample_rate = excerpts._decoded(path, max(0, times[0]), times[1])
    assert sample_rate == 44100
    np.testing.assert_array_equal(found, wanted)


def test_what_is_not_there_is_refused(recording, tmp_path):
    with pytest.raises(AudioError, match="ends before the excerpt from 4 to 5 s begins"):
        read_excerpt(recording[0], 4, 5)
    with pytest.raises(AudioError, match="does not exist"):
        read_excerpt(tmp_path / "b.wav", 0, 1)


def test_fades_are_smooth_and_leave_the_middle():
    samples = np.ones((1000, 2), np.float32)
    found = faded(samples, 10_000, 0.01)
    np.testing.assert_array_equal(found[100:900], 1)
    assert found[0].max() < 0.001
    assert (np.diff(found[:100, 0]) > 0).all()
    np.testing.assert_allclose(found, found[::-1])
    assert len(faded(samples[:1], 10_000)) == 1
