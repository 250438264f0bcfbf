"""Scores of classes over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hear_core.events.decoding import EventDecoder, EventDecoding, decode_events
from hear_core.events.event import Event


@dataclass(frozen=True)
class TimedScores:
    """Scores of the classes in consecutive frames or windows of a recording.

    A row is the best estimate for the time from `onset` to `offset`. These stretches follow one
    another without gap or overlap, so that events are decoded from them. The network may have
    processed more audio for a row, from `start` to `end`: overlapping windows, of which the
    middle counts.

    Attributes:
        labels: Names of the classes.
        scores: Scores in [0, 1], (rows, classes).
        onset: Start of the time that each row covers, in seconds, (rows,).
        offset: End of that time, in seconds, (rows,).
        start: Start of the audio that was processed for each row, in seconds, (rows,); `onset` if
            not given.
        end: End of that audio, in seconds, (rows,); `offset` if not given.
        features: Embedding of each row, (rows, size), or None.
    """

    labels: Sequence[str]
    scores: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    start: np.ndarray = None  # type: ignore[assignment]  # set below
    end: np.ndarray = None  # type: ignore[assignment]
    features: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.start is None:
            object.__setattr__(self, "start", self.onset)
        if self.end is None:
            object.__setattr__(self, "end", self.offset)

    @property
    def edges(self) -> np.ndarray:
        """Times between the rows in seconds, with both ends, (rows + 1,)."""
        return np.append(self.onset, self.offset[-1:])

    def with_scores(self, labels: Sequence[str], scores: np.ndarray) -> TimedScores:
        """Return the same rows with other classes, such as selected or grouped ones.

        Args:
            labels: Names of the classes.
            scores: Scores (rows, classes).
        """
        return TimedScores(
            labels, scores, self.onset, self.offset, self.start, self.end, self.features
        )

    def until(self, seconds: float) -> TimedScores:
        """Return the same rows, none of which ends after a time.

        Args:
            seconds: Latest end in seconds.
        """
        offset, end = np.minimum(self.offset, seconds), np.minimum(self.end, seconds)
        return replace(self, offset=offset, end=end)

    def events(self, decoding: EventDecoding) -> list[Event]:
        """Return the events in the scores, by onset; see `hear_core.events.decoding`."""
        return decode_events(self.labels, decoding, self.scores, self.onset, self.offset)


class ScoredRecording(NamedTuple):
    """Scores of a recording and its true events, for evaluation.

    Attributes:
        scores: Scores of all classes over time.
        events: Events that truly are in the recording.
        duration: Length of the recording in seconds; the end of the last row if None.
    """

    scores: TimedScores
    events: Sequence[Event]
    duration: float | None = None

    @property
    def seconds(self) -> float:
        """Length of the recording in seconds."""
        return float(self.scores.offset[-1]) if self.duration is None else self.duration


def events_in(
    parts: Iterable[TimedScores], labels: Iterable[str], decoding: EventDecoding
) -> list[Event]:
    """Return the events of a recording, by onset.

    Args:
        parts: Scores of the recording in parts, one after another.
        labels: Names of the classes.
        decoding: Parameters of the decoding.
    """
    decoder, events = EventDecoder(list(labels), decoding), []
    for part in parts:
        events += decoder.feed(part.scores, part.onset, part.offset)
    return sorted([*events, *decoder.finish()], key=lambda event: event.onset)
