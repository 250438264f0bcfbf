"""Metrics of events: estimated against reference events.

They give the numbers of sed_eval (Mesaros et al., Metrics for Polyphonic Sound Event Detection,
2016), summed over all files and classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

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


class Matching(NamedTuple):
    """Tolerances within which an estimated event matches a reference event.

    Args:
        collar: Largest difference of the onsets in seconds.
        share: Largest difference of the offsets, as a share of the length of the reference event
            if that is more than the collar; None ignores the offsets.
    """

    collar: float
    share: float | None = None


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
    file, label, onset, offset = np.array(rows, float).reshape(-1, 4).T
    return EventArrays(file.astype(int), label.astype(int), onset, offset)


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
