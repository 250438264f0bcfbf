"""Metrics of clips: accuracy, average precision, area under the ROC curve, d'.

Every function takes the predictions of any number of models at once and gives the numbers of
scikit-learn, which heareval's ``score.py`` calls.
"""

from __future__ import annotations

import numpy as np
import torch


def accuracy(predictions: np.ndarray, targets: np.ndarray, octave: int = 0) -> np.ndarray:
    """Return the share of clips whose most probable class is the target.

    Args:
        predictions: Scores, (..., clips, classes).
        targets: Targets (clips, classes), 0 or 1.
        octave: Classes whose indices differ by a multiple of this count as the same, as pitches
            that share a chroma; 0 keeps all classes apart.
    """
    predicted, wanted = predictions.argmax(-1), targets.argmax(-1)
    if octave:
        predicted, wanted = predicted % octave, wanted % octave
    return (predicted == wanted).mean(-1)


def average_precisions(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the average precision of every class, (..., classes).

    It is 0 for a class without any positive clip, and NaN where a prediction is NaN.

    Args:
        predictions: Scores, (..., clips, classes).
        targets: Targets (clips, classes), 0 or 1.
    """
    ranked, hits = _ranked(-predictions, targets)
    # Clips with equal predictions share a rank, the last of theirs.
    last = _last_of_ties(ranked)
    found = np.take_along_axis(hits.cumsum(-1), last, -1)
    precisions = (hits * found / (last + 1)).sum(-1) / np.maximum(hits.sum(-1), 1)
    return _nan_like(precisions, predictions)


def mean_average_precision(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the mean of `average_precisions` over all classes, absent ones as 0."""
    return average_precisions(predictions, targets).mean(-1)


def areas_under_roc(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve of every class; NaN where all targets are the same.

    Args:
        predictions: Scores, (..., clips, classes).
        targets: Targets (clips, classes), 0 or 1.
    """
    ranked, hits = _ranked(predictions, targets)
    # The share of pairs of a positive and a negative clip in the right order; a tie is half a pair.
    last = _last_of_ties(ranked)
    first = ranked.shape[-1] - 1 - _last_of_ties(ranked[..., ::-1])[..., ::-1]
    ranks = (first + last) / 2 + 1
    positive = hits.sum(-1)
    negative = hits.shape[-1] - positive
    pairs = (ranks * hits).sum(-1) - positive * (positive + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return _nan_like(pairs / (positive * negative), predictions)


def area_under_roc(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the mean of `areas_under_roc` over the classes."""
    return areas_under_roc(predictions, targets).mean(-1)


def d_prime(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the mean of d' over the classes; an area under the curve of 1 gives infinity."""
    areas = torch.from_numpy(areas_under_roc(predictions, targets))
    return (torch.special.ndtri(areas) * 2**0.5).mean(-1).numpy()


def _ranked(predictions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and targets by class, (..., classes, clips), sorted by prediction."""
    by_class = np.ascontiguousarray(np.swapaxes(predictions, -1, -2))
    order = by_class.argsort(-1, kind="stable")
    hits = np.broadcast_to(targets.T, by_class.shape)
    return np.take_along_axis(by_class, order, -1), np.take_along_axis(hits, order, -1).astype(int)


def _last_of_ties(ranked: np.ndarray) -> np.ndarray:
    """Return, for each of sorted values, the index of the last one that equals it."""
    clips = ranked.shape[-1]
    ends = np.ones(ranked.shape, bool)
    ends[..., :-1] = ranked[..., 1:] != ranked[..., :-1]
    index = np.where(ends, np.arange(clips), clips - 1)
    return np.minimum.accumulate(index[..., ::-1], -1)[..., ::-1]


def _nan_like(values: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return values of classes, but NaN for those with a prediction that is NaN."""
    return np.where(np.isnan(predictions).any(-2), np.nan, values)
