import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hear_core.audio.framing import CentredWindows, CrossfadedWindows, reflect

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


def split(waveform, size):
    return (waveform[..., start : start + size] for start in range(0, waveform.shape[-1], size))


@given(
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(1, 25),
    st.integers(1, 9),
    st.integers(1, 70),
)
def test_windows_of_blocks_are_those_of_the_whole(samples, length, hop, most, block):
    x = np.arange(samples, dtype=np.float32)[None]
    windows = CentredWindows(length, hop)
    found = list(windows.stream(split(x, block), most))
    assert [i for place, _ in found for i in range(place.start, place.stop)] == list(
        range(windows.count(samples))
    )
    assert all(len(batch) == place.stop - place.start <= most for place, batch in found)
    starts = windows.centres(samples) - length // 2
    expected = [reflect(x, start, start + length)[0] for start in starts]
    np.testing.assert_array_equal(np.concatenate([batch for _, batch in found]), expected)


@given(
    st.integers(1, 90),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(1, 100),
)
def test_chunks_of_blocks_are_those_of_the_whole(samples, length, hop, step, least, block):
    windows = CrossfadedWindows(length, min(hop, length))
    x = np.arange(samples, dtype=np.float32)
    frames = max(least, -(-samples // step))
    padded, size = reflect(x, 0, frames * step), min(length, frames)
    found = list(windows.cut(split(x, block), step, least))
    assert [start for start, _ in found] == windows.starts(frames)
    for start, cut in found:
        np.testing.assert_array_equal(cut, padded[start * step : (start + size) * step])


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
def test_crossfaded_frames_are_weighted_means(frames, length, hop):
    windows = CrossfadedWindows(length, min(hop, length))
    size, rng = min(length, frames), np.random.default_rng(frames)
    chunks = [(s, rng.random((size, 2), np.float32)) for s in windows.starts(frames)]
    found = np.concatenate(list(windows.crossfade(chunks)))
    total, weights = np.zeros((frames, 2)), np.zeros((frames, 1))
    for start, values in chunks:
        total[start : start + size] += windows.fade(size) * values
        weights[start : start + size] += windows.fade(size)
    np.testing.assert_allclose(found, total / weights, rtol=1e-5)
