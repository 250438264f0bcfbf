"""What comes of an evaluation: scores as heareval writes them, and the predictions behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from hear_eval.downstream.early_stopping import Criterion, Outcome
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.grid import Point, hparams
from hear_eval.downstream.judging import Judge
from hear_eval.downstream.predictors import Loss


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
        scores["aggregated_scores"] = aggregate([*scores.values()])
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


def primary_score(scores: Mapping[str, Any]) -> float:
    """Return the score that a task is judged by, the mean over its folds.

    A fold whose score is undefined, as an F-measure is where nothing was detected, counts as 0.
    """
    folds = [fold for fold in scores.values() if isinstance(fold, dict) and "test_score" in fold]
    values = [float(fold["test_score"]) for fold in folds]
    return math.fsum(value for value in values if not math.isnan(value)) / len(values)


def aggregate(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return mean and standard deviation over folds, of those that have a number."""
    found = {}
    for name in folds[0]:
        values = [fold[name] for fold in folds if not math.isnan(fold[name])]
        with np.errstate(invalid="ignore"):  # of infinite ones
            found[f"{name}_mean"] = float(np.mean(values)) if values else math.nan
            found[f"{name}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return found
