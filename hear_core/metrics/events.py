"""Metrics of events: estimated against reference events.

They give the numbers of sed_eval (Mesaros et al., Metrics for Polyphonic Sound Event Detection,
2016), summed over all files and classes, or class by class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hear_core.errors import ConfigError
from hear_core.events.event import Event
from hear_core.metrics.class_mean import ClassMean, class_mean

_ROUNDING = 1e-6  # seconds
_TINY = float(np.spacing(1))  # what sed_eval adds to every denominator


class EventArrays(NamedTuple):
    """The events of some files, one per row.

    Attributes:
        file: Index of the file, (events,).
        label: Index of the class, (events,).
        onset: Onset in seconds, (events,).
        offset: Offset in seconds, (events,).
    """

    file: np.ndarray
    label: np.ndarray
    onset: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, recordings: Sequence[Sequence[Event]], labels: Sequence[str]) -> EventArrays:
        """Return the events of some recordings as arrays.

        Args:
            recordings: Events of every recording.
            labels: Names of the classes.

        Raises:
            ConfigError: An event has a label that is not among the labels.
        """
        index = {label: number for number, label in enumerate(labels)}
        rows = []
        for number, events in enumerate(recordings):
            for event in events:
                if event.label not in index:
                    msg = f"an event has the label {event.label!r}, which is not a class"
                    raise ConfigError(msg)
                rows.append((number, index[event.label], event.onset, event.offset))
        return cls._of_rows(rows)

    @classmethod
    def _of_rows(cls, rows: Sequence[tuple[float, ...]]) -> EventArrays:
        file, label, onset, offset = np.array(rows, float).reshape(-1, 4).T
        return cls(file.astype(int), label.astype(int), onset, offset)

    def of_label(self, label: int) -> EventArrays:
        """Return the events of one class."""
        return EventArrays(*(field[self.label == label] for field in self))


class Matching(NamedTuple):
    """Tolerances within which an estimated event matches a reference event.

    Args:
        collar: Largest difference of the onsets in seconds.
        share: Largest difference of the offsets, as a share of the length of the reference event
            if that is more than the collar; None ignores the offsets.
    """

    collar: float
    share: float | None = None


ONSETS = Matching(0.2)
"""Onsets may differ by 200 ms, and offsets do not count, as in DCASE 2016 task 2."""
ONSETS_AND_OFFSETS = Matching(0.2, 0.2)
"""Onsets may differ by 200 ms, and offsets by that or a fifth of the event, as in DCASE task 4."""


def event_arrays(
    events: Mapping[str, Sequence[Mapping[str, Any]]], files: Sequence[str], labels: Sequence[str]
) -> EventArrays:
    """Return the events of some files as arrays.

    Args:
        events: Events by file, each with a ``label``, and a ``start`` and an ``end`` in
            milliseconds.
        files: Names of the files to take. Those without events may be missing in `events`.
        labels: Names of the classes.
    """
    index = {label: i for i, label in enumerate(labels)}
    rows = [
        (number, index[event["label"]], event["start"] / 1000, event["end"] / 1000)
        for number, file in enumerate(files)
        for event in events.get(file, ())
    ]
    return EventArrays._of_rows(rows)


def match_events(
    estimated: EventArrays, reference: EventArrays, matching: Matching
) -> tuple[float, float, float]:
    """Return F-measure, precision and recall of a largest matching of events.

    The precision is NaN without estimated events, the recall without reference events.
    """
    found, there = len(estimated.onset), len(reference.onset)
    hits = _largest_matching(*_candidates(estimated, reference, matching))
    precision = hits / found if found else float("nan")
    recall = hits / there if there else float("nan")
    if precision == recall == 0:
        return 0.0, precision, recall
    return 2 * precision * recall / (precision + recall), precision, recall


class EventScores(NamedTuple):
    """F-measure of events, in [0, 1].

    Attributes:
        f_measure: F-measure over the events of all classes.
        precision: Share of estimated events that match; NaN without estimated events.
        recall: Share of reference events that are matched; NaN without reference events.
        by_class: F-measure of every class, and its mean over the classes with reference events;
            NaN for the others.
    """

    f_measure: float
    precision: float
    recall: float
    by_class: ClassMean


def event_scores(
    estimated: Sequence[Sequence[Event]],
    reference: Sequence[Sequence[Event]],
    labels: Sequence[str],
    matching: Matching = ONSETS,
) -> EventScores:
    """Return the F-measure of the events of some recordings, over all classes and by class.

    Args:
        estimated: Detected events of every recording.
        reference: True events of every recording, in the same order.
        labels: Names of the classes.
        matching: Tolerances; by default, onsets may differ by 200 ms and offsets do not count.

    Raises:
        ConfigError: The numbers of recordings differ, or an event has another label.
    """
    found, there = _both(estimated, reference, labels)
    per_class = {
        label: _f_measure(found.of_label(number), there.of_label(number), matching)
        for number, label in enumerate(labels)
    }
    measure, precision, recall = match_events(found, there, matching)
    if not len(found.onset) or not len(there.onset):
        measure = 0.0 if len(found.onset) or len(there.onset) else float("nan")
    return EventScores(measure, precision, recall, class_mean(per_class))


def _f_measure(found: EventArrays, there: EventArrays, matching: Matching) -> float:
    """Return the F-measure of a class, NaN if it has no reference events."""
    if not len(there.onset):
        return float("nan")
    return match_events(found, there, matching)[0] if len(found.onset) else 0.0


def segment_error_rates(
    estimated: Sequence[Sequence[Event]],
    reference: Sequence[Sequence[Event]],
    labels: Sequence[str],
    seconds: float = 1.0,
) -> tuple[float, ClassMean]:
    """Return the segment-based error rate over all classes, and by class.

    Args:
        estimated: Detected events of every recording.
        reference: True events of every recording, in the same order.
        labels: Names of the classes.
        seconds: Length of a segment.

    Returns:
        The error rate over all classes, in which a class that is taken for another counts once; and
        those of the classes, NaN for classes without reference events.

    Raises:
        ConfigError: The numbers of recordings differ, or an event has another label.
    """
    found, there = _both(estimated, reference, labels)
    per_class = {
        label: segment_error_rate(found.of_label(number), there.of_label(number), seconds)
        if number in there.label
        else float("nan")
        for number, label in enumerate(labels)
    }
    return segment_error_rate(found, there, seconds), class_mean(per_class)


def _both(
    estimated: Sequence[Sequence[Event]],
    reference: Sequence[Sequence[Event]],
    labels: Sequence[str],
) -> tuple[EventArrays, EventArrays]:
    if len(estimated) != len(reference):
        msg = (
            f"there are {len(reference)} recordings, but events were estimated of {len(estimated)}"
        )
        raise ConfigError(msg)
    return EventArrays.of(estimated, labels), EventArrays.of(reference, labels)


def _candidates(
    estimated: EventArrays, reference: EventArrays, matching: Matching
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs that match, as indices of estimated and of reference events."""
    # Events of different files and classes are shifted so far apart that they are never near.
    classes = 1 + max((t.label.max(initial=0) for t in (estimated, reference)), default=0)
    latest = max(t.onset.max(initial=0) for t in (estimated, reference))
    apart = latest + 2 * matching.collar + 1
    found, there = (
        t.onset + apart * (t.file * classes + t.label).astype(float) for t in (estimated, reference)
    )
    order = there.argsort(kind="stable")
    reach = matching.collar + _ROUNDING + 1e-12 * apart * classes
    first = np.searchsorted(there[order], found - reach)
    number = np.searchsorted(there[order], found + reach, side="right") - first
    left = np.repeat(np.arange(len(found)), number)
    within = np.arange(len(left)) - np.repeat(number.cumsum() - number, number)
    right = order[np.repeat(first, number) + within]
    near = np.abs(reference.onset[right] - estimated.onset[left]) <= matching.collar
    near &= reference.label[right] == estimated.label[left]
    near &= reference.file[right] == estimated.file[left]
    if matching.share is not None:
        length = reference.offset[right] - reference.onset[right]
        allowed = np.maximum(matching.collar, matching.share * length)
        near &= np.abs(reference.offset[right] - estimated.offset[left]) <= allowed
    return left[near], right[near]


def _largest_matching(left: np.ndarray, right: np.ndarray) -> int:
    """Return the size of a largest set of pairs in which every event occurs at most once."""
    # A pair whose events have no other candidate is taken at once; only the rest needs a search.
    alone = (np.bincount(left)[left] == 1) & (np.bincount(right)[right] == 1)
    choices: dict[int, list[int]] = {}
    for one, other in zip(left[~alone].tolist(), right[~alone].tolist(), strict=True):
        choices.setdefault(one, []).append(other)
    taken, hopeless = dict[int, int](), set[int]()
    return int(alone.sum()) + sum(_place(one, choices, taken, hopeless) for one in choices)


def _place(
    one: int, choices: Mapping[int, Sequence[int]], taken: dict[int, int], hopeless: set[int]
) -> bool:
    """Find a partner for one event along an augmenting path (Kuhn's algorithm).

    From `hopeless` partners no free one can be reached, now or later.
    """
    reached: dict[int, tuple[int, int | None]] = {}  # by which event, and its present partner
    queue: list[tuple[int, int | None]] = [(one, None)]
    for event, own in queue:  # which grows meanwhile
        for other in choices[event]:
            if other in reached or other in hopeless:
                continue
            reached[other] = event, own
            if other in taken:
                queue.append((taken[other], other))
                continue
            free: int | None = other
            while free is not None:  # each takes what it reached and frees its former partner
                taken[free], free = reached[free]
            return True
    hopeless.update(reached)
    return False


def segment_error_rate(
    estimated: EventArrays, reference: EventArrays, seconds: float = 1.0
) -> float:
    """Return the segment-based error rate.

    It is the number of substitutions, deletions and insertions, divided by the number of reference
    classes in all segments.

    Args:
        estimated: Estimated events.
        reference: Reference events.
        seconds: Length of a segment.
    """
    both = EventArrays(*map(np.concatenate, zip(estimated, reference, strict=True)))
    segments = int(both.offset.max(initial=0) / seconds) + 2
    classes = int(both.label.max(initial=0)) + 1
    found, there = (_active(t, seconds, segments, classes) for t in (estimated, reference))
    parts = (found, there, np.intersect1d(found, there, assume_unique=True))
    # Only segments with an estimated or a reference event count.
    _, index = np.unique(np.concatenate(parts) // classes, return_inverse=True)
    length = index.max(initial=-1) + 1
    split = np.split(index, np.cumsum([len(part) for part in parts[:2]]))
    system, truth, correct = (np.bincount(part, minlength=length) for part in split)
    substituted = (np.minimum(system, truth) - correct).sum()
    deleted = np.maximum(0, truth - system).sum()
    inserted = np.maximum(0, system - truth).sum()
    total = truth.sum() + _TINY
    return float(substituted / total + deleted / total + inserted / total)


def _active(events: EventArrays, seconds: float, segments: int, classes: int) -> np.ndarray:
    """Return a number for every pair of segment and class with an event."""
    first = np.floor(events.onset / seconds).astype(int)
    number = np.ceil(events.offset / seconds).astype(int) - first
    within = np.arange(number.sum()) - np.repeat(number.cumsum() - number, number)
    file, label, begin = (np.repeat(part, number) for part in (events.file, events.label, first))
    return np.unique((file * segments + begin + within) * classes + label)
