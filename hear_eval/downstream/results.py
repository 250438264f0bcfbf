"""What comes of an evaluation: scores as heareval writes them, and the predictions behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from hear_core.metrics.registry import METRICS
from hear_eval.downstream.early_stopping import Criterion, Outcome
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.grid import Point, hparams
from hear_eval.downstream.judging import Judge
from hear_eval.downstream.predictors import Loss

_AGGREGATED = "aggregated_scores"
_NO_METRICS = ("test_loss", "test_score")


class Evaluation(NamedTuple):
    """What came of an evaluation.

    Args:
        scores: What heareval writes into its ``test.predicted-scores.json``, apart from the path.
        predictions: By test split: arrays ``target``, ``prediction`` and ``prediction_logit``
            (rows, classes); of events also ``filename`` and ``timestamp`` of each row, and
            ``event_file``, ``event_label``, ``event_start`` and ``event_end`` in milliseconds.
    """

    scores: dict[str, Any]
    predictions: dict[str, dict[str, np.ndarray]]


def put_together(
    task: EmbeddedTask,
    point: Point,
    outcomes: Sequence[Outcome],
    judges: Mapping[str, Judge],
    criterion: Criterion,
) -> Evaluation:
    """Score predictors on their test splits, and put together what heareval writes."""
    loss = Loss(multiclass=task.description.prediction_type == "multiclass")
    scores: dict[str, Any] = {}
    predictions = {}
    for fold, outcome in zip(task.description.folds, outcomes, strict=True):
        (name,) = fold.test
        targets = task.targets[task.rows[name]].cpu()
        logits = torch.from_numpy(outcome.logits)
        probabilities = loss.probabilities(logits).numpy()
        tested = judges[name].test(probabilities, outcome.setting)
        scores[name] = {
            "test_loss": float(loss(logits.T[None], loss.targets(targets))),
            "test_score": tested[task.description.evaluation[0]],
            **{f"test_{score}": value for score, value in tested.items()},
            "validation_score": outcome.score,
            "epoch": outcome.epoch,
            "time_in_min": outcome.minutes,
        }
        predictions[name] = {
            "target": targets.numpy(),
            "prediction": probabilities,
            "prediction_logit": outcome.logits,
            **_events(task, name, judges[name], probabilities, outcome),
        }
    if len(scores) > 1:
        scores[_AGGREGATED] = aggregate([*scores.values()])
    scores |= {
        "hparams": hparams(point),
        "postprocessing": [list(pair) for pair in outcomes[0].setting],
        "score_mode": "max" if criterion.maximise else "min",
    }
    return Evaluation(scores, predictions)


def _events(
    task: EmbeddedTask, split: str, judge: Judge, probabilities: np.ndarray, outcome: Outcome
) -> dict[str, np.ndarray]:
    """Return where predictions stand, and the events found in them."""
    if (found := judge.events(probabilities, outcome.setting)) is None:
        return {}
    names, events = found
    moments = task.moments[split]
    return {
        "filename": np.array(moments.files),
        "timestamp": moments.timestamps,
        "event_file": np.array(names)[events.file],
        "event_label": np.array(task.description.vocabulary)[events.label],
        "event_start": events.onset * 1000,
        "event_end": events.offset * 1000,
    }


class Folds(NamedTuple):
    """What a score is in the folds of a task.

    heareval leaves undefined ones out of its ``aggregated_scores``, so that a predictor which
    detects nothing in most folds may seem good. Here they count.

    Args:
        metric: Name of the score.
        values: In each fold that was tested on; where it is undefined, the worst that it can be.
        undefined: Number of folds in which it is.
        lower_is_better: Whether it is an error.
    """

    metric: str
    values: tuple[float, ...]
    undefined: int
    lower_is_better: bool

    @property
    def mean(self) -> float:
        """Over the folds."""
        return _mean_and_std(self.values)[0]

    @property
    def std(self) -> float | None:
        """Deviation between the folds; None if there is but one."""
        return _mean_and_std(self.values)[1] if len(self.values) > 1 else None

    @property
    def remark(self) -> str:
        """What is to be said of folds in which it is undefined; empty if there are none."""
        if not self.undefined:
            return ""
        return (
            f"{self.metric} is undefined in {self.undefined} of {len(self.values)} folds, and "
            f"counts as {_worst(self.lower_is_better):g} there"
        )


def tested(scores: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the folds that were tested on, of what stands in ``test.predicted-scores.json``."""
    return {
        name: fold
        for name, fold in scores.items()
        if name != _AGGREGATED and isinstance(fold, dict) and "test_score" in fold
    }


def metrics(scores: Mapping[str, Any]) -> list[str]:
    """Return the names of the scores of a task; by the first it is judged."""
    fold = next(iter(tested(scores).values()), {})
    names = (name for name in fold if name.startswith("test_") and name not in _NO_METRICS)
    return [name.removeprefix("test_") for name in names]


def folds_of(scores: Mapping[str, Any], metric: str = "") -> Folds:
    """Return a score of a task in its folds, by default that which the task is judged by."""
    found = [float(f[f"test_{metric or 'score'}"]) for f in tested(scores).values()]
    metric = metric or next(iter(metrics(scores)), "")
    # That of heareval is the mode of what was watched in validation, which may be the loss.
    known = [not score.maximise for name, score in METRICS.items() if metric.startswith(name)]
    lower_is_better = known[0] if known else scores.get("score_mode") == "min"
    values = tuple(_worst(lower_is_better) if math.isnan(v) else v for v in found)
    return Folds(metric, values, sum(map(math.isnan, found)), lower_is_better)


def _worst(lower_is_better: bool) -> float:
    return math.inf if lower_is_better else 0.0


def primary_score(scores: Mapping[str, Any]) -> float:
    """Return the score that a task is judged by: the mean over its folds."""
    return folds_of(scores).mean


def aggregate(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return mean and standard deviation over folds, of those that have a number."""
    found = {}
    for name in folds[0]:
        values = [fold[name] for fold in folds if not math.isnan(fold[name])]
        found[f"{name}_mean"], found[f"{name}_std"] = _mean_and_std(values)
    return found


def _mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Return both, as far as there are values enough; else NaN."""
    with np.errstate(invalid="ignore"):  # where some are infinite
        mean = float(np.mean(values)) if values else math.nan
        std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return mean, std
