"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hear_core.errors import ConfigError, unknown


@dataclass(frozen=True)
class OptimiserConfig:
    """Settings of the optimiser and of the parameter groups.

    Args:
        name: A key of `OPTIMISERS`.
        lr: Highest learning rate.
        weight_decay: Weight decay; L2 regularisation with ``adam`` and ``sgd``.
        momentum: Momentum of ``sgd``.
        head_lr: Highest learning rate of the classifier; None is `lr`.
        layer_decay: Factor on the learning rate from each block of the backbone to the one before.
        frozen: Patterns of names of parameters that are not trained, such as
            ``network.features.*``.
    """

    name: str = "adamw"
    lr: float = 8e-4
    weight_decay: float = 0.0
    momentum: float = 0.9
    head_lr: float | None = None
    layer_decay: float = 1.0
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in OPTIMISERS:
            raise ConfigError(unknown("optimiser", self.name, OPTIMISERS))
        for name in ("lr", "weight_decay", "momentum"):
            if not 0 <= getattr(self, name) < float("inf"):
                msg = f"{name} of the optimiser is {getattr(self, name)}; the least is 0"
                raise ConfigError(msg)
        if not 0 < self.layer_decay <= 1:
            msg = f"layer_decay must be above 0 and at most 1, not {self.layer_decay}"
            raise ConfigError(msg)

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimiser of parameter groups, see `Objective.parameter_groups`."""
        return OPTIMISERS[self.name](groups, self)


OPTIMISERS: Mapping[
    str, Callable[[list[dict[str, Any]], OptimiserConfig], torch.optim.Optimizer]
] = {
    "adam": lambda groups, c: torch.optim.Adam(groups, c.lr, weight_decay=c.weight_decay),
    "adamw": lambda groups, c: torch.optim.AdamW(groups, c.lr, weight_decay=c.weight_decay),
    "sgd": lambda groups, c: torch.optim.SGD(
        groups, c.lr, momentum=c.momentum, weight_decay=c.weight_decay
    ),
}
