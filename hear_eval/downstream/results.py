"""Results of an evaluation: scores as heareval writes them, and the predictions behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from hear_core.metrics.registry import METRICS
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.grid import Hyperparameters, as_heareval
from hear_eval.downstream.predictors import Loss
from hear_eval.downstream.protocol import Outcome, Protocol
from hear_eval.downstream.scoring import Scorer

_AGGREGATED = "aggregated_scores"
_NO_METRICS = ("test_loss", "test_score")


class Evaluation(NamedTuple):
    """The results of an evaluation.

    Args:
        scores: Content of heareval's ``test.predicted-scores.json``, except for the path.
        predictions: Predictions by test split: arrays ``target``, ``prediction`` and
            ``prediction_logit`` (rows, classes); for events also ``filename`` and ``timestamp`` of
            each row, and ``event_file``, ``event_label``, ``event_start`` and ``event_end`` in
            milliseconds.
    """

    scores: dict[str, Any]
    predictions: dict[str, dict[str, np.ndarray]]


def make_results(
    task: EmbeddedTask,
    point: Hyperparameters,
    outcomes: Sequence[Outcome],
    protocol: Protocol,
) -> Evaluation:
    """Score predictors on their test splits, and return the results as heareval writes them.

    Args:
        task: Task that was evaluated.
        point: Hyperparameters that were selected.
        outcomes: Trained predictor of each fold.
        protocol: Protocol by which the predictors are tested.
    """
    loss = Loss(multiclass=task.description.prediction_type == "multiclass")
    scores: dict[str, Any] = {}
    predictions = {}
    for fold, outcome in zip(task.description.folds, outcomes, strict=True):
        (name,) = fold.test
        targets = task.targets[task.rows[name]].cpu()
        logits = torch.from_numpy(outcome.logits)
        probabilities = loss.probabilities(logits).numpy()
        tested = protocol.scorers[name].test(probabilities, outcome.setting)
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
            **_events(task, name, protocol.scorers[name], probabilities, outcome),
        }
    if len(scores) > 1:
        scores[_AGGREGATED] = aggregate([*scores.values()])
    scores |= {
        "hparams": as_heareval(point),
        "postprocessing": [list(pair) for pair in outcomes[0].setting],
        "score_mode": "max" if protocol.criterion.maximise else "min",
    }
    return Evaluation(scores, predictions)


def _events(
    task: EmbeddedTask, split: str, scorer: Scorer, probabilities: np.ndarray, outcome: Outcome
) -> dict[str, np.ndarray]:
    """Return the rows of predictions, and the events that they are decoded to."""
    if (found := scorer.events(probabilities, outcome.setting)) is None:
        return {}
    names, events = found
    event_rows = task.event_rows[split]
    return {
        "filename": np.array(event_rows.files),
        "timestamp": event_rows.timestamps,
        "event_file": np.array(names)[events.file],
        "event_label": np.array(task.description.vocabulary)[events.label],
        "event_start": events.onset * 1000,
        "event_end": events.offset * 1000,
    }


class FoldScores(NamedTuple):
    """The values of a metric in the folds of a task.

    heareval leaves undefined values out of its ``aggregated_scores``, so that a predictor that
    detects nothing in most folds may seem good. Here they count as the worst value.

    Args:
        metric: Name of the metric.
        values: Value in each fold; an undefined one is the worst value of the metric.
        undefined: Number of folds in which it is undefined.
        lower_is_better: Whether lower is better.
    """

    metric: str
    values: tuple[float, ...]
    undefined: int
    lower_is_better: bool

    @property
    def mean(self) -> float:
        """Mean over the folds."""
        return _mean_and_std(self.values)[0]

    @property
    def std(self) -> float | None:
        """Standard deviation over the folds; None if there is only one."""
        return _mean_and_std(self.values)[1] if len(self.values) > 1 else None

    @property
    def remark(self) -> str:
        """Sentence about the folds in which it is undefined; empty if there are none."""
        if not self.undefined:
            return ""
        return (
            f"{self.metric} is undefined in {self.undefined} of {len(self.values)} folds, and "
            f"counts as {_worst(self.lower_is_better):g} there"
        )


def tested_folds(scores: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the folds that were tested on, from a ``test.predicted-scores.json``."""
    return {
        name: fold
        for name, fold in scores.items()
        if name != _AGGREGATED and isinstance(fold, dict) and "test_score" in fold
    }


def metric_names(scores: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics of a task; the first is the main one."""
    fold = next(iter(tested_folds(scores).values()), {})
    names = (name for name in fold if name.startswith("test_") and name not in _NO_METRICS)
    return [name.removeprefix("test_") for name in names]


def fold_scores(scores: Mapping[str, Any], metric: str = "") -> FoldScores:
    """Return the values of a metric in the folds of a task, by default of the main metric."""
    found = [float(f[f"test_{metric or 'score'}"]) for f in tested_folds(scores).values()]
    metric = metric or next(iter(metric_names(scores)), "")
    # The mode that heareval writes is that of what validation watched, which may be the loss.
    known = [not score.maximise for name, score in METRICS.items() if metric.startswith(name)]
    lower_is_better = known[0] if known else scores.get("score_mode") == "min"
    values = tuple(_worst(lower_is_better) if math.isnan(v) else v for v in found)
    return FoldScores(metric, values, sum(map(math.isnan, found)), lower_is_better)


def _worst(lower_is_better: bool) -> float:
    return math.inf if lower_is_better else 0.0


def primary_score(scores: Mapping[str, Any]) -> float:
    """Return the main metric of a task, as the mean over its folds."""
    return fold_scores(scores).mean


def aggregate(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean and standard deviation of metrics over the folds where they are defined."""
    found = {}
    for name in folds[0]:
        values = [fold[name] for fold in folds if not math.isnan(fold[name])]
        found[f"{name}_mean"], found[f"{name}_std"] = _mean_and_std(values)
    return found


def _mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation; NaN if there are too few values."""
    with np.errstate(invalid="ignore"):  # where some are infinite
        mean = float(np.mean(values)) if values else math.nan
        std = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return mean, std
