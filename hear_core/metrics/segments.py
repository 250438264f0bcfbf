"""Metrics of segments: recordings cut into short stretches, each with or without a class."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hear_core.errors import ConfigError
from hear_core.events.timed_scores import ScoredRecording
from hear_core.metrics.class_mean import ClassMean, class_mean

_DECIMALS = 6  # of times in seconds


def segment_scores(
    recordings: Iterable[ScoredRecording], seconds: float = 1.0
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return scores and targets of the segments of all recordings.

    Args:
        recordings: Scores and true events of every recording, all with the same labels.
        seconds: Length of a segment. The last one of a recording may be longer than its rest.

    Returns:
        Names of the classes; the highest score of a class in the frames that overlap a segment,
        (segments, classes); and whether a true event of the class overlaps it, (segments, classes).

    Raises:
        ConfigError: There is not a recording, labels differ, or an event has another label.
    """
    labels, values, targets = tuple[str, ...](), list[np.ndarray](), list[np.ndarray]()
    for recording in recordings:
        scores = recording.scores
        labels = labels or tuple(scores.labels)
        index = {label: number for number, label in enumerate(labels)}
        if tuple(scores.labels) != labels:
            msg = "all recordings must have the same labels"
            raise ConfigError(msg)
        count = int(np.ceil(recording.seconds / seconds))
        bounds = np.round(np.arange(count + 1) * seconds, _DECIMALS)
        edges = np.round(scores.edges, _DECIMALS)
        last = len(edges) - 1
        begin = np.maximum(np.searchsorted(edges, bounds[:-1], "right") - 1, 0)
        end = np.minimum(np.searchsorted(edges, bounds[1:], "left"), last)
        # A row after the last one, so that a segment may end there.
        padded = np.concatenate([scores.scores, scores.scores[:1]])
        highest = np.maximum.reduceat(padded, np.stack([begin, end], 1).reshape(-1))[::2]
        values.append(np.where((end > begin)[:, None], highest, 0))
        target = np.zeros((count, len(labels)), bool)
        for event in recording.events:
            if event.label not in index:
                msg = f"a true event has the label {event.label!r}, which has no scores"
                raise ConfigError(msg)
            overlaps = (bounds[:-1] < event.offset) & (bounds[1:] > event.onset)
            target[overlaps, index[event.label]] = True
        targets.append(target)
    if not values:
        msg = "segments need at least one recording"
        raise ConfigError(msg)
    return labels, np.concatenate(values), np.concatenate(targets)


def segment_area_under_roc(
    recordings: Iterable[ScoredRecording], *, max_fpr: float = 0.1, seconds: float = 1.0
) -> ClassMean:
    """Return the partial area under the ROC curve of segments (pAUROC).

    It is the mean share of positive segments that is found while the share of negative segments
    that is found, too, goes from 0 to `max_fpr`. Chance level is half of `max_fpr`. It is not
    defined for classes that are in all segments or in none. The curve is linear between points, as
    in scikit-learn and in ``sed_scores_eval`` since 2025; earlier versions of the latter, with
    which the numbers of EfficientSED were computed, took steps, which gives a little less.

    Args:
        recordings: Scores and true events of every recording, all with the same labels.
        max_fpr: Largest rate of false positives, above 0 and at most 1.
        seconds: Length of a segment.

    Raises:
        ConfigError: There is not a recording, labels differ, an event has another label, or
            `max_fpr` is out of range.
    """
    if not 0 < max_fpr <= 1:
        msg = f"max_fpr must be above 0 and at most 1, but is {max_fpr}"
        raise ConfigError(msg)
    labels, scores, targets = segment_scores(recordings, seconds)
    columns = zip(labels, scores.T, targets.T, strict=True)
    return class_mean(
        {label: _partial_area(values, target, max_fpr) for label, values, target in columns}
    )


def _partial_area(scores: np.ndarray, targets: np.ndarray, max_fpr: float) -> float:
    """Return the area under the ROC curve up to a rate of false positives, divided by that rate."""
    positive = int(targets.sum())
    negative = len(targets) - positive
    if not positive or not negative:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], targets[order]
    ends = np.append(ranked[1:] != ranked[:-1], True)
    found = np.append(0, np.cumsum(hits)[ends]) / positive
    false = np.append(0, np.cumsum(~hits)[ends]) / negative
    whole = int(np.searchsorted(false, max_fpr, "right"))
    height = found[-1]
    if whole < len(false):
        share = (max_fpr - false[whole - 1]) / (false[whole] - false[whole - 1])
        height = found[whole - 1] + share * (found[whole] - found[whole - 1])
    false, found = np.append(false[:whole], max_fpr), np.append(found[:whole], height)
    return float((np.diff(false) * (found[1:] + found[:-1])).sum() / 2 / max_fpr)
