"""The median filter against numpy, row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import ConfigError
from hear_core.events.smoothing import MedianFilter


@given(
    chunks=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    half=st.integers(0, 5),
    seed=st.integers(0, 100),
)
def test_every_row_is_the_median_of_those_around_it(chunks, half, seed):
    rows = np.random.default_rng(seed).integers(0, 9, (sum(chunks), 3)).astype(np.float32)
    median, size = MedianFilter(2 * half + 1, 3), 2 * half + 1
    found = [median.feed(part) for part in np.split(rows, np.cumsum(chunks)[:-1])]
    known = sum(map(len, found))
    assert known == max(0, len(rows) - half)
    found = np.concatenate([*found, median.finish()])
    assert found.shape == rows.shape
    if len(rows):
        padded = np.pad(rows, ((half, half), (0, 0)), mode="symmetric")
        expected = [np.median(padded[i : i + size], axis=0) for i in range(len(rows))]
        np.testing.assert_array_equal(found, expected)


def test_memory_does_not_grow():
    median = MedianFilter(9, 2)
    for _ in range(50):
        median.feed(np.ones((10, 2), np.float32))
        assert len(median._kept) <= 8


@pytest.mark.parametrize("size", [0, 4, -3])
def test_an_even_window_is_refused(size):
    with pytest.raises(ConfigError, match=f"odd number of rows, but is {size}"):
        MedianFilter(size, 1)
