"""Schedules: the learning rate over the epochs, as in EfficientAT.

It is an exponential warm-up, a constant part, and a linear ramp-down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hear_core.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """Factor on the learning rate by epoch.

    Args:
        warm_up: Length of the warm-up in epochs: its factor is exp(-5 (1 - e / warm_up)^2), where
            e is the epoch, and at least 0.5.
        down_start: Epoch at which the ramp-down starts.
        down_length: Length of the linear ramp-down in epochs.
        last: Factor after the ramp-down.
    """

    warm_up: int = 8
    down_start: int = 80
    down_length: int = 95
    last: float = 0.01

    def __post_init__(self) -> None:
        if min(self.warm_up, self.down_start, self.down_length) < 0 or not 0 <= self.last <= 1:
            msg = f"a schedule needs epochs of 0 or more and last from 0 to 1, not {self}"
            raise ConfigError(msg)

    def factor(self, epoch: float) -> float:
        """Return the factor in an epoch, counted from 0."""
        rise = 1.0
        if epoch < self.warm_up:
            rise = math.exp(-5 * (1 - max(epoch, 0.5) / self.warm_up) ** 2)
        done = (epoch - self.down_start) / self.down_length if self.down_length else 1.0
        if epoch < self.down_start:
            done = 0.0
        return rise * (1 - (1 - self.last) * min(1.0, max(0.0, done)))
