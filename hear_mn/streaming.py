"""Tagging of a live source: the windows of a clip that is still going on."""

from __future__ import annotations

import numpy as np

from hear_core.audio.reading import as_chunk
from hear_mn.tagger import EATagger, WindowTags


class TagStream:
    """Tags a source that comes in chunks of any size, window by window as they become complete.

    The windows, and what is heard in them, are those of `EATagger.tag_audio_window` on all chunks
    in a row. What is kept is less than a window and a chunk, however long the source goes on.

    Args:
        tagger: Of the windows.
        window_size: In seconds.
        hop_length: From one window to the next, in seconds.

    Raises:
        ConfigError: The window or the hop is not above zero.
    """

    def __init__(self, tagger: EATagger, window_size: float = 1.0, hop_length: float = 1.0) -> None:
        self._tagger = tagger
        self._steps = tagger.steps(window_size, hop_length)
        self._chunks: list[np.ndarray] = []
        self._begin = 0  # of the chunks that are kept, in samples
        self._end = 0
        self._done = 0  # windows

    def feed(self, chunk: np.ndarray) -> WindowTags:
        """Take what comes next, and return the windows that it completes; often none.

        Args:
            chunk: (samples,), floating-point, in [-1, 1], at the rate of the tagger; may be empty.

        Raises:
            AudioError: It has another shape or type, or holds NaN. The stream is as it was before.
        """
        self._chunks.append(as_chunk(chunk))
        self._end += len(chunk)
        complete = (self._end - self._steps.length) // self._steps.hop + 1
        return self._tag(max(self._done, complete))

    def finish(self) -> WindowTags:
        """Return the windows that reach beyond the end of the source; it takes no more chunks."""
        return self._tag(self._steps.count(self._end))

    def _tag(self, until: int) -> WindowTags:
        """Tag the windows up to an index, and forget the samples that no other one holds."""
        steps, first = self._steps, self._done
        if until == first:
            windows = np.zeros((0, steps.length), np.float32)
        else:
            kept = np.concatenate(self._chunks)
            windows = steps.cut(kept[first * steps.hop - self._begin :], first, until)
            self._done, self._begin = until, min(until * steps.hop, self._end)
            self._chunks = [kept[len(kept) - (self._end - self._begin) :].copy()]
        return self._tagger.label_times(*self._tagger.run(windows), steps, first, self._end)
