"""Scores of events: those that were found, against those that are there.

They give the numbers of sed_eval (Mesaros et al., Metrics for Polyphonic Sound Event Detection,
2016), summed over all files and classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_ROUNDING = 1e-6  # seconds
_TINY = float(np.spacing(1))  # what sed_eval adds to a number it divides by


class Timeline(NamedTuple):
    """Events of some files, one in each row.

    Args:
        file: Index of its file.
        label: Index of its class.
        onset: In seconds.
        offset: In seconds.
    """

    file: np.ndarray
    label: np.ndarray
    onset: np.ndarray
    offset: np.ndarray


class Matching(NamedTuple):
    """When an event that was found is one that is there.

    Args:
        collar: Seconds that its onset may be away from that of the other.
        share: So far its offset may be away, as a share of the length of the other if that is more
            than the collar; None if its offset does not matter.
    """

    collar: float
    share: float | None = None


def timeline(
    events: Mapping[str, Sequence[Mapping[str, Any]]], files: Sequence[str], labels: Sequence[str]
) -> Timeline:
    """Return the events of some files.

    Args:
        events: By file, with a ``label``, and a ``start`` and an ``end`` in milliseconds.
        files: Names of the files that count. Those that have no events may be missing.
        labels: Of the classes.
    """
    index = {label: i for i, label in enumerate(labels)}
    rows = [
        (number, index[event["label"]], event["start"] / 1000, event["end"] / 1000)
        for number, file in enumerate(files)
        for event in events.get(file, ())
    ]
    file, label, onset, offset = np.array(rows, float).reshape(-1, 4).T
    return Timeline(file.astype(int), label.astype(int), onset, offset)


def match_events(
    estimated: Timeline, reference: Timeline, matching: Matching
) -> tuple[float, float, float]:
    """Return F-measure, precision and recall, of the most pairs of events that can be made.

    What is undefined is NaN: the precision if nothing was found, the recall if nothing is there.
    """
    found, there = len(estimated.onset), len(reference.onset)
    hits = _largest_matching(*_candidates(estimated, reference, matching))
    precision = hits / found if found else float("nan")
    recall = hits / there if there else float("nan")
    if precision == recall == 0:
        return 0.0, precision, recall
    return 2 * precision * recall / (precision + recall), precision, recall


def _candidates(
    estimated: Timeline, reference: Timeline, matching: Matching
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs that may be made, as indices of events found and of events there."""
    # Times of different files and classes are put so far apart that they are never near.
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
    """Return how many pairs can be made at most, if none shares an event with another."""
    # A pair whose events have no other candidate is made; only the rest takes a search.
    alone = (np.bincount(left)[left] == 1) & (np.bincount(right)[right] == 1)
    choices: dict[int, list[int]] = {}
    for one, other in zip(left[~alone].tolist(), right[~alone].tolist(), strict=True):
        choices.setdefault(one, []).append(other)
    taken, hopeless = dict[int, int](), set[int]()
    return int(alone.sum()) + sum(_place(one, choices, taken, hopeless) for one in choices)


def _place(
    one: int, choices: Mapping[int, Sequence[int]], taken: dict[int, int], hopeless: set[int]
) -> bool:
    """Find a partner for one event, where need be by finding others for those that have one.

    From what is `hopeless` nothing free is reached, and will not be later either.
    """
    reached: dict[int, tuple[int, int | None]] = {}  # by which event, and what that has itself
    queue: list[tuple[int, int | None]] = [(one, None)]
    for event, own in queue:  # which gets longer meanwhile
        for other in choices[event]:
            if other in reached or other in hopeless:
                continue
            reached[other] = event, own
            if other in taken:
                queue.append((taken[other], other))
                continue
            free: int | None = other
            while free is not None:  # each takes what it reached, and what it had is free
                taken[free], free = reached[free]
            return True
    hopeless.update(reached)
    return False


def segment_error_rate(estimated: Timeline, reference: Timeline, seconds: float = 1.0) -> float:
    """Return the error rate in segments: substitutions, deletions and insertions per event there.

    Args:
        estimated: What was found.
        reference: What is there.
        seconds: Length of a segment.
    """
    both = Timeline(*map(np.concatenate, zip(estimated, reference, strict=True)))
    segments = int(both.offset.max(initial=0) / seconds) + 2
    classes = int(both.label.max(initial=0)) + 1
    found, there = (_active(t, seconds, segments, classes) for t in (estimated, reference))
    parts = (found, there, np.intersect1d(found, there, assume_unique=True))
    # Only segments in which something is, or was found, count.
    _, index = np.unique(np.concatenate(parts) // classes, return_inverse=True)
    length = index.max(initial=-1) + 1
    split = np.split(index, np.cumsum([len(part) for part in parts[:2]]))
    system, truth, correct = (np.bincount(part, minlength=length) for part in split)
    substituted = (np.minimum(system, truth) - correct).sum()
    deleted = np.maximum(0, truth - system).sum()
    inserted = np.maximum(0, system - truth).sum()
    total = truth.sum() + _TINY
    return float(substituted / total + deleted / total + inserted / total)


def _active(events: Timeline, seconds: float, segments: int, classes: int) -> np.ndarray:
    """Return a number for every segment and class in which there is an event."""
    first = np.floor(events.onset / seconds).astype(int)
    number = np.ceil(events.offset / seconds).astype(int) - first
    within = np.arange(number.sum()) - np.repeat(number.cumsum() - number, number)
    file, label, begin = (np.repeat(part, number) for part in (events.file, events.label, first))
    return np.unique((file * segments + begin + within) * classes + label)
