"""Events: from class scores in time to labels with an onset and an offset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hear_core.errors import ConfigError
from hear_core.events.smoothing import MedianFilter

_ROUNDING = 1e-6  # seconds; times are sums of floats


class Event(NamedTuple):
    """A sound that was heard: its label, when it began and ended in seconds, its highest score."""

    label: str
    onset: float
    offset: float
    score: float


@dataclass(frozen=True)
class EventDecoding:
    """What makes an event of a row of scores.

    Args:
        threshold: Score in [0, 1] from which on a class is heard.
        thresholds: The same for single classes, by label.
        release: An event lasts until its score falls below this share of the threshold, so that
            it does not break where a score wavers around the threshold.
        median: Scores are the median of so many windows, this one in their middle.
        smoothing: They are averaged over so many windows, this one and those before it.
        merge_gap: Two events of a class are one if at most so many seconds lie between them.
        min_duration: Shorter events, in seconds, are dropped, after merging.

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
                msg = f"{name} must be between 0 and 1, not {value}"
                raise ConfigError(msg)
        MedianFilter(self.median, 0)  # it knows what it can be made of
        if self.smoothing < 1:
            msg = f"smoothing must be at least one window, not {self.smoothing}"
            raise ConfigError(msg)
        for name in ("merge_gap", "min_duration"):
            if getattr(self, name) < 0:
                msg = f"{name} must be at least 0 seconds, not {getattr(self, name)}"
                raise ConfigError(msg)


class EventDecoder:
    """Finds the events of scores that come window by window.

    How the windows are parted into calls makes no difference: what is found in a live source is
    what is found in a recording of it.

    Args:
        labels: Of the classes.
        rule: What makes an event.

    Raises:
        ConfigError: The rule has a threshold for a class that is not among the labels.
    """

    def __init__(self, labels: Sequence[str], rule: EventDecoding) -> None:
        if unknown := set(rule.thresholds or {}) - set(labels):
            msg = f"there are thresholds for what is no class here: {', '.join(sorted(unknown))}"
            raise ConfigError(msg)
        self._labels, self._rule = labels, rule
        thresholds = rule.thresholds or {}
        self._on = np.array([thresholds.get(label, rule.threshold) for label in labels])
        self._off = self._on * rule.release
        self._median = MedianFilter(rule.median, len(labels))
        self._times = np.zeros((0, 2))  # of the windows that the median waits for others with
        self._active = np.zeros(len(labels), bool)
        self._last = np.zeros((0, len(labels)))
        self._open: dict[int, Event] = {}
        self._closed: dict[int, Event] = {}

    def feed(self, scores: np.ndarray, onset: np.ndarray, offset: np.ndarray) -> list[Event]:
        """Take the next windows, and return the events that have become certain, by offset.

        Args:
            scores: (windows, classes), in [0, 1].
            onset: Begin of the stretch that each window stands for, in seconds, (windows,).
            offset: Its end.
        """
        self._times = np.concatenate([self._times, np.stack([onset, offset], axis=1)])
        return self._find(self._median.feed(scores))

    def finish(self) -> list[Event]:
        """Return the events that were still going on or might have been merged, by offset."""
        found = self._find(self._median.finish())
        self._closed |= self._open
        self._open = {}
        self._active[:] = False
        return [*found, *self._release(float("inf"))]

    def _find(self, scores: np.ndarray) -> list[Event]:
        found: list[Event] = []
        times, self._times = self._times[: len(scores)], self._times[len(scores) :]
        for row, (begin, end) in zip(scores, times.tolist(), strict=True):
            self._last = np.concatenate([self._last, row[None]])[-self._rule.smoothing :]
            smooth = self._last.mean(0)
            heard = smooth >= np.where(self._active, self._off, self._on)
            for index in np.flatnonzero(self._active & ~heard).tolist():
                self._closed[index] = self._open.pop(index)
            found += self._release(begin)
            for index in np.flatnonzero(heard).tolist():
                self._extend(index, begin, end, float(smooth[index]))
            self._active = heard
        return found

    def _extend(self, index: int, onset: float, offset: float, score: float) -> None:
        """Prolong the event of a class, or one that ended just before, or begin one."""
        event = self._open.get(index) or self._closed.pop(index, None)
        if event is None:
            event = Event(self._labels[index], onset, offset, score)
        self._open[index] = event._replace(offset=offset, score=max(score, event.score))

    def _release(self, now: float) -> Iterator[Event]:
        """Let go of the events that nothing from now on can be merged with."""
        certain = [
            index
            for index, event in self._closed.items()
            if now - event.offset > self._rule.merge_gap + _ROUNDING
        ]
        events = sorted((self._closed.pop(index) for index in certain), key=lambda e: e.offset)
        shortest = self._rule.min_duration - _ROUNDING
        return (event for event in events if event.offset - event.onset >= shortest)


def decode_events(
    labels: Sequence[str],
    rule: EventDecoding,
    scores: np.ndarray,
    onset: np.ndarray,
    offset: np.ndarray,
) -> list[Event]:
    """Return all events of a recording by onset; see `EventDecoder`."""
    finder = EventDecoder(labels, rule)
    return sorted([*finder.feed(scores, onset, offset), *finder.finish()], key=lambda e: e.onset)
