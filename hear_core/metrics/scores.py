"""The scores of HEAR: how good predictions are.

The scores of clips take the predictions of any number of models at once. Those of events are in
`hear_core.metrics.events`. Both give the numbers of heareval's ``score.py``, which asks
scikit-learn and sed_eval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from hear_core.errors import ConfigError, unknown
from hear_core.metrics.events import Matching, Timeline, match_events, segment_error_rate

_OCTAVE = 12  # classes of a pitch task are semitones


def accuracy(predictions: np.ndarray, targets: np.ndarray, octave: int = 0) -> np.ndarray:
    """Return the share of clips whose likeliest class is the right one.

    Args:
        predictions: (…, clips, classes).
        targets: (clips, classes), 0 or 1.
        octave: Classes that are as far apart as this count as the same; 0 if none do.
    """
    found, wanted = predictions.argmax(-1), targets.argmax(-1)
    if octave:
        found, wanted = found % octave, wanted % octave
    return (found == wanted).mean(-1)


def average_precision(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the mean over classes of their average precision; that of an absent class is 0.

    Args:
        predictions: (…, clips, classes).
        targets: (clips, classes), 0 or 1.
    """
    ranked, hits = _ranked(-predictions, targets)
    # Clips of one prediction share a rank, the last of theirs.
    last = _last_of_ties(ranked)
    found = np.take_along_axis(hits.cumsum(-1), last, -1)
    total = hits.sum(-1)
    precisions = (hits * found / (last + 1)).sum(-1) / np.maximum(total, 1)
    return _known(precisions, predictions).mean(-1)


def areas_under_roc(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve of every class; NaN where all targets are the same.

    Args:
        predictions: (…, clips, classes).
        targets: (clips, classes), 0 or 1.
    """
    ranked, hits = _ranked(predictions, targets)
    # The share of pairs of a hit and a miss that are in the right order; a tie is half of one.
    last = _last_of_ties(ranked)
    first = ranked.shape[-1] - 1 - _last_of_ties(ranked[..., ::-1])[..., ::-1]
    ranks = (first + last) / 2 + 1
    positive = hits.sum(-1)
    negative = hits.shape[-1] - positive
    pairs = (ranks * hits).sum(-1) - positive * (positive + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return _known(pairs / (positive * negative), predictions)


def area_under_roc(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the mean of `areas_under_roc`."""
    return areas_under_roc(predictions, targets).mean(-1)


def d_prime(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the mean over classes of d', in which an area under the curve of 1 is infinite."""
    areas = torch.from_numpy(areas_under_roc(predictions, targets))
    return (torch.special.ndtri(areas) * 2**0.5).mean(-1).numpy()


def _ranked(predictions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and targets of each class, (…, classes, clips), by the prediction."""
    by_class = np.ascontiguousarray(np.swapaxes(predictions, -1, -2))
    order = by_class.argsort(-1, kind="stable")
    hits = np.broadcast_to(targets.T, by_class.shape)
    return np.take_along_axis(by_class, order, -1), np.take_along_axis(hits, order, -1).astype(int)


def _last_of_ties(ranked: np.ndarray) -> np.ndarray:
    """Return, for each of ranked values, the index of the last that equals it."""
    clips = ranked.shape[-1]
    ends = np.ones(ranked.shape, bool)
    ends[..., :-1] = ranked[..., 1:] != ranked[..., :-1]
    index = np.where(ends, np.arange(clips), clips - 1)
    return np.minimum.accumulate(index[..., ::-1], -1)[..., ::-1]


def _known(values: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Return values of classes, or NaN where there are predictions that are no number."""
    return np.where(np.isnan(predictions).any(-2), np.nan, values)


class Score(NamedTuple):
    """One way to score predictions.

    Args:
        compute: Function of predictions and targets: for clips, arrays as in `accuracy`, one score
            for each model; for events, two timelines, one score for each part.
        events: Whether it scores events.
        parts: What a score of events consists of; the first stands for it.
        maximise: Whether more is better.
    """

    compute: Callable[..., np.ndarray]
    events: bool = False
    parts: tuple[str, ...] = ()
    maximise: bool = True


def _f_measure(matching: Matching, estimated: Timeline, reference: Timeline) -> np.ndarray:
    return np.array(match_events(estimated, reference, matching))


def _error_rate(estimated: Timeline, reference: Timeline) -> np.ndarray:
    return np.array([segment_error_rate(estimated, reference)])


def _event_based(matching: Matching) -> Score:
    parts = ("f_measure", "precision", "recall")
    return Score(partial(_f_measure, matching), events=True, parts=parts)


# By the names of HEAR; the numbers in them are what they allow.
SCORES = {
    "top1_acc": Score(accuracy),
    "pitch_acc": Score(accuracy),
    "chroma_acc": Score(partial(accuracy, octave=_OCTAVE)),
    "mAP": Score(average_precision),
    "d_prime": Score(d_prime),
    "aucroc": Score(area_under_roc),
    "event_onset_200ms_fms": _event_based(Matching(0.2)),
    "event_onset_50ms_fms": _event_based(Matching(0.05)),
    "event_onset_offset_50ms_20perc_fms": _event_based(Matching(0.05, 0.2)),
    "segment_1s_er": Score(_error_rate, events=True, parts=("error_rate",), maximise=False),
}


def find_scores(names: Iterable[str], *, events: bool) -> dict[str, Score]:
    """Return scores by their names.

    Raises:
        ConfigError: There is no such score, or it is not one of what is predicted.
    """
    found = {}
    for name in names:
        if name not in SCORES:
            raise ConfigError(unknown("score", name, SCORES))
        found[name] = SCORES[name]
        if found[name].events != events:
            msg = f"{name} is a score of {'clips' if events else 'events'}, which are not predicted"
            raise ConfigError(msg)
    return found
