"""Early stopping: when the training of a predictor ends, and which of its epochs is the best.

This is the behaviour of heareval and of the version of Lightning that it uses: a score must get
strictly better, and training ends after a number of validations without improvement, or with a
score that is not finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hear_eval.downstream.event_decoding import PostProcessing
from hear_eval.downstream.protocol import Criterion, Job, Outcome


@dataclass
class EarlyStopping:
    """The state of early stopping of one predictor.

    Attributes:
        job: The predictor.
        best: Best validation score so far.
        epoch: Epoch of the best score; -1 before the first validation.
        setting: Best post-processing of events in that epoch.
        logits: Logits of the test split in that epoch, (rows, classes).
        waited: Number of validations since then.
        stops: Whether training ends now.
        beaten: Whether an earlier predictor of the grid cannot be exceeded any more.
        minutes: Minutes of training.
    """

    job: Job
    best: float
    epoch: int = -1
    setting: PostProcessing = ()
    logits: np.ndarray | None = None
    waited: int = 0
    stops: bool = False
    beaten: bool = False
    minutes: float = 0.0

    def update(
        self, value: float, setting: PostProcessing, epoch: int, criterion: Criterion
    ) -> bool:
        """Take a validation score into account, and return whether its epoch is the best so far.

        The first epoch always is, even if its score is NaN.
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
        """Return the trained predictor."""
        return Outcome(self.best, self.epoch, self.setting, logits, self.minutes)
