"""Schedules: the factor on the learning rates over a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hear_core.errors import ConfigError, unknown


@dataclass(frozen=True)
class Schedule:
    """Factor on the learning rates.

    Args:
        warm_up: Length of the warm-up of ``ramp`` in epochs: its factor is
            exp(-5 (1 - e / warm_up)^2), where e is the epoch, and at least 0.5.
        down_start: Epoch at which the ramp-down starts.
        down_length: Length of the ramp-down in epochs.
        last: Factor at the end.
        name: A key of `SCHEDULES`: ``ramp`` (EfficientAT: an exponential warm-up, a constant part
            and a linear ramp-down, by epoch), ``cosine`` or ``linear`` (EfficientSED and
            Transformers: a linear warm-up and a decay until the end of the run, by step), or
            ``constant``.
        warm_up_steps: Length of the linear warm-up of ``cosine`` and ``linear`` in steps.
    """

    warm_up: int = 8
    down_start: int = 80
    down_length: int = 95
    last: float = 0.01
    name: str = "ramp"
    warm_up_steps: int = 0

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise ConfigError(unknown("schedule", self.name, SCHEDULES))
        lengths = (self.warm_up, self.down_start, self.down_length, self.warm_up_steps)
        if min(lengths) < 0 or not 0 <= self.last <= 1:
            msg = f"a schedule needs lengths of 0 or more and last from 0 to 1, not {self}"
            raise ConfigError(msg)

    def factor(self, step: int, steps_per_epoch: int = 1, epochs: int = 1) -> float:
        """Return the factor at a step, counted from 0.

        Args:
            step: Number of the step, of an epoch if there is one step per epoch.
            steps_per_epoch: Steps of an epoch.
            epochs: Epochs of the run.
        """
        return SCHEDULES[self.name](self, step, steps_per_epoch, epochs)


def _ramp(schedule: Schedule, step: int, steps_per_epoch: int, epochs: int) -> float:
    epoch, rise = step // steps_per_epoch, 1.0
    if epoch < schedule.warm_up:
        rise = math.exp(-5 * (1 - max(epoch, 0.5) / schedule.warm_up) ** 2)
    done = (epoch - schedule.down_start) / schedule.down_length if schedule.down_length else 1.0
    if epoch < schedule.down_start:
        done = 0.0
    return rise * (1 - (1 - schedule.last) * min(1.0, max(0.0, done)))


def _after_warm_up(
    fall: Callable[[float], float],
) -> Callable[[Schedule, int, int, int], float]:
    """Return a schedule that falls from 1 to 0 over the share of the run after the warm-up."""

    def factor(schedule: Schedule, step: int, steps_per_epoch: int, epochs: int) -> float:
        rise = schedule.warm_up_steps
        if step < rise:
            return step / rise
        done = min(1.0, (step - rise) / max(1, steps_per_epoch * epochs - rise))
        return schedule.last + (1 - schedule.last) * fall(done)

    return factor


SCHEDULES: Mapping[str, Callable[[Schedule, int, int, int], float]] = {
    "ramp": _ramp,
    "cosine": _after_warm_up(lambda done: 0.5 * (1 + math.cos(math.pi * done))),
    "linear": _after_warm_up(lambda done: 1 - done),
    "constant": lambda schedule, step, steps_per_epoch, epochs: 1.0,
}
"""Factors by schedule, step, steps per epoch, and number of epochs."""
