"""Event decoding: from scores of classes over time to events with onset and offset."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hear_core.errors import ConfigError
from hear_core.events.change_points import ChangePoints, ChangePointSpans
from hear_core.events.event import Event
from hear_core.events.smoothing import MedianFilter, MovingAverage
from hear_core.events.spans import ROUNDING, Spans, ThresholdSpans


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
        change_points: Parameters of change-point detection. If given, events extend between change
            points, thresholds choose among them by their mean score, and `release`, `median`,
            `smoothing` and `merge_gap` have no effect.

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
    change_points: ChangePoints | None = None

    def __post_init__(self) -> None:
        shares = {"threshold": self.threshold, "release": self.release, **(self.thresholds or {})}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                msg = f"{name} must be between 0 and 1, but is {value}"
                raise ConfigError(msg)
        MedianFilter(self.median, 0)  # checks the size
        MovingAverage(self.smoothing, 0)
        for name, value in (self.change_points or ChangePoints())._asdict().items():
            if not value > 0:
                msg = f"{name} of change points must be above 0, but is {value}"
                raise ConfigError(msg)
        for name in ("merge_gap", "min_duration"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                msg = f"{name} must be a number of seconds from 0 on, but is {value}"
                raise ConfigError(msg)

    def entries(self) -> dict[str, Any]:
        """Return the parameters as JSON can hold them, without the thresholds of single classes."""
        found = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        del found["thresholds"]
        if self.change_points:
            points = self.change_points._asdict().items()
            found["change_points"] = {k: None if math.isinf(v) else v for k, v in points}
        return found

    @classmethod
    def from_entries(
        cls, entries: Mapping[str, Any], thresholds: Mapping[str, float] | None = None
    ) -> EventDecoding:
        """Return the decoding of `entries`.

        Args:
            entries: Parameters, as returned by `EventDecoding.entries`.
            thresholds: Thresholds of single classes by label.

        Raises:
            ConfigError: An entry is unknown, or has the wrong type or range.
        """
        points = entries.get("change_points")
        try:
            if points is not None:
                values = {k: math.inf if v is None else float(v) for k, v in points.items()}
                points = ChangePoints(**values)
            given = {**entries, "change_points": points, "thresholds": thresholds or None}
            return cls(**given)
        except (TypeError, AttributeError) as error:
            msg = f"{dict(entries)!r:.200} is not an event decoding: {error}"
            raise ConfigError(msg) from error


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
        self._least = np.array([thresholds.get(label, decoding.threshold) for label in labels])
        self._spans = SpanDecoder(decoding, self._least)

    def feed(self, scores: np.ndarray, onset: np.ndarray, offset: np.ndarray) -> list[Event]:
        """Take the next rows, and return the events that have become final, by offset.

        Args:
            scores: Scores in [0, 1], (rows, classes).
            onset: Start of the time that each row covers, in seconds, (rows,).
            offset: End of that time, in seconds, (rows,).
        """
        return self._events(self._spans.feed(scores, onset, offset))

    def finish(self) -> list[Event]:
        """Return the events that were still active or might have been merged, by offset."""
        return self._events(self._spans.finish())

    def _events(self, spans: Spans) -> list[Event]:
        columns, *rest = (field.tolist() for field in spans)
        events = map(Event, (self._labels[column] for column in columns), *rest)
        return sorted(events, key=lambda event: event.offset)


class SpanDecoder:
    """Decoder of columns of scores that arrive in parts, to spans.

    Args:
        decoding: Parameters, without the thresholds.
        thresholds: Threshold of each column, (columns,).
    """

    def __init__(self, decoding: EventDecoding, thresholds: np.ndarray) -> None:
        self._shortest, self._thresholds = decoding.min_duration - ROUNDING, thresholds
        size, points = len(thresholds), decoding.change_points
        self._median = MedianFilter(1 if points else decoding.median, size)
        self._average = MovingAverage(1 if points else decoding.smoothing, size)
        self._times = np.zeros((0, 2))  # of the rows that the median filter holds back
        self._spans: ChangePointSpans | ThresholdSpans = (
            ChangePointSpans(points, size)
            if points
            else ThresholdSpans(thresholds, thresholds * decoding.release, decoding.merge_gap)
        )

    def feed(self, scores: np.ndarray, onset: np.ndarray, offset: np.ndarray) -> Spans:
        """Take the next rows, see `EventDecoder.feed`, and return the spans that are final."""
        self._times = np.concatenate([self._times, np.stack([onset, offset], axis=1)])
        return self._long(self._decode(self._median.feed(scores)))

    def finish(self) -> Spans:
        """Return the remaining spans; no more rows can be taken."""
        found = self._decode(self._median.finish()), self._spans.finish()
        return self._long(Spans(*map(np.concatenate, zip(*found, strict=True))))

    def _decode(self, scores: np.ndarray) -> Spans:
        times, self._times = self._times[: len(scores)], self._times[len(scores) :]
        return self._spans.feed(self._average.feed(scores), times[:, 0], times[:, 1])

    def _long(self, spans: Spans) -> Spans:
        """Return the spans that last long enough, and reach the threshold."""
        long = spans.offset - spans.onset >= self._shortest
        return spans.where(long & (spans.score >= self._thresholds[spans.column]))


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
