"""Event decoding: from scores of classes over time to events with onset and offset."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hear_core.errors import ConfigError
from hear_core.events.event import Event
from hear_core.events.smoothing import MedianFilter

_ROUNDING = 1e-6  # seconds; times are sums of floats


@dataclass(frozen=True)
class EventDecoding:
    """Parameters of event decoding: smoothing, thresholds, gaps, shortest event.

    Args:
        threshold: Score in [0, 1] at which an event of a class begins.
        thresholds: Thresholds of single classes by label, in place of `threshold`.
        release: An event lasts until the score of its class falls below this share of the
            threshold, so that it does not break where a score wavers around the threshold.
        median: Number of rows of a centred median filter, odd; 1 does not filter.
        smoothing: Number of rows of a moving average over this row and those before it; 1 does
            not average.
        merge_gap: Two events of a class are merged if at most this many seconds lie between them.
        min_duration: Events shorter than this many seconds are dropped, after merging.

    Raises:
        ConfigError: A value is out of range.
    """

    threshold: float = 0.3
    thresholds: Mapping[str, float] | None = None
    release: float = 0.8
    median: int = 1
    smoothing: int = 1
    merge_gap: float = 0.0
    min_duration: float = 0.0

    def __post_init__(self) -> None:
        shares = {"threshold": self.threshold, "release": self.release, **(self.thresholds or {})}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                msg = f"{name} must be between 0 and 1, but is {value}"
                raise ConfigError(msg)
        MedianFilter(self.median, 0)  # checks the size
        if self.smoothing < 1:
            msg = f"smoothing must be at least one window, but is {self.smoothing}"
            raise ConfigError(msg)
        for name in ("merge_gap", "min_duration"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                msg = f"{name} must be a number of seconds from 0 on, but is {value}"
                raise ConfigError(msg)


class EventDecoder:
    """Decoder of scores that arrive in parts, such as those of a live source.

    The events do not depend on how the scores are divided into calls: those of a stream are those
    of its recording.

    Args:
        labels: Names of the classes.
        decoding: Parameters.

    Raises:
        ConfigError: A threshold is for a class that is not among the labels.
    """

    def __init__(self, labels: Sequence[str], decoding: EventDecoding) -> None:
        thresholds = decoding.thresholds or {}
        if odd := sorted(set(thresholds) - set(labels)):
            msg = f"thresholds are given for classes that do not exist: {', '.join(odd)}"
            raise ConfigError(msg)
        self._labels, self._decoding = labels, decoding
        self._on = np.array([thresholds.get(label, decoding.threshold) for label in labels])
        self._off = self._on * decoding.release
        self._median = MedianFilter(decoding.median, len(labels))
        self._times = np.zeros((0, 2))  # of the rows that the median filter holds back
        self._active = np.zeros(len(labels), bool)
        self._last = np.zeros((0, len(labels)))
        self._open: dict[int, Event] = {}
        self._closed: dict[int, Event] = {}

    def feed(self, scores: np.ndarray, onset: np.ndarray, offset: np.ndarray) -> list[Event]:
        """Take the next rows, and return the events that have become final, by offset.

        Args:
            scores: Scores in [0, 1], (rows, classes).
            onset: Start of the time that each row covers, in seconds, (rows,).
            offset: End of that time, in seconds, (rows,).
        """
        self._times = np.concatenate([self._times, np.stack([onset, offset], axis=1)])
        return self._decode(self._median.feed(scores))

    def finish(self) -> list[Event]:
        """Return the events that were still active or might have been merged, by offset."""
        found = self._decode(self._median.finish())
        self._closed |= self._open
        self._open = {}
        self._active[:] = False
        return [*found, *self._release(float("inf"))]

    def _decode(self, scores: np.ndarray) -> list[Event]:
        found: list[Event] = []
        times, self._times = self._times[: len(scores)], self._times[len(scores) :]
        for row, (begin, end) in zip(scores, times.tolist(), strict=True):
            self._last = np.concatenate([self._last, row[None]])[-self._decoding.smoothing :]
            smooth = self._last.mean(0)
            active = smooth >= np.where(self._active, self._off, self._on)
            for index in np.flatnonzero(self._active & ~active).tolist():
                self._closed[index] = self._open.pop(index)
            found += self._release(begin)
            for index in np.flatnonzero(active).tolist():
                self._extend(index, begin, end, float(smooth[index]))
            self._active = active
        return found

    def _extend(self, index: int, onset: float, offset: float, score: float) -> None:
        """Extend the event of a class, or one that ended within the merge gap, or begin one."""
        event = self._open.get(index) or self._closed.pop(index, None)
        if event is None:
            event = Event(self._labels[index], onset, offset, score)
        self._open[index] = event._replace(offset=offset, score=max(score, event.score))

    def _release(self, now: float) -> Iterator[Event]:
        """Give out the closed events that no event from `now` on can be merged with."""
        final = [
            index
            for index, event in self._closed.items()
            if now - event.offset > self._decoding.merge_gap + _ROUNDING
        ]
        events = sorted((self._closed.pop(index) for index in final), key=lambda e: e.offset)
        shortest = self._decoding.min_duration - _ROUNDING
        return (event for event in events if event.offset - event.onset >= shortest)


def decode_events(
    labels: Sequence[str],
    decoding: EventDecoding,
    scores: np.ndarray,
    onset: np.ndarray,
    offset: np.ndarray,
) -> list[Event]:
    """Return all events of a recording, by onset.

    Args:
        labels: Names of the classes.
        decoding: Parameters.
        scores: Scores in [0, 1], (rows, classes).
        onset: Start of the time that each row covers, in seconds, (rows,).
        offset: End of that time, in seconds, (rows,).
    """
    decoder = EventDecoder(labels, decoding)
    events = [*decoder.feed(scores, onset, offset), *decoder.finish()]
    return sorted(events, key=lambda event: event.onset)
