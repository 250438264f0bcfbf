"""Framing: division of waveforms into windows, and of frame sequences into overlapping chunks.

Waveforms are NumPy arrays or tensors here. On a CPU, NumPy is better: windows copied by the threads
of PyTorch would compete with the threads of the engine that runs the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Array: TypeAlias = Any
"""A NumPy array or a tensor; functions return the kind that they are given."""


def reflect(waveform: Array, start: int, stop: int) -> Array:
    """Return samples `start` to `stop` of a waveform that is reflected at both ends.

    The outermost sample is not repeated. Reflections are reflected again, as often as it takes, so
    that any stretch of any waveform is defined; a waveform of one sample is constant.

    Args:
        waveform: Waveform (..., samples) with at least one sample.
        start: First sample; may be negative.
        stop: One past the last sample; may be beyond the end.
    """
    samples = waveform.shape[-1]
    first, last = (min(max(0, edge), samples) for edge in (start, stop))
    inside = waveform[..., first:last]
    if first == start and last == stop:
        return inside
    period = max(1, 2 * (samples - 1))
    before = np.arange(start, min(0, stop)) % period
    after = np.arange(max(samples, start), stop) % period
    parts = [
        waveform[..., np.minimum(before, period - before)],
        inside,
        waveform[..., np.minimum(after, period - after)],
    ]
    return np.concatenate(parts, -1) if isinstance(waveform, np.ndarray) else torch.cat(parts, -1)


def zeros_like(like: Array, *shape: int) -> Array:
    """Return zeros (float32) of a shape, as the kind of array that `like` is, on its device."""
    if isinstance(like, np.ndarray):
        return np.zeros(shape, np.float32)
    return torch.zeros(shape, device=like.device)


@dataclass(frozen=True)
class CentredWindows:
    """Windows of equal length, each centred on a multiple of the hop, the first on sample 0.

    Args:
        length: Length of a window in samples.
        hop: Samples from one centre to the next.
    """

    length: int
    hop: int

    def count(self, samples: int) -> int:
        """Return the number of windows of a clip: one for every centre inside it."""
        return samples // self.hop + 1

    def centres(self, samples: int) -> np.ndarray:
        """Return the centre of every window in samples, int64."""
        return np.arange(self.count(samples)) * self.hop

    def batches(
        self, waveform: Array, max_windows: int
    ) -> Iterator[tuple[tuple[slice, slice], Array]]:
        """Divide a batch of clips into batches of windows.

        Only one batch of windows exists at a time, whatever the length of the clips.

        Args:
            waveform: Waveforms (clips, samples).
            max_windows: Largest number of windows in one batch.

        Yields:
            The range of clips and the range of windows that the batch holds, and the batch itself,
            (clips * windows, length), with the windows of one clip next to each other.
        """
        clips, count = len(waveform), self.count(waveform.shape[-1])
        for c in range(0, clips, max_windows):
            rows = slice(c, min(c + max_windows, clips))
            step = max(1, max_windows // (rows.stop - rows.start))
            for w in range(0, count, step):
                columns = slice(w, min(w + step, count))
                start = w * self.hop - self.length // 2
                stop = start + (columns.stop - 1 - w) * self.hop + self.length
                stretch = reflect(waveform[rows], start, stop)
                yield (rows, columns), self._unfold(stretch).reshape(-1, self.length)

    def _unfold(self, stretch: Array) -> Array:
        if isinstance(stretch, Tensor):
            return stretch.unfold(-1, self.length, self.hop)
        view = np.lib.stride_tricks.sliding_window_view
        return view(stretch, self.length, axis=-1, writeable=True)[:, :: self.hop]


@dataclass(frozen=True)
class SlidingWindows:
    """Windows of equal length, the first of which begins at sample 0.

    The last window reaches beyond the end of the clip, unless it just fits.

    Args:
        length: Length of a window in samples.
        hop: Samples from one window to the next.
    """

    length: int
    hop: int

    def count(self, samples: int) -> int:
        """Return the number of windows that cover a clip; each begins inside it."""
        to_the_end = -(-max(0, samples - self.length) // self.hop) + 1
        return min(to_the_end, -(-samples // self.hop))

    def cut(self, waveform: np.ndarray, first: int, last: int) -> np.ndarray:
        """Return consecutive windows.

        Args:
            waveform: Samples from ``first * hop`` on, (samples,); zeros are appended as needed.
            first: Index of the first window.
            last: One past the index of the last window.

        Returns:
            (last - first, length).
        """
        missing = (last - 1 - first) * self.hop + self.length - len(waveform)
        padded = np.pad(waveform, (0, missing)) if missing > 0 else waveform
        view = np.lib.stride_tricks.sliding_window_view(padded, self.length, writeable=True)
        return view[:: self.hop][: last - first]


@dataclass(frozen=True)
class CrossfadedWindows:
    """Overlapping chunks of a sequence of frames, cross-faded where they overlap.

    All chunks have the same length, so that the last one may overlap more. A sequence that is not
    longer than a chunk is one chunk.

    Args:
        length: Length of a chunk in frames.
        hop: Frames from one chunk to the next, at most `length`.
    """

    length: int
    hop: int

    def starts(self, frames: int) -> list[int]:
        """Return the first frame of every chunk of a sequence."""
        last = max(0, frames - self.length)
        return [*range(0, last, self.hop), last]

    def fade(self, frames: int) -> np.ndarray:
        """Return the weights of the frames of a chunk, (frames, 1); the middle weighs most."""
        ramp = np.arange(1, frames + 1, dtype=np.float32)[:, None]
        return np.minimum(ramp, ramp[::-1])
