import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hear_core.audio.framing import CentredWindows, reflect

LIBRARIES = pytest.mark.parametrize("library", [np.asarray, torch.from_numpy])


@LIBRARIES
@given(samples=st.integers(1, 40), start=st.integers(-100, 130), length=st.integers(1, 60))
def test_reflect_equals_numpy(library, samples, start, length):
    x = np.arange(2 * samples, dtype=np.float32).reshape(2, samples)
    expected = np.pad(x, ((0, 0), (100, 200)), mode="reflect")[
        :, 100 + start : 100 + start + length
    ]
    ours = reflect(library(x), start, start + length)
    assert type(ours) is type(library(x))
    np.testing.assert_array_equal(ours, expected)


def test_reflect_inside_a_clip_does_not_copy():
    x = torch.rand(1, 100)
    assert reflect(x, 10, 20).data_ptr() == x[:, 10:].data_ptr()
    assert np.shares_memory(reflect(x.numpy(), 10, 20), x.numpy())


@LIBRARIES
@given(
    clips=st.integers(1, 5),
    samples=st.integers(1, 200),
    length=st.integers(1, 60),
    hop=st.integers(1, 40),
    most=st.integers(1, 30),
)
def test_batches_are_the_windows_one_by_one(library, clips, samples, length, hop, most):
    x = np.random.default_rng(0).standard_normal((clips, samples), dtype=np.float32)
    padded = np.pad(x, ((0, 0), (length // 2, length)), mode="reflect")
    count = samples // hop + 1
    expected = np.stack([padded[:, i * hop : i * hop + length] for i in range(count)], axis=1)

    windows = CentredWindows(length, hop)
    found = np.full((clips, windows.count(samples), length), np.nan, dtype=np.float32)
    for place, batch in windows.batches(library(x), most):
        assert len(batch) <= most
        found[place] = np.asarray(batch).reshape(found[place].shape)
    np.testing.assert_array_equal(found, expected)


def test_batches_are_filled():
    batches = list(CentredWindows(100, 50).batches(torch.zeros(3, 1000), max_windows=30))
    assert [len(batch) for _, batch in batches] == [30, 30, 3]


def test_centres_are_exact_after_days():
    windows = CentredWindows(5120, 1600)
    samples = 32000 * 3600 * 72
    centres = windows.centres(samples)
    assert centres[-1] == samples
    assert set(np.diff(centres)) == {1600}
