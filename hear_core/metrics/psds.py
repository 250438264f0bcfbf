"""Polyphonic sound detection score (PSDS): the area under a ROC curve of events.

The score is defined by Bilen et al., "A Framework for the Robust Evaluation of Sound Event
Detection" (ICASSP 2020), and is computed exactly, from all thresholds, as by Ebbers, Serizel and
Haeb-Umbach, "Threshold-Independent Evaluation of Sound Event Detection Scores" (ICASSP 2022), whose
package ``sed_scores_eval`` gives the same numbers.

As the threshold falls, detections appear at the maxima of a class's scores, grow, and merge at the
minima. All detections of all thresholds are therefore a tree with at most one node per frame, an
interval that exists while the threshold is between two scores. Each node is compared with the true
events once, by the time that true events cover up to its two ends. For N frames of the classes that
a recording has true events of, this takes O(N log N) steps; of other classes, only the extrema
count, in O(N).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hear_core.errors import ConfigError
from hear_core.events.timed_scores import ScoredRecording

_DECIMALS = 6  # of times in seconds; intersections are sums of floats
_HOUR = 3600.0
_AT_ONCE = 4_000_000  # scores that are processed together


class PsdsScenario(NamedTuple):
    """Parameters of the score.

    Args:
        dtc: Detection tolerance criterion: the share of a detection that true events of its class
            must cover; otherwise the detection is a false positive.
        gtc: Ground truth intersection criterion: the share of a true event that such detections
            must cover for it to be detected.
        cttc: Cross-trigger tolerance criterion: the share of a false positive from which true
            events of another class have triggered it; None if `alpha_ct` is 0.
        alpha_ct: Weight of cross triggers in the rate of false positives.
        alpha_st: Weight of the standard deviation over the classes, which is subtracted from their
            mean.
        max_rate: False positives per hour up to which the area counts.
    """

    dtc: float
    gtc: float
    cttc: float | None = None
    alpha_ct: float = 0.0
    alpha_st: float = 1.0
    max_rate: float = 100.0


PSDS1 = PsdsScenario(dtc=0.7, gtc=0.7)
"""The scenario of DCASE that needs exact times."""
PSDS2 = PsdsScenario(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5)
"""The scenario of DCASE that needs the right classes."""


class Psds(NamedTuple):
    """Polyphonic sound detection scores, each in [0, 1].

    Attributes:
        score: Score of all classes together, which `PsdsScenario.alpha_st` lowers where classes
            differ.
        macro_average: Mean of the scores of the classes, as published for AudioSet Strong.
        per_class: Score of every class by name; NaN for those without true events, which do not
            count in the other two.
    """

    score: float
    macro_average: float
    per_class: Mapping[str, float]


def psds(recordings: Iterable[ScoredRecording], scenario: PsdsScenario = PSDS1) -> Psds:
    """Return the polyphonic sound detection scores of a detector.

    Args:
        recordings: Scores and true events of every recording, all with the same labels. Scores may
            have any range, such as logits; -inf is never detected. True events of one class that
            touch or overlap count as one event. Recordings are taken one by one, and only the
            changes of the curves are kept of them.
        scenario: Parameters of the score.

    Raises:
        ConfigError: There is not a recording or not an event, labels differ, a score is NaN, an
            event ends before it begins, or a parameter is out of range.
    """
    _check(scenario)
    steps, labels = list[_Steps](), tuple[str, ...]()
    events, seconds, duration = np.zeros(0, int), np.zeros(0), 0.0
    for block in _blocks(recordings):
        if not labels:
            labels = tuple(block[0].scores.labels)
            events, seconds = np.zeros(len(labels), int), np.zeros(len(labels))
        truth = _Truth.of(block, labels)
        events += np.bincount(truth.label, minlength=len(labels))
        seconds += np.bincount(truth.label, truth.offset - truth.onset, minlength=len(labels))
        duration += sum(recording.seconds for recording in block)
        steps += _steps_of(block, truth, scenario)
    if not events.any():
        msg = "a PSDS needs at least one recording with a true event"
        raise ConfigError(msg)
    joined = _Steps(*map(np.concatenate, zip(*steps, strict=True)))
    present = np.flatnonzero(events)
    weights = scenario.alpha_ct / np.maximum(seconds, 1e-12) / max(len(labels) - 1, 1)
    curves = [
        _curve(rows, events[label], weights, duration, scenario.max_rate)
        for label, rows in zip(present, joined.by_label(present), strict=True)
    ]
    per_class = dict.fromkeys(labels, float("nan"))
    for label, (rates, shares) in zip(present.tolist(), curves, strict=True):
        per_class[labels[label]] = _area(rates, shares, scenario.max_rate)
    return Psds(
        _area(*_mean_curve(curves, scenario.alpha_st), scenario.max_rate),
        float(np.mean([per_class[labels[label]] for label in present.tolist()])),
        per_class,
    )


class _Truth(NamedTuple):
    """True events by column, and by onset within a column.

    A column is a pair of recording and class; its number is ``recording * classes + label``. The
    fields are arrays (events,).
    """

    column: np.ndarray
    label: np.ndarray
    onset: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, block: Sequence[ScoredRecording], labels: tuple[str, ...]) -> _Truth:
        """Return the true events of some recordings; those of one class that touch are merged."""
        index = {label: number for number, label in enumerate(labels)}
        rows: list[tuple[int, int, float, float]] = []
        for number, recording in enumerate(block):
            if tuple(recording.scores.labels) != labels:
                msg = (
                    "all recordings must have the same labels, but one has "
                    f"{len(recording.scores.labels)} labels that are not the {len(labels)} of the "
                    "first"
                )
                raise ConfigError(msg)
            for event in recording.events:
                if event.label not in index:
                    msg = f"a true event has the label {event.label!r}, which has no scores"
                    raise ConfigError(msg)
                if not event.offset > event.onset:
                    msg = (
                        f"a true event {event.label!r} from {event.onset} to {event.offset} s does "
                        "not end after it begins"
                    )
                    raise ConfigError(msg)
                label = index[event.label]
                rows.append((number * len(labels) + label, label, event.onset, event.offset))
        merged: list[tuple[int, int, float, float]] = []
        for row in sorted(rows):
            if merged and merged[-1][0] == row[0] and row[2] <= merged[-1][3]:
                merged[-1] = (*merged[-1][:3], max(merged[-1][3], row[3]))
            else:
                merged.append(row)
        fields = np.array(merged, float).reshape(-1, 4).T
        return cls(*fields[:2].astype(int), *fields[2:])


class _Steps(NamedTuple):
    """Changes of the counts of a class when the threshold falls to a score, arrays (changes,).

    Attributes:
        label: Class.
        score: Score.
        false: Change of the number of false positives.
        true: Change of the number of detected true events.
        cross: Change of the number of false positives that another class triggered.
        other: Class that triggered them, for `cross`.
    """

    label: np.ndarray
    score: np.ndarray
    false: np.ndarray
    true: np.ndarray
    cross: np.ndarray
    other: np.ndarray

    @classmethod
    def of(cls, label: np.ndarray, score: np.ndarray, **changes: np.ndarray) -> _Steps:
        """Return changes, of which those that are not given are 0."""
        none = np.zeros(len(score), np.int8)
        small = {name: value.astype(np.int8) for name, value in changes.items() if name != "other"}
        given = {"false": none, "true": none, "cross": none, "other": none, **changes, **small}
        return cls(label.astype(np.int32), score, **given)

    def by_label(self, labels: np.ndarray) -> Iterator[_Steps]:
        """Yield the changes of each of some classes."""
        order = np.argsort(self.label, kind="stable")
        first, last = _range(self.label[order], labels)
        for begin, end in zip(first, last, strict=True):
            yield _Steps(*(field[order[begin:end]] for field in self))


def _range(ordered: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where each of some values begins and ends in a sorted array."""
    return np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")


def _check(scenario: PsdsScenario) -> None:
    for name in ("dtc", "gtc", "cttc"):
        value = getattr(scenario, name)
        if value is not None and not 0 < value <= 1:
            msg = f"{name} must be above 0 and at most 1, but is {value}"
            raise ConfigError(msg)
    if scenario.alpha_ct < 0 or scenario.alpha_st < 0 or not scenario.max_rate > 0:
        msg = "alpha_ct and alpha_st must be at least 0, and max_rate above 0"
        raise ConfigError(msg)
    if (scenario.cttc is None) != (scenario.alpha_ct == 0):
        msg = "cttc must be given if alpha_ct is above 0, and only then"
        raise ConfigError(msg)


def _blocks(recordings: Iterable[ScoredRecording]) -> Iterator[list[ScoredRecording]]:
    """Yield recordings in lists with about `_AT_ONCE` scores."""
    block, size = list[ScoredRecording](), 0
    for recording in recordings:
        if np.isnan(recording.scores.scores).any():
            msg = "the scores of a recording hold NaN"
            raise ConfigError(msg)
        block.append(recording)
        size += recording.scores.scores.size
        if size >= _AT_ONCE:
            yield block
            block, size = [], 0
    if block:
        yield block


def _steps_of(
    block: Sequence[ScoredRecording], truth: _Truth, scenario: PsdsScenario
) -> Iterator[_Steps]:
    """Yield the changes of all classes in some recordings."""
    classes = block[0].scores.scores.shape[1]
    # All recordings are one sequence, with a row of -inf before, between and after them.
    gap = np.full((1, classes), -np.inf, block[0].scores.scores.dtype)
    parts = itertools.chain.from_iterable((gap, recording.scores.scores) for recording in block)
    scores = np.ascontiguousarray(np.concatenate([*parts, gap]).T)
    lengths = np.array([len(recording.scores.scores) for recording in block])
    first = np.cumsum(lengths + 1) - lengths  # index of the first row of each recording
    exact = np.zeros((len(block), classes), bool)  # columns whose detections are compared
    exact.reshape(-1)[truth.column] = True
    if scenario.cttc is not None:
        exact |= exact.any(1, keepdims=True)
    yield _extrema(scores, first, lengths, exact)
    if len(truth.column):
        columns = np.flatnonzero(exact)
        rows = [
            (scores[column % classes, first[number] : first[number] + lengths[number]], edges)
            for column in columns.tolist()
            for number in [column // classes]
            for edges in [block[number].scores.edges]
        ]
        nodes = _nodes(columns, rows)
        yield from _detections(nodes, truth, classes, scenario)


def _extrema(
    scores: np.ndarray, first: np.ndarray, lengths: np.ndarray, exact: np.ndarray
) -> _Steps:
    """Return the changes of the columns that are not exact.

    A maximum is one detection more, a minimum one less, and all of them are false positives.
    """
    rises = scores[:, 1:] > scores[:, :-1]
    change = rises[:, :-1].astype(np.int8) - rises[:, 1:]
    change[np.isneginf(scores[:, 1:-1])] = 0
    for recording, label in np.argwhere(exact).tolist():
        change[label, first[recording] - 1 :][: lengths[recording]] = 0
    labels, rows = np.nonzero(change)
    return _Steps.of(labels, scores[labels, rows + 1], false=change[labels, rows])


class _Nodes(NamedTuple):
    """Detections of all thresholds, arrays (nodes,).

    Attributes:
        column: Column, see `_Truth`.
        onset: Onset in seconds.
        offset: Offset in seconds.
        level: Highest threshold at which the detection exists.
        parent: Threshold at which a longer one takes its place; -inf if none does.
    """

    column: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    level: np.ndarray
    parent: np.ndarray

    def where(self, chosen: np.ndarray) -> _Nodes:
        """Return some of the nodes."""
        return _Nodes(*(field[chosen] for field in self))


def _nodes(columns: np.ndarray, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> _Nodes:
    """Return the detections in columns, each given as scores (frames,) and edges (frames + 1,)."""
    gap = np.full(1, -np.inf, rows[0][0].dtype)
    parts = itertools.chain.from_iterable((values, gap) for values, _ in rows)
    values = np.concatenate([gap, *parts])
    times = np.concatenate([[0.0], *(edges for _, edges in rows)])
    sizes = [len(edges) for _, edges in rows]
    column = np.concatenate([columns[:1], np.repeat(columns, sizes)])
    # Minima over 2^k values from each index on.
    minima = [values]
    for k in range(max(sizes).bit_length() - 1):
        before = minima[-1]
        minima.append(np.minimum(before[: -(1 << k)], before[1 << k :]))
    index = np.flatnonzero(values > -np.inf)
    level, left = values[index], index.copy()
    for k, least in reversed([*enumerate(minima)]):  # extended over higher scores
        begin = left - (1 << k)
        left = np.where((begin >= 0) & (least[np.maximum(begin, 0)] > level), begin, left)
    alone = values[left - 1] < level  # else an earlier frame has the same level and interval
    index, level, left = index[alone], level[alone], left[alone]
    right = index + 1
    for k, least in reversed([*enumerate(minima)]):  # extended over scores as high
        fits = right < len(least)
        higher = least[np.minimum(right, len(least) - 1)] >= level
        right = np.where(fits & higher, right + (1 << k), right)
    parent = np.maximum(values[left - 1], values[right])
    return _Nodes(column[left], times[left], times[right], level, parent)


def _detections(
    nodes: _Nodes, truth: _Truth, classes: int, scenario: PsdsScenario
) -> Iterator[_Steps]:
    """Yield the changes by detections that are compared with the true events."""
    length = nodes.offset - nodes.onset
    covered = _covered(nodes, truth, nodes.column)
    relevant = covered >= np.round(scenario.dtc * length, _DECIMALS)
    yield _lifetimes(nodes.where(~relevant), classes, "false")
    yield _found(nodes.where(relevant), truth, scenario.gtc)
    if scenario.cttc is None:
        return
    # Pairs of a false positive and another class with true events in the same recording.
    wrong = nodes.where(~relevant)
    columns = np.unique(truth.column)
    recording = columns // classes
    begin, end = _range(recording, wrong.column // classes)
    which, within = _expanded(end - begin)
    pairs, other = wrong.where(which), columns[begin[which] + within]
    covered = _covered(pairs, truth, other)
    triggered = covered >= np.round(scenario.cttc * (pairs.offset - pairs.onset), _DECIMALS)
    triggered &= other != pairs.column
    yield _lifetimes(
        pairs.where(triggered), classes, "cross", (other % classes)[triggered].astype(np.int32)
    )


def _lifetimes(nodes: _Nodes, classes: int, count: str, other: np.ndarray | None = None) -> _Steps:
    """Return the changes of a count that nodes make while they exist."""
    ends = nodes.parent > -np.inf
    label, score = nodes.column % classes, nodes.level
    change = np.concatenate([np.ones(len(label), np.int8), np.full(ends.sum(), -1, np.int8)])
    more = {} if other is None else {"other": np.concatenate([other, other[ends]])}
    return _Steps.of(
        np.concatenate([label, label[ends]]),
        np.concatenate([score, nodes.parent[ends]]),
        **{count: change, **more},
    )


def _keys(column: np.ndarray, time: np.ndarray, latest: float) -> np.ndarray:
    """Return numbers that sort times by column.

    They are rounded, so that they only serve to find the neighbours of a time.
    """
    return column * (latest + 1.0) + time


def _covered(nodes: _Nodes, truth: _Truth, column: np.ndarray) -> np.ndarray:
    """Return the seconds of each node that the true events of a column cover, rounded."""
    latest = max(nodes.offset.max(initial=0), truth.offset.max(initial=0))
    onsets = _keys(truth.column, truth.onset, latest)
    length = truth.offset - truth.onset
    before = np.cumsum(length) - length

    def until(time: np.ndarray) -> np.ndarray:
        index = np.searchsorted(onsets, _keys(column, time, latest), "right") - 1
        at = np.maximum(index, 0)
        inside = np.clip(time - truth.onset[at], 0, length[at])
        # Of another column, all of the event lies before.
        inside = np.where(truth.column[at] == column, inside, length[at])
        return np.where(index < 0, 0.0, before[at] + inside)

    return np.round(until(nodes.offset) - until(nodes.onset), _DECIMALS)


def _found(nodes: _Nodes, truth: _Truth, gtc: float) -> _Steps:
    """Return the changes of detected true events by the detections that count for them."""
    latest = max(nodes.offset.max(initial=0), truth.offset.max(initial=0))
    # The events of a column do not overlap, so that those of a node follow one another.
    begin = np.searchsorted(
        _keys(truth.column, truth.offset, latest), _keys(nodes.column, nodes.onset, latest), "left"
    )
    end = np.searchsorted(
        _keys(truth.column, truth.onset, latest), _keys(nodes.column, nodes.offset, latest), "right"
    )
    which, within = _expanded(np.maximum(end - begin, 0))
    event = begin[which] + within
    common = np.minimum(nodes.offset[which], truth.offset[event])
    common -= np.maximum(nodes.onset[which], truth.onset[event])
    real = (common > 0) & (truth.column[event] == nodes.column[which])
    which, event, common = which[real], event[real], common[real]
    ends = nodes.parent[which] > -np.inf
    event = np.concatenate([event, event[ends]])
    score = np.concatenate([nodes.level[which], nodes.parent[which][ends]])
    change = np.concatenate([common, -common[ends]])
    order = np.lexsort((-score, event))
    event, score, change = event[order], score[order], change[order]
    # The sums start from 0 at each event, and count once all changes at a score have been made.
    total = np.cumsum(change)
    starts = np.flatnonzero(np.diff(event, prepend=-1))
    total -= np.repeat((total - change)[starts], np.diff([*starts, len(event)]))
    last = np.append((event[1:] != event[:-1]) | (score[1:] != score[:-1]), True)[: len(event)]
    event, score, total = event[last], score[last], total[last]
    wanted = np.round(gtc * (truth.offset - truth.onset), _DECIMALS)
    is_found = np.round(total, _DECIMALS) >= wanted[event]
    was_found = np.append(False, is_found[:-1])[: len(event)]
    was_found[np.diff(event, prepend=-1) != 0] = False
    changed = is_found != was_found
    return _Steps.of(
        truth.label[event[changed]],
        score[changed],
        true=np.where(is_found[changed], 1, -1),
    )


def _expanded(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for ``number[i]`` items of each i, the i of every item and its place among them."""
    which = np.repeat(np.arange(len(number)), number)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(number) - number, number)


def _curve(
    steps: _Steps, events: int, weights: np.ndarray, duration: float, most: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ROC curve of a class.

    It is rising rates of false positives per hour, and the share of true events that is detected
    up to each.
    """
    order = np.argsort(-steps.score, kind="stable")
    score = steps.score[order]
    starts = np.flatnonzero(np.append(True, score[1:] != score[:-1])[: len(score)])

    def counts(change: np.ndarray) -> np.ndarray:
        if not len(change):
            return np.zeros(1)
        return np.append(0.0, np.cumsum(np.add.reduceat(change[order], starts, dtype=float)))

    rates = counts(steps.false) / duration
    if steps.cross.any():
        rates = rates + np.maximum(counts(steps.cross * weights[steps.other]), 0)
    rates = rates * _HOUR
    shares = counts(steps.true) / events
    order = np.lexsort((shares, rates))
    rates, shares = rates[order], np.maximum.accumulate(shares[order])
    last = np.append(rates[1:] != rates[:-1], True) & (rates <= most)
    return rates[last], shares[last]


def _mean_curve(
    curves: Sequence[tuple[np.ndarray, np.ndarray]], alpha_st: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve of all classes: mean minus weighted standard deviation of their shares."""
    rates = np.unique(np.concatenate([rates for rates, _ in curves]))
    steps = np.stack([shares[np.searchsorted(own, rates, "right") - 1] for own, shares in curves])
    return rates, np.maximum(steps.mean(0) - alpha_st * steps.std(0), 0)


def _area(rates: np.ndarray, shares: np.ndarray, most: float) -> float:
    """Return the mean height of a curve of steps from 0 to a highest rate."""
    return float((np.diff(np.append(rates, most)) * shares).sum() / most)
