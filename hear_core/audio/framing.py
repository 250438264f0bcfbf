"""Framing: division of waveforms into windows, and of frame sequences into overlapping chunks.

Waveforms are NumPy arrays or tensors here. On a CPU, NumPy is better: windows copied by the threads
of PyTorch would compete with the threads of the engine that runs the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


class SampleBuffer:
    """The part of a waveform that is still needed, of one that arrives in blocks.

    Args:
        blocks: Blocks (..., samples), one after another. A tensor must be the only block.

    Attributes:
        stop: Number of samples that have arrived.
    """

    def __init__(self, blocks: Iterable[Array]) -> None:
        self._blocks, self._parts = iter(blocks), list[Array]()
        self._start = self.stop = 0

    def fill(self, stop: int) -> bool:
        """Take blocks up to sample `stop`, and return whether the waveform is as long as that."""
        while self.stop < stop:
            block = next(self._blocks, None)
            if block is None:
                return False
            self._parts.append(block)
            self.stop += block.shape[-1]
        return True

    def forget(self, stop: int) -> None:
        """Let go of the samples before sample `stop`."""
        count = min(stop, self.stop) - self._start
        if count > 0:
            self._parts = [self._joined()[..., count:]]
            self._start += count

    def reflect(self, start: int, stop: int) -> Array:
        """Return samples of the waveform reflected at both ends, as `reflect` does.

        The end of the samples that have arrived is taken for that of the waveform.
        """
        return reflect(self._joined(), start - self._start, stop - self._start)

    def _joined(self) -> Array:
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts, -1)]
        return self._parts[0]


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
        clips = len(waveform)
        for c in range(0, clips, max_windows):
            rows = slice(c, min(c + max_windows, clips))
            step = max(1, max_windows // (rows.stop - rows.start))
            for columns, windows in self.stream([waveform[rows]], step):
                yield (rows, columns), windows

    def stream(self, blocks: Iterable[Array], max_windows: int) -> Iterator[tuple[slice, Array]]:
        """Divide clips that arrive in blocks into batches of windows.

        Only the samples of one batch of windows and one block are in memory.

        Args:
            blocks: Blocks (clips, samples), see `SampleBuffer`; together at least one sample.
            max_windows: Largest number of windows of one clip in a batch.

        Yields:
            The range of windows that a batch holds, and the batch, as `batches` yields it.
        """
        buffer, first = SampleBuffer(blocks), 0
        while True:
            start = first * self.hop - self.length // 2
            # A window that is centred on the end reflects samples from two before its own start.
            buffer.forget(start - 2)
            last = first + max_windows
            # One sample beyond the batch, so that it does not touch the end of the waveform.
            if not buffer.fill(start + (max_windows - 1) * self.hop + self.length + 1):
                last = min(last, self.count(buffer.stop))
            if last <= first:
                return
            stretch = buffer.reflect(start, start + (last - 1 - first) * self.hop + self.length)
            yield slice(first, last), self._unfold(stretch).reshape(-1, self.length)
            first = last

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


def cover(blocks: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Yield windows that cover a waveform without gaps; the last one ends where it does.

    A waveform that is shorter than a window is one window of its own length.

    Args:
        blocks: Blocks (samples,) of the waveform, one after another.
        length: Length of a window in samples.

    Yields:
        Consecutive windows (windows, length).
    """
    held, covered = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        if count := (len(held) - covered) // length:
            stop = covered + count * length
            yield held[covered:stop].reshape(count, length)
            held, covered = held[stop - length :], length
    if len(held) > covered:
        yield held[None, -length:]


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

    def cut(
        self, blocks: Iterable[Array], samples_per_frame: int, min_frames: int
    ) -> Iterator[tuple[int, Array]]:
        """Cut a waveform that arrives in blocks into the waveforms of chunks.

        Only the samples of a chunk and a hop and one block are in memory.

        Args:
            blocks: Blocks (samples,), see `SampleBuffer`; together at least one sample.
            samples_per_frame: Samples from one frame to the next.
            min_frames: Number of frames to which a shorter waveform is reflected.

        Yields:
            The first frame of a chunk, and its waveform; the last is reflected at the end.
        """
        buffer, start, step = SampleBuffer(blocks), 0, samples_per_frame
        while buffer.fill((start + self.length) * step + 1):
            yield start, buffer.reflect(start * step, (start + self.length) * step)
            # The last chunk begins after this one, but perhaps before the next.
            buffer.forget(start * step)
            start += self.hop
        frames = max(min_frames, -(-buffer.stop // step))
        last, length = max(0, frames - self.length), min(self.length, frames)
        for first in (*range(start, last, self.hop), last):
            yield first, buffer.reflect(first * step, (first + length) * step)

    def crossfade(self, chunks: Iterable[tuple[int, Array]]) -> Iterator[Array]:
        """Join the values of overlapping chunks.

        Args:
            chunks: The first frame of each chunk, as `starts` returns them, and its values
                (frames, size).

        Yields:
            Consecutive frames (frames, size), as soon as no later chunk overlaps them.
        """
        pending: list[tuple[int, Array]] = []
        done = 0
        for start, values in chunks:
            if start > done:
                yield self._crossfaded(pending, done, start)
            done = start
            pending = [(s, v) for s, v in pending if s + len(v) > start] + [(start, values)]
        yield self._crossfaded(pending, done, done + len(pending[-1][1]))

    def _crossfaded(self, chunks: list[tuple[int, Array]], start: int, stop: int) -> Array:
        """Return frames `start` to `stop` of overlapping chunks."""
        total, parts = np.zeros((stop - start, 1), np.float32), []
        for first, values in chunks:
            frames = slice(max(first, start), min(first + len(values), stop))
            here = slice(frames.start - start, frames.stop - start)
            there = slice(frames.start - first, frames.stop - first)
            weights = self.fade(len(values))[there]
            total[here] += weights
            parts.append((here, weights, values[there]))
        found = zeros_like(parts[0][2], stop - start, parts[0][2].shape[1])
        for here, weights, values in parts:
            share: Array = weights / total[here]
            if isinstance(values, Tensor):
                share = torch.as_tensor(share, device=values.device)
            found[here] += share * values
        return found
