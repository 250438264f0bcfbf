"""Tagging of live audio, window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hear_core.audio.reading import as_chunk
from hear_core.events.timed_scores import TimedScores
from hear_core.plugins.timed_model import ScoreStream

if TYPE_CHECKING:
    from hear_mn.tagger import EATagger


class TagStream(ScoreStream):
    """A stream that tags windows as they become complete.

    The windows and their scores are those of `EATagger.windows` on all chunks joined. Less than a
    window and a chunk are kept in memory, however long the stream lasts.

    Args:
        tagger: Tagger that processes the stream.
        window_size: Length of a window in seconds.
        hop_length: Time from one window to the next in seconds.

    Raises:
        ConfigError: The window or the hop is shorter than a sample, or the window is longer than
            `hear_mn.tagger.MAX_WINDOW`.
    """

    def __init__(self, tagger: EATagger, window_size: float = 1.0, hop_length: float = 1.0) -> None:
        self._tagger = tagger
        self._windows = tagger.sliding_windows(window_size, hop_length)
        self._chunks: list[np.ndarray] = []
        self._begin = 0  # first sample that is kept
        self._end = 0
        self._done = 0  # windows

    def feed(self, chunk: np.ndarray) -> TimedScores:
        self._take(chunk)
        complete = (self._end - self._windows.length) // self._windows.hop + 1
        return self._tag(max(self._done, complete))

    def finish(self, chunk: np.ndarray | None = None) -> TimedScores:
        if chunk is not None:
            self._take(chunk)
        # Silence follows where the last windows reach beyond the end.
        return self._tag(self._windows.count(self._end))

    def _take(self, chunk: np.ndarray) -> None:
        self._chunks.append(as_chunk(chunk))
        self._end += len(chunk)

    def _tag(self, until: int) -> TimedScores:
        """Tag the windows up to an index, and drop the samples that no later one needs."""
        sliding, first = self._windows, self._done
        if until == first:
            windows = np.zeros((0, sliding.length), np.float32)
        else:
            kept = np.concatenate(self._chunks)
            windows = sliding.cut(kept[first * sliding.hop - self._begin :], first, until)
            self._done, self._begin = until, min(until * sliding.hop, self._end)
            self._chunks = [kept[len(kept) - (self._end - self._begin) :].copy()]
        scores, features = self._tagger.run(windows)
        return self._tagger.timed_scores(scores, features, sliding, first, self._end)
