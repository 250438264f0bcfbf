"""Detection in live audio, frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from hear_core.audio.framing import CrossfadedWindows, reflect
from hear_core.audio.reading import as_chunk
from hear_core.events.timed_scores import TimedScores
from hear_core.plugins.timed_model import ScoreStream

if TYPE_CHECKING:
    from hear_sed.detector import Detector

_BATCH = 64  # windows that are processed at a time


class DetectionStream(ScoreStream):
    """A stream that gives the scores of frames as they become final.

    The scores are those of `Detector.frames` on all chunks joined. Windows are crossfaded, so
    that a frame becomes final one window later; a detector with a shorter window has a shorter
    delay. Less than two windows and a chunk are kept in memory, however long the stream is.

    Args:
        detector: Detector that processes the stream.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector, self._windows = detector, detector.windows
        self._per_frame = round(detector.frame_hop * detector.sample_rate)
        self._kept: list[np.ndarray] = []
        self._begin = 0  # first frame of the audio that is kept
        self._end = 0  # number of samples received
        self._next = 0  # first frame of the next window
        self._done = 0  # number of frames released
        classes = len(detector.labels)
        # Sums of weighted logits, and of the weights, of the frames that are not released yet.
        self._sum = np.zeros((0, classes), np.float32)
        self._weight = np.zeros((0, 1), np.float32)

    def feed(self, chunk: np.ndarray) -> TimedScores:
        self._take(chunk)
        complete = self._end // self._per_frame
        self._process(self._complete_windows(complete))
        if not self._detector.pieces:
            # The last window ends where the audio does, which may be now.
            return self._release(max(self._done, complete - self._windows.length))
        return self._release(self._next)

    def finish(self, chunk: np.ndarray | None = None) -> TimedScores:
        if chunk is not None:
            self._take(chunk)
        frames = self._detector.model.frame_count(self._end)
        starts = self._complete_windows(self._end // self._per_frame)
        last = self._next if self._detector.pieces else max(0, frames - self._windows.length)
        if last < frames and self._next - self._windows.hop < last:
            starts.append(last)
        self._process(starts)
        return self._release(frames)

    def _take(self, chunk: np.ndarray) -> None:
        self._kept.append(as_chunk(chunk))
        self._end += len(chunk)

    def _complete_windows(self, frames: int) -> list[int]:
        """Return the first frames of the windows that have become complete."""
        hop = self._windows.hop
        starts = [*range(self._next, frames - self._windows.length + 1, hop)]
        self._next += hop * len(starts)
        return starts

    def _process(self, starts: list[int]) -> None:
        """Run windows, and add their weighted logits to the sums.

        Args:
            starts: First frames of the windows.
        """
        if not starts:
            return
        length = self._windows.length
        if not self._detector.pieces:  # the audio may be shorter than a window
            length = min(length, self._detector.model.frame_count(self._end))
        reach = max(0, starts[-1] + length - self._done - len(self._sum))
        self._sum = np.pad(self._sum, ((0, reach), (0, 0)))
        self._weight = np.pad(self._weight, ((0, reach), (0, 0)))
        crossfade = CrossfadedWindows(length, length)
        fade = crossfade.fade(length)
        for first in range(0, len(starts), _BATCH):
            batch = starts[first : first + _BATCH]
            audio = torch.from_numpy(self._cut(batch, length))
            found = self._detector.model.get_frames(audio, crossfade).numpy()
            for start, logits in zip(batch, found, strict=True):
                place = slice(start - self._done, start - self._done + length)
                self._sum[place] += fade * logits
                self._weight[place] += fade

    def _cut(self, starts: list[int], length: int) -> np.ndarray:
        """Return the windows that begin at the frames `starts`, (windows, samples)."""
        waveform, samples = self._waveform(), length * self._per_frame
        begins = ((start - self._begin) * self._per_frame for start in starts)
        windows = [waveform[begin : begin + samples] for begin in begins]
        # Only the last window may be incomplete.
        if self._detector.pieces:
            windows[-1] = np.pad(windows[-1], (0, samples - len(windows[-1])))
        elif len(windows) > 1:
            windows[-1] = reflect(windows[-1], 0, samples)
        return np.stack(windows)

    def _waveform(self) -> np.ndarray:
        self._kept = [np.concatenate(self._kept)]
        return self._kept[0]

    def _release(self, until: int) -> TimedScores:
        """Return the frames before `until`, and drop the audio that no later window needs."""
        first, count = self._done, until - self._done
        logits = self._sum[:count] / self._weight[:count]
        self._sum, self._weight, self._done = self._sum[count:], self._weight[count:], until
        if begin := min(self._next, until) - self._begin:
            self._kept = [self._waveform()[begin * self._per_frame :].copy()]
            self._begin += begin
        return self._detector.timed_scores(logits, first, self._end)
