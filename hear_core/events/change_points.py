"""Change-point detection: sound event bounding boxes.

From Ebbers, Germain, Wichern and Le Roux, "Sound Event Bounding Boxes" (Interspeech 2024), where
they are called cSEBBs. An event extends from where its score rises most to where it falls most,
whatever its height, and has one score, the mean. A threshold then chooses among events, and does
not change their times.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from hear_core.events.spans import NO_SPANS, Spans, reduced

_DECIMALS = 9  # of changes and means of scores, beyond which sums of floats are noise
_FLOOR = 1e-3  # added to the scores of a ratio


class ChangePoints(NamedTuple):
    """Parameters of change-point detection.

    Args:
        step: Length of the step filter in seconds: the change at a time is the mean score in the
            half of this length after it, minus that in the half before it.
        merge_difference: Two events are merged if the highest score of either exceeds the lowest
            score between them by less than this.
        merge_ratio: They are merged only if that score is also less than this many times the
            lowest score between them.
    """

    step: float = 0.48
    merge_difference: float = math.inf
    merge_ratio: float = 2.0


class _Segments(NamedTuple):
    """Consecutive stretches of columns, alternately with and without an event, (segments,).

    Attributes:
        column: Index of the column.
        event: Whether it may be an event.
        onset: Onset in seconds.
        offset: Offset in seconds.
        area: Integral of the score over time, in seconds.
        low: Lowest score.
        high: Highest score; of merged events, that of the last.
    """

    column: np.ndarray
    event: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    area: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def where(self, chosen: np.ndarray) -> _Segments:
        return _Segments(*(field[chosen] for field in self))


class ChangePointSpans:
    """Spans between change points, for scores that arrive in parts.

    The spans do not depend on how the rows are divided into calls.

    Args:
        points: Parameters.
        columns: Number of columns.
    """

    def __init__(self, points: ChangePoints, columns: int) -> None:
        self._points = points
        self._rows = np.zeros((0, columns))  # from `_half` rows before the first undecided one
        self._times = np.zeros((0, 2))  # of the undecided rows
        self._half = 0  # rows of half a filter; unknown before the third row
        self._tail: _Segments | None = None  # segments that may still change

    def feed(self, scores: np.ndarray, onset: np.ndarray, offset: np.ndarray) -> Spans:
        """Take the next rows, and return the spans that have become final.

        Args:
            scores: Scores in [0, 1], (rows, columns).
            onset: Start of each row in seconds, (rows,).
            offset: End of each row in seconds, (rows,).

        Returns:
            Spans, whose score is the mean.
        """
        self._rows = np.concatenate([self._rows, scores])
        self._times = np.concatenate([self._times, np.stack([onset, offset], axis=1)])
        if not self._half:
            if len(self._times) < 3:
                return NO_SPANS
            self._start(self._times[2, 0] - self._times[1, 0])
        return self._decide(last=False)

    def finish(self) -> Spans:
        """Return the remaining spans; no more rows can be taken."""
        if not len(self._times) and self._tail is None:
            return NO_SPANS
        if not self._half:
            self._start(self._times[0, 1] - self._times[0, 0])
        self._rows = np.concatenate([self._rows, np.zeros((self._half, self._rows.shape[1]))])
        return self._decide(last=True)

    def _start(self, hop: float) -> None:
        self._half = max(1, round(self._points.step / 2 / hop))
        self._rows = np.concatenate([np.zeros((self._half, self._rows.shape[1])), self._rows])

    def _decide(self, *, last: bool) -> Spans:
        """Divide the rows with known changes into segments, and return the final spans."""
        half = self._half
        # Changes at the start of the first undecided row, and after every row that is decided.
        ready = len(self._rows) - 2 * half
        pieces = None
        if ready > 0:
            shifted = (self._rows[shift : shift + ready + 1 + half] for shift in range(half))
            sums = functools.reduce(np.add, shifted)  # in an order that no division changes
            change = np.round((sums[half:] - sums[: ready + 1]) / half, _DECIMALS)
            event = change[1:] <= change[:-1]
            pieces = self._segments(self._rows[half : half + ready], self._times[:ready], event)
            self._rows, self._times = self._rows[ready:], self._times[ready:]
        segments = self._joined(pieces)
        return NO_SPANS if segments is None else self._spans(segments, last=last)

    def _segments(self, rows: np.ndarray, times: np.ndarray, event: np.ndarray) -> _Segments:
        """Return the runs of rows with or without an event."""
        size = len(rows)
        new = np.ones(event.shape, bool)
        new[1:] = event[1:] != event[:-1]
        column, first = np.nonzero(new.T)
        begin = column * size + first
        end = np.append(begin[1:], rows.size).astype(int)[: len(begin)]
        length = (times[:, 1] - times[:, 0])[:, None]
        flat = rows.T.reshape(-1)
        return _Segments(
            column,
            event.T.reshape(-1)[begin],
            times[first, 0],
            times[end - 1 - column * size, 1],
            reduced(np.add, (rows * length).T.reshape(-1), begin, end),
            reduced(np.minimum, flat, begin, end),
            reduced(np.maximum, flat, begin, end),
        )

    def _joined(self, pieces: _Segments | None) -> _Segments | None:
        """Return the segments that may still change and new ones, joined where they continue."""
        if self._tail is None or pieces is None:
            return pieces if self._tail is None else self._tail
        fields = [np.concatenate(pair) for pair in zip(self._tail, pieces, strict=True)]
        both = _Segments(*fields).where(np.argsort(fields[0], kind="stable"))
        differs = both.column[1:] != both.column[:-1]
        begin = np.flatnonzero(np.append(True, differs | (both.event[1:] != both.event[:-1])))
        end = np.append(begin[1:], len(both.column))
        return _Segments(
            both.column[begin],
            both.event[begin],
            both.onset[begin],
            both.offset[end - 1],
            reduced(np.add, both.area, begin, end),
            reduced(np.minimum, both.low, begin, end),
            reduced(np.maximum, both.high, begin, end),
        )

    def _spans(self, segments: _Segments, *, last: bool) -> Spans:
        """Return the spans that are final, and keep the segments that are not."""
        column, high = segments.column, segments.high
        final = np.append(column[1:] != column[:-1], True)  # the last segment of each column
        closed = ~final | last
        index = np.flatnonzero(segments.event & closed)
        # An event continues that before it if the gap between them is hardly lower than both.
        before = np.maximum(index - 2, 0)
        follows = (index >= 2) & (column[before] == column[index])
        continues = follows & self._merges(high[before], segments.low[index - 1])
        continues &= self._merges(high[index], segments.low[index - 1])
        start = np.flatnonzero(~continues)
        stop = np.append(start[1:], len(index)).astype(int)[: len(start)] - 1
        first, until = index[start], index[stop]
        area = reduced(np.add, segments.area, first, until + 1)
        merged = segments.where(first)._replace(
            offset=segments.offset[until], area=area, high=high[until], low=segments.low[until]
        )
        # The last event of a column waits as long as a later one may continue it.
        waits = np.append(column[first][1:] != column[first][:-1], True)[: len(first)]
        after = np.minimum(until + 1, len(column) - 1)
        gap = np.where(column[after] == column[until], segments.low[after], np.inf)
        waits &= self._merges(merged.high, gap) & (not last)
        done = merged.where(~waits)
        self._tail = (
            None if last else self._kept(segments, merged.where(waits), until[waits], final)
        )
        mean = np.round(done.area / np.maximum(done.offset - done.onset, 1e-12), _DECIMALS)
        return Spans(done.column, done.onset, done.offset, mean)

    def _merges(self, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        close: np.ndarray = (high - low < self._points.merge_difference) & (
            high + _FLOOR < self._points.merge_ratio * (low + _FLOOR)
        )
        return close

    @staticmethod
    def _kept(
        segments: _Segments, waiting: _Segments, index: np.ndarray, final: np.ndarray
    ) -> _Segments:
        """Return the waiting events, the gaps after them, and the last segment of each column."""
        kept = final.copy()
        kept[index + 1] = True
        fields = [
            np.concatenate([one, other])
            for one, other in zip(waiting, segments.where(kept), strict=True)
        ]
        return _Segments(*fields).where(np.argsort(fields[0], kind="stable"))
