"""Stretches of time in which classes are active, for scores that arrive in parts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

ROUNDING = 1e-6
"""Seconds by which two times may differ and count as equal; times are sums of floats."""


class Spans(NamedTuple):
    """Stretches of time in which a column of scores is active, arrays (spans,).

    Attributes:
        column: Index of the column.
        onset: Onset in seconds.
        offset: Offset in seconds.
        score: Score of the span.
    """

    column: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    score: np.ndarray

    def where(self, chosen: np.ndarray) -> Spans:
        """Return some of the spans."""
        return Spans(*(field[chosen] for field in self))


NO_SPANS = Spans(np.zeros(0, int), np.zeros(0), np.zeros(0), np.zeros(0))
"""No span."""


def runs_of(active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the runs of true values in the columns of an array (rows, columns).

    Returns:
        Column, first row and last row of every run, arrays (runs,), by column and row.
    """
    by_column = active.T
    edge = np.zeros((len(by_column), 1), bool)
    before = np.concatenate([edge, by_column[:, :-1]], axis=1)
    after = np.concatenate([by_column[:, 1:], edge], axis=1)
    column, first = np.nonzero(by_column & ~before)
    return column, first, np.nonzero(by_column & ~after)[1]


def reduced(
    operation: np.ufunc, values: np.ndarray, begin: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Return the reduction of ``values[begin[i]:end[i]]`` for every i; no stretch is empty."""
    if not len(begin):
        return values[:0]
    padded = np.append(values, values[-1:])
    result: np.ndarray = operation.reduceat(padded, np.stack([begin, end], axis=1).reshape(-1))[::2]
    return result


class ThresholdSpans:
    """Spans in which scores exceed a threshold.

    The spans do not depend on how the rows are divided into calls.

    Args:
        begin: Score of each column at which a span begins, (columns,).
        end: Score below which it ends, at most `begin`, (columns,).
        merge_gap: Two spans of a column are merged if at most this many seconds lie between them.
    """

    def __init__(self, begin: np.ndarray, end: np.ndarray, merge_gap: float = 0.0) -> None:
        self._on, self._off, self._gap = begin, end, merge_gap + ROUNDING
        self._active = np.zeros(len(begin), bool)
        self._pending = NO_SPANS  # at most one span of a column, which might last longer

    def feed(self, scores: np.ndarray, onset: np.ndarray, offset: np.ndarray) -> Spans:
        """Take the next rows, and return the spans that have become final.

        Args:
            scores: Scores (rows, columns).
            onset: Start of each row in seconds, (rows,).
            offset: End of each row in seconds, (rows,).

        Returns:
            Spans, whose score is the highest within.
        """
        if not len(scores):
            return NO_SPANS
        active = self._activity(scores)
        column, first, last = runs_of(active)
        size = len(scores)
        highest = reduced(
            np.maximum, scores.T.reshape(-1), column * size + first, column * size + last + 1
        )
        spans = self._merged(Spans(column, onset[first], offset[last], highest))
        waits = active[-1, spans.column] | (onset[-1] - spans.offset <= self._gap)
        waits &= np.append(spans.column[1:] != spans.column[:-1], True)[: len(waits)]
        self._active, self._pending = active[-1], spans.where(waits)
        return spans.where(~waits)

    def finish(self) -> Spans:
        """Return the spans that might have lasted longer; no more rows can be taken."""
        spans, self._pending = self._pending, NO_SPANS
        return spans

    def _activity(self, scores: np.ndarray) -> np.ndarray:
        begins = scores >= self._on
        if (self._on == self._off).all():
            return begins
        # Between both thresholds, a row is as the one before.
        decided = begins | (scores < self._off)
        rows = np.where(decided, np.arange(len(scores))[:, None], -1)
        rows = np.maximum.accumulate(rows, axis=0)
        return np.where(rows < 0, self._active, np.take_along_axis(begins, np.maximum(rows, 0), 0))

    def _merged(self, spans: Spans) -> Spans:
        """Return spans, the pending ones included, with those merged that are close together."""
        fields = [np.concatenate(pair) for pair in zip(self._pending, spans, strict=True)]
        both = Spans(*fields).where(np.argsort(fields[0], kind="stable"))
        apart = both.onset[1:] - both.offset[:-1] > self._gap
        begin = np.flatnonzero(
            np.append(True, apart | (both.column[1:] != both.column[:-1]))[: len(both.column)]
        )
        end = np.append(begin[1:], len(both.column)).astype(int)[: len(begin)]
        return Spans(
            both.column[begin],
            both.onset[begin],
            both.offset[end - 1],
            reduced(np.maximum, both.score, begin, end),
        )
