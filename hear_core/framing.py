"""Framing: which stretch of a clip each embedding looks at, and at what time it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


def mirrored(waveform: Tensor, start: int, stop: int) -> Tensor:
    """Return samples `start` to `stop` of a waveform that goes on mirrored beyond both its ends.

    The mirror does not repeat the outermost sample. It is itself mirrored at its end, and so on,
    so that any stretch of any clip exists; a clip of one sample is constant.

    Args:
        waveform: (..., samples), at least one sample.
        start: First sample, may be negative.
        stop: One past the last sample, may be beyond the end.
    """
    samples = waveform.shape[-1]
    if start >= 0 and stop <= samples:
        return waveform[..., start:stop]
    period = max(1, 2 * (samples - 1))
    index = torch.arange(start, stop, device=waveform.device).remainder_(period)
    return waveform[..., torch.minimum(index, period - index)]


@dataclass(frozen=True)
class Windows:
    """Windows of one length, each centred on a multiple of the hop, the first on sample 0.

    Args:
        length: In samples.
        hop: In samples.
    """

    length: int
    hop: int

    def count(self, samples: int) -> int:
        """Return how many windows a clip has: one for every centre inside it."""
        return samples // self.hop + 1

    def centres(self, samples: int) -> Tensor:
        """Return the centre of every window in samples, int64."""
        return torch.arange(self.count(samples)) * self.hop

    def batches(self, waveform: Tensor, most: int) -> Iterator[tuple[slice, slice, Tensor]]:
        """Cut a batch of clips into batches of windows.

        Only one batch of windows exists at a time, whatever the length of the clips.

        Args:
            waveform: (clips, samples).
            most: Most windows in one batch.

        Yields:
            The clips and the windows that the batch holds, and the batch itself,
            (len(clips) * len(windows), length), the windows of one clip in a row.
        """
        clips, count = len(waveform), self.count(waveform.shape[-1])
        for c in range(0, clips, most):
            rows = slice(c, min(c + most, clips))
            step = max(1, most // (rows.stop - rows.start))
            for w in range(0, count, step):
                columns = slice(w, min(w + step, count))
                start = w * self.hop - self.length // 2
                stop = start + (columns.stop - 1 - w) * self.hop + self.length
                stretch = mirrored(waveform[rows], start, stop)
                yield rows, columns, stretch.unfold(-1, self.length, self.hop).flatten(0, 1)
