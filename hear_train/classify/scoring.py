"""Scoring of a classifier: thresholds of classes, and what is right and wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hear_core.metrics.ranking import average_precisions

_LOWEST, _HIGHEST = 0.01, 0.99  # thresholds are probabilities between these
_DEFAULT = 0.5


class Units(NamedTuple):
    """Units that are scored: labelled clips as a whole, and every window of background.

    Attributes:
        clips: Index of the clip of each unit, (units,).
        start: Start of each unit in its clip in seconds, (units,).
        end: End of each unit in seconds, (units,).
        targets: Classes of the units, (units, classes), float32; all 0 for background.
        folds: Fold of each unit, (units,).
    """

    clips: np.ndarray
    start: np.ndarray
    end: np.ndarray
    targets: np.ndarray
    folds: np.ndarray

    @property
    def background(self) -> np.ndarray:
        """Whether each unit is background, (units,), bool."""
        return np.logical_not(self.targets.any(1))

    def select(self, rows: np.ndarray) -> Units:
        """Return some of the units."""
        return Units(*(part[rows] for part in self))


def unit_of_windows(clips: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return the unit that each window belongs to, (windows,), from 0.

    Args:
        clips: Index of the clip of each window, in ascending order, (windows,).
        background: Whether each window is background, (windows,).
    """
    begins = np.append(True, clips[1:] != clips[:-1]) | background
    return begins.cumsum() - 1


def mean_by_unit(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return the means of the windows of each unit, (units, ...), as `EATagger.clip` does.

    Args:
        values: Values of the windows, (windows, ...).
        units: Unit of each window, in ascending order, (windows,).
    """
    sums = np.add.reduceat(values, np.flatnonzero(np.append(True, units[1:] != units[:-1])), 0)
    counts = np.bincount(units).reshape(-1, *[1] * (values.ndim - 1))
    return (sums / counts).astype(values.dtype)


def best_threshold(
    logits: np.ndarray, present: np.ndarray, background: np.ndarray, most: float = np.inf
) -> float:
    """Return the threshold of a class with the highest F1, as a probability.

    It is in the middle between the two logits that it separates; of equally good ones, the one with
    the widest gap is chosen.

    Args:
        logits: Logits of the class, (units,).
        present: Whether each unit has the class, (units,), bool.
        background: Whether each unit is background, (units,), bool.
        most: Largest number of units of background that may reach the threshold.
    """
    if not present.any():
        return _DEFAULT
    order = np.argsort(-logits, kind="stable")
    ranked, hits = logits[order].astype(float), present[order]
    count = np.arange(len(ranked) + 1)
    found = np.append(0, hits.cumsum())
    alarms = np.append(0, background[order].cumsum())
    scores = 2 * found / (count + hits.sum())
    above, below = np.append(ranked[0] + 2, ranked), np.append(ranked, ranked[-1] - 2)
    gaps = above - below
    scores[(gaps <= 0) | (alarms > most)] = -1
    best = np.flatnonzero(scores == scores.max())
    chosen = best[np.argmax(gaps[best])]
    middle = (above[chosen] + below[chosen]) / 2
    return float(np.clip(1 / (1 + np.exp(-middle)), _LOWEST, _HIGHEST))


def best_thresholds(
    logits: np.ndarray, units: Units, false_alarms: float | None = None
) -> np.ndarray:
    """Return the best threshold of every class, (classes,), see `best_threshold`.

    Args:
        logits: Logits (units, classes).
        units: The units.
        false_alarms: Largest number of false alarms per hour of background and class; None sets no
            limit.
    """
    background, present = units.background, units.targets > 0
    hours = float((units.end - units.start)[background].sum()) / 3600
    most = np.inf if false_alarms is None else false_alarms * hours
    return np.array(
        [
            best_threshold(logits[:, index], present[:, index], background, most)
            for index in range(logits.shape[1])
        ]
    )


class ClassScores(NamedTuple):
    """Scores of a class.

    Attributes:
        label: Name of the class.
        clips: Number of clips with the class.
        precision: Share of the clips found that have it; NaN if none was found.
        recall: Share of the clips with it that were found; NaN if there are none.
        f1: Harmonic mean of both.
        average_precision: Average precision; NaN if there are no clips with it.
        threshold: Score from which it counts as present.
        false_alarms: False alarms per hour of background; NaN without background.
    """

    label: str
    clips: int
    precision: float
    recall: float
    f1: float
    average_precision: float
    threshold: float
    false_alarms: float


class Scored(NamedTuple):
    """Scores of a classifier on units.

    Attributes:
        classes: Scores of every class.
        accuracy: Share of the clips of a single class whose highest score is that class; NaN if
            there are none.
        accuracies: The same by fold, for those with such clips.
        mAP: Mean average precision of the classes with clips.
        false_alarms: False alarms of all classes per hour of background; NaN without background.
        background_hours: Length of the background in hours.
        confusion: Number of units by true class (rows; the last is background) and detected class
            (columns; the last for units without one), for units with at most one class.
    """

    classes: tuple[ClassScores, ...]
    accuracy: float
    accuracies: dict[int, float]
    mAP: float  # noqa: N815
    false_alarms: float
    background_hours: float
    confusion: np.ndarray


def score_units(
    labels: Sequence[str],
    units: Units,
    logits: np.ndarray,
    thresholds: np.ndarray,
    detected: np.ndarray,
) -> Scored:
    """Return the scores of a classifier.

    Args:
        labels: Names of the classes.
        units: The units.
        logits: Logits (units, classes).
        thresholds: Thresholds to report, (classes,).
        detected: Whether each class reaches its threshold, (units, classes), bool.
    """
    present, background = units.targets > 0, units.background
    hours = float((units.end - units.start)[background].sum()) / 3600
    precisions = average_precisions(logits, units.targets)
    alarms = detected[background].sum(0)
    rows = []
    for index, label in enumerate(labels):
        found, there = int(detected[:, index].sum()), int(present[:, index].sum())
        hits = int((detected & present)[:, index].sum())
        rows.append(
            ClassScores(
                label,
                there,
                hits / found if found else np.nan,
                hits / there if there else np.nan,
                2 * hits / (found + there) if found + there else np.nan,
                float(precisions[index]) if there else np.nan,
                float(thresholds[index]),
                float(alarms[index]) / hours if hours else np.nan,
            )
        )
    single = present.sum(1) == 1
    right = logits.argmax(1) == present.argmax(1)
    folds = np.unique(units.folds[single]).tolist()
    known = [row.average_precision for row in rows if row.clips]
    return Scored(
        tuple(rows),
        float(right[single].mean()) if single.any() else np.nan,
        {fold: float(right[single & (units.folds == fold)].mean()) for fold in folds},
        float(np.mean(known)) if known else np.nan,
        float(alarms.sum()) / hours if hours else np.nan,
        hours,
        _confusion(present, logits, detected),
    )


def _confusion(present: np.ndarray, logits: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """Return the numbers of units by true and detected class, see `Scored`."""
    count = present.shape[1]
    counted = present.sum(1) <= 1
    true = np.where(present.any(1), present.argmax(1), count)
    highest = np.where(detected, logits, -np.inf).argmax(1)
    found = np.where(detected.any(1), highest, count)
    matrix = np.zeros((count + 1, count + 1), int)
    np.add.at(matrix, (true[counted], found[counted]), 1)
    return matrix
