"""When training of a predictor ends, and which of its epochs is the best.

That is heareval's way and that of the Lightning it uses: a score must get strictly better, training
ends after some validations in which it did not, and with one that is not finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hear_core.metrics.registry import METRICS
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.event_decoding import Setting
from hear_eval.downstream.grid import Point


class Job(NamedTuple):
    """One predictor to be trained.

    Args:
        fold: Number of the fold that it is trained on.
        number: Of its point in the grid.
        point: How it is trained.
    """

    fold: int
    number: int
    point: Point


class Outcome(NamedTuple):
    """What became of a predictor.

    Args:
        score: Its best in validation.
        epoch: That it was reached in, from 0 on.
        setting: Post-processing of events that was best then.
        logits: For its test split then (rows, classes), float32.
        minutes: That it took, together with those trained beside it.
    """

    score: float
    epoch: int
    setting: Setting
    logits: np.ndarray
    minutes: float


class Criterion(NamedTuple):
    """What is watched in validation.

    Args:
        by_loss: Whether it is the loss, and not the first score of the task.
        maximise: Whether more is better.
        best: What nothing can be better than.
    """

    by_loss: bool
    maximise: bool
    best: float

    def better(self, one: float, other: float) -> bool:
        """Tell whether one value is strictly better than another."""
        return one > other if self.maximise else one < other


def criterion_of(task: EmbeddedTask) -> Criterion:
    """Return what is watched in the validation of a task."""
    description = task.description
    if not description.metadata.get("use_scoring_for_early_stopping", True):
        return Criterion(by_loss=True, maximise=False, best=-math.inf)
    name = description.evaluation[0]
    if not METRICS[name].maximise:
        return Criterion(by_loss=False, maximise=False, best=0.0)
    return Criterion(by_loss=False, maximise=True, best=math.inf if name == "d_prime" else 1.0)


@dataclass
class Candidate:
    """A predictor that is being trained, and what is known of its best epoch."""

    job: Job
    best: float
    epoch: int = -1
    setting: Setting = ()
    logits: np.ndarray | None = None
    waited: int = 0
    stops: bool = False
    beaten: bool = False
    minutes: float = 0.0

    def take(self, value: float, setting: Setting, epoch: int, criterion: Criterion) -> bool:
        """Take what validation found, and return whether this is the best epoch by now.

        The first is that in any case, even if there is no number for it.
        """
        improved = self.epoch < 0 or criterion.better(value, self.best)
        if improved:
            self.epoch, self.setting, self.waited = epoch, setting, 0
            self.best = self.best if math.isnan(value) else value
        else:
            self.waited += 1
        self.stops = (
            not math.isfinite(value)
            or self.waited >= self.job.point.patience
            or self.best == criterion.best
        )
        return improved

    def outcome(self, logits: np.ndarray) -> Outcome:
        return Outcome(self.best, self.epoch, self.setting, logits, self.minutes)
