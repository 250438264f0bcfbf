"""The protocol of the evaluation: what is trained, what validation watches, and what is scored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hear_core.metrics.registry import METRICS
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.event_decoding import PostProcessing
from hear_eval.downstream.grid import Hyperparameters
from hear_eval.downstream.scoring import Scorer, make_scorer


class Job(NamedTuple):
    """A predictor to train.

    Args:
        fold: Index of the fold to train on.
        number: Index of the hyperparameters in the grid.
        point: Hyperparameters.
    """

    fold: int
    number: int
    point: Hyperparameters


class Outcome(NamedTuple):
    """A trained predictor.

    Args:
        score: Best validation score.
        epoch: Epoch of that score, from 0.
        setting: Best post-processing of events in that epoch.
        logits: Logits of the test split in that epoch, (rows, classes), float32.
        minutes: Minutes that the training took, together with the predictors trained at once.
    """

    score: float
    epoch: int
    setting: PostProcessing
    logits: np.ndarray
    minutes: float


class Criterion(NamedTuple):
    """The value that validation watches.

    Args:
        by_loss: Whether it is the loss instead of the first metric of the task.
        maximise: Whether higher is better.
        best: Value that cannot be exceeded.
    """

    by_loss: bool
    maximise: bool
    best: float

    def better(self, one: float, other: float) -> bool:
        """Return whether one value is strictly better than another."""
        return one > other if self.maximise else one < other


class Protocol(NamedTuple):
    """Protocol by which the predictors of a task are validated and tested.

    Args:
        criterion: The value that validation watches.
        scorers: Scorer of each split that is validated or tested on.
    """

    criterion: Criterion
    scorers: Mapping[str, Scorer]


def protocol_of(task: EmbeddedTask) -> Protocol:
    """Return the protocol of a task.

    Raises:
        TaskError: The post-processing of events in the task is not valid.
        ConfigError: A metric is unknown, or does not fit to the type of the task.
    """
    splits = [split for fold in task.description.folds for split in (*fold.valid, *fold.test)]
    scorers = {split: make_scorer(task, split) for split in dict.fromkeys(splits)}
    return Protocol(_criterion(task), scorers)


def _criterion(task: EmbeddedTask) -> Criterion:
    description = task.description
    if not description.metadata.get("use_scoring_for_early_stopping", True):
        return Criterion(by_loss=True, maximise=False, best=-math.inf)
    name = description.evaluation[0]
    if not METRICS[name].maximise:
        return Criterion(by_loss=False, maximise=False, best=0.0)
    return Criterion(by_loss=False, maximise=True, best=math.inf if name == "d_prime" else 1.0)
