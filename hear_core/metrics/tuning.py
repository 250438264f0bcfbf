"""Tuning of event decoding on recordings with known events: thresholds by class, and parameters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hear_core.errors import ConfigError
from hear_core.events.change_points import ChangePoints
from hear_core.events.decoding import EventDecoding, SpanDecoder
from hear_core.events.spans import Spans
from hear_core.events.timed_scores import ScoredRecording, TimedScores
from hear_core.metrics.class_mean import ClassMean, class_mean
from hear_core.metrics.events import ONSETS_AND_OFFSETS, EventArrays, Matching, match_events

_TRIED = 32  # thresholds of each class

MEDIANS = tuple(EventDecoding(0.5, release=1.0, median=size) for size in (1, 5, 9, 15, 25))
"""Decodings with median filters of up to a second, for frames of 40 ms."""
CHANGE_POINTS = tuple(
    EventDecoding(0.5, change_points=ChangePoints(step, *merging))
    for step, merging in itertools.product(
        (0.32, 0.48, 0.64),
        [(value, math.inf) for value in (0.15, 0.2, 0.3)]
        + [(math.inf, value) for value in (1.5, 2.0, 3.0)],
    )
)
"""The decodings that Ebbers et al. (2024) choose from."""


class TunedDecoding(NamedTuple):
    """Event decoding that was chosen, with its scores on the recordings it was chosen with.

    Attributes:
        decoding: The decoding, with thresholds of all classes that have true events.
        f_measure: F-measure of the events of every class, NaN for those without true events.
    """

    decoding: EventDecoding
    f_measure: ClassMean


def tune_decoding(
    recordings: Sequence[ScoredRecording],
    candidates: Iterable[EventDecoding] = MEDIANS,
    matching: Matching = ONSETS_AND_OFFSETS,
) -> TunedDecoding:
    """Return the best of some decodings, each with the best threshold of every class.

    The best decoding has the highest mean F-measure over the classes, and the first of several such
    is taken. Thresholds are quantiles of the scores during true events. Of several that are
    equally good, the middle one is taken, so that scores of other recordings may differ a little.

    Args:
        recordings: Scores in [0, 1] and true events of every recording, all with the same labels.
            They must not be those that the network was trained on.
        candidates: Decodings to try, whose thresholds have no effect.
        matching: Tolerances within which an event is correct.

    Raises:
        ConfigError: There is not a true event, or not a candidate, labels differ, or an event has
            another label.
    """
    if not recordings or not any(recording.events for recording in recordings):
        msg = "event decoding is tuned on recordings with true events, and there are none"
        raise ConfigError(msg)
    labels = tuple(recordings[0].scores.labels)
    if any(tuple(recording.scores.labels) != labels for recording in recordings):
        msg = "all recordings must have the same labels"
        raise ConfigError(msg)
    truth = EventArrays.of([recording.events for recording in recordings], labels)
    thresholds = _thresholds(recordings, truth)
    tuned = [_tuned(recordings, truth, each, thresholds, matching) for each in candidates]
    if not tuned:
        msg = "there is not a decoding to try"
        raise ConfigError(msg)
    return max(tuned, key=lambda each: each.f_measure.mean)


def _thresholds(recordings: Sequence[ScoredRecording], truth: EventArrays) -> np.ndarray:
    """Return the thresholds to try, ascending, (classes, thresholds); NaN without true events."""
    classes = recordings[0].scores.scores.shape[1]
    found = np.full((classes, _TRIED), np.nan)
    during: dict[int, list[np.ndarray]] = {}
    for file, label, onset, offset in zip(*(field.tolist() for field in truth), strict=True):
        scores = recordings[file].scores
        inside = (scores.offset > onset) & (scores.onset < offset)
        during.setdefault(label, []).append(scores.scores[inside, label])
    for label, values in during.items():
        together = np.concatenate(values)
        if len(together):
            found[label] = np.quantile(together, np.linspace(0, 1, _TRIED))
    return found


def _tuned(
    recordings: Sequence[ScoredRecording],
    truth: EventArrays,
    decoding: EventDecoding,
    thresholds: np.ndarray,
    matching: Matching,
) -> TunedDecoding:
    """Return a decoding with the best thresholds."""
    labels = recordings[0].scores.labels
    present = np.flatnonzero(~np.isnan(thresholds[:, 0]))
    tried = thresholds[present]
    spans = [_spans(each.scores, present, decoding, tried) for each in recordings]
    file = np.repeat(np.arange(len(spans)), [len(each.column) for each in spans])
    column, onset, offset, _ = (np.concatenate(field) for field in zip(*spans, strict=True))
    order = np.argsort(column, kind="stable")
    bounds = np.searchsorted(column[order], np.arange(tried.size + 1))
    found = EventArrays(file[order], column[order], onset[order], offset[order])
    chosen: dict[str, float] = {}
    per_class = dict.fromkeys(labels, math.nan)
    for number, label in enumerate(present.tolist()):
        there = truth.of_label(label)
        scores = np.zeros(_TRIED)
        for index in range(_TRIED):
            place = slice(*bounds[number * _TRIED + index :][:2])
            some = EventArrays(*(field[place] for field in found))._replace(
                label=np.full(len(found.file[place]), label)
            )
            if len(some.file):
                scores[index] = match_events(some, there, matching)[0]
        best = np.flatnonzero(scores == scores.max())
        middle = best[len(best) // 2]
        chosen[labels[label]] = float(np.clip(round(tried[number, middle], 6), 0, 1))
        per_class[labels[label]] = float(scores[middle])
    return TunedDecoding(replace(decoding, thresholds=chosen), class_mean(per_class))


def _spans(
    scores: TimedScores, present: np.ndarray, decoding: EventDecoding, thresholds: np.ndarray
) -> Spans:
    """Return the events of classes at each of their thresholds, which are the columns."""
    rows = scores.scores[:, present]
    if decoding.change_points:  # whose times do not depend on the threshold
        spans = _decoded(scores, rows, decoding, np.zeros(len(present)))
        span, index = np.nonzero(spans.score[:, None] >= thresholds[spans.column])
        return spans.where(span)._replace(column=spans.column[span] * _TRIED + index)
    return _decoded(scores, np.repeat(rows, _TRIED, axis=1), decoding, thresholds.reshape(-1))


def _decoded(
    scores: TimedScores, rows: np.ndarray, decoding: EventDecoding, thresholds: np.ndarray
) -> Spans:
    decoder = SpanDecoder(decoding, thresholds)
    found = decoder.feed(rows, scores.onset, scores.offset), decoder.finish()
    return Spans(*map(np.concatenate, zip(*found, strict=True)))
