"""Detection in a live source: the frames of a recording that is still going on."""

from __future__ import annotations

import numpy as np
import torch

from hear_core.audio.framing import CrossfadedWindows
from hear_core.audio.reading import as_chunk
from hear_core.errors import ConfigError
from hear_sed.detector import Detector, FrameScores


class DetectionStream:
    """Hears a source that comes in chunks of any size, frame by frame as they become certain.

    What is heard is what `Detector.frames` hears in all chunks in a row. A frame is certain a
    window later, as windows fade into each other: for shorter waits, make a detector of a shorter
    window. What is kept is less than two windows and a chunk, however long the source goes on.

    Args:
        detector: Of the events.

    Raises:
        ConfigError: The detector hears pieces, as the last of a live source is not known.
    """

    def __init__(self, detector: Detector) -> None:
        if detector.pieces:
            msg = "a live source cannot be heard in pieces; make a Detector without them"
            raise ConfigError(msg)
        self._detector, self._chunks = detector, detector.chunks
        self._per_frame = round(detector.frame_hop * detector.sample_rate)
        self._kept: list[np.ndarray] = []
        self._begin = 0  # of what is kept, in frames
        self._end = 0  # of the source, in samples
        self._next = 0  # first frame of the next window
        self._done = 0  # frames
        classes = len(detector.labels)
        # For the frames after those that are done: faded logits, and how much they weigh.
        self._sum = np.zeros((0, classes), np.float32)
        self._weight = np.zeros((0, 1), np.float32)

    def feed(self, chunk: np.ndarray) -> FrameScores:
        """Take what comes next, and return the frames that have become certain; often none.

        Args:
            chunk: (samples,), floating-point, in [-1, 1], at the rate of the detector; may be
                empty.

        Raises:
            AudioError: It has another shape or type, or holds NaN. The stream is as it was before.
        """
        self._kept.append(as_chunk(chunk))
        self._end += len(chunk)
        whole = self._end // self._per_frame
        while self._next + self._chunks.length <= whole:
            self._hear(self._next, self._chunks.length)
            self._next += self._chunks.hop
        # The last window ends where the source does, which may be now.
        return self._release(max(self._done, whole - self._chunks.length))

    def finish(self) -> FrameScores:
        """Return the frames up to the end of the source; it takes no more chunks."""
        frames = self._detector.model.frame_count(self._end)
        last = max(0, frames - self._chunks.length)
        if frames and self._next - self._chunks.hop < last:
            self._hear(last, frames - last)
        return self._release(frames)

    def _hear(self, first: int, length: int) -> None:
        """Hear the window that begins at a frame."""
        start = (first - self._begin) * self._per_frame
        window = self._waveform()[start : start + length * self._per_frame]
        chunks = CrossfadedWindows(length, length)
        heard = self._detector.model.get_frames(torch.from_numpy(window.copy())[None], chunks)
        place = slice(first - self._done, first - self._done + length)
        grow = max(0, place.stop - len(self._sum))
        self._sum = np.pad(self._sum, ((0, grow), (0, 0)))
        self._weight = np.pad(self._weight, ((0, grow), (0, 0)))
        fade = chunks.fade(length)
        self._sum[place] += fade * heard[0].numpy()
        self._weight[place] += fade

    def _waveform(self) -> np.ndarray:
        self._kept = [np.concatenate(self._kept)]
        return self._kept[0]

    def _release(self, until: int) -> FrameScores:
        """Return the frames up to one, and forget what no other window needs."""
        first, count = self._done, until - self._done
        logits = self._sum[:count] / self._weight[:count]
        self._sum, self._weight, self._done = self._sum[count:], self._weight[count:], until
        if begin := min(self._next, until) - self._begin:
            self._kept = [self._waveform()[begin * self._per_frame :].copy()]
            self._begin += begin
        return self._detector.label_times(logits, first, self._end)
