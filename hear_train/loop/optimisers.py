"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
        decay_vectors: Whether weight decay applies to biases and to the scales of normalisations as
            well, that is, to parameters of fewer than two dimensions.
        momentum: Momentum of ``sgd``.
        betas: Decays of the running means of ``adam`` and ``adamw``.
        amsgrad: Use the variant AMSGrad of ``adam`` and ``adamw``.
        head_lr: Highest learning rate of everything after the backbone, such as the classifier and
            the sequence model of a detector; None is `lr`.
        layer_decay: Factor on the learning rate from each block of the backbone to the one before.
        lrs: Highest learning rates by patterns of names of parameters, such as
            ``network.seq_model.*``. They take precedence; the first match counts.
        frozen: Patterns of names of parameters that are not trained, such as
            ``network.features.*``.
        frozen_epochs: Epochs at the beginning in which the backbone is not trained, so that a new
            head does not spoil it. A backbone with random weights is trained from the beginning.
    """

    name: str = "adamw"
    lr: float = 8e-4
    weight_decay: float = 0.0
    decay_vectors: bool = True
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    amsgrad: bool = False
    head_lr: float | None = None
    layer_decay: float = 1.0
    lrs: Mapping[str, float] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    frozen_epochs: int = 0

    def __post_init__(self) -> None:
        if self.name not in OPTIMISERS:
            raise ConfigError(unknown("optimiser", self.name, OPTIMISERS))
        numbers = {name: getattr(self, name) for name in ("lr", "weight_decay", "momentum")}
        numbers |= {f"lrs {name}": lr for name, lr in self.lrs.items()}
        numbers |= {} if self.head_lr is None else {"head_lr": self.head_lr}
        for name, value in numbers.items():
            if not 0 <= value < float("inf"):
                msg = f"{name} of the optimiser is {value}; the least is 0"
                raise ConfigError(msg)
        if not 0 < self.layer_decay <= 1:
            msg = f"layer_decay must be above 0 and at most 1, not {self.layer_decay}"
            raise ConfigError(msg)
        if self.frozen_epochs < 0:
            msg = f"frozen_epochs is {self.frozen_epochs}; the least is 0"
            raise ConfigError(msg)
        if not all(0 <= beta < 1 for beta in self.betas):
            msg = f"betas must be at least 0 and less than 1, not {list(self.betas)}"
            raise ConfigError(msg)

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimiser of parameter groups, see `Objective.parameter_groups`."""
        return OPTIMISERS[self.name](self._with_decay(groups), self)

    def _with_decay(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return groups whose vectors are in groups of their own, without weight decay."""
        if self.decay_vectors or not self.weight_decay:
            return groups
        parts = []
        for group in groups:
            for vectors, decay in ((False, self.weight_decay), (True, 0.0)):
                if chosen := [p for p in group["params"] if (p.ndim < 2) is vectors]:
                    parts.append({**group, "params": chosen, "weight_decay": decay})
        return parts


def _adam(
    kind: type[torch.optim.Adam],
) -> Callable[[list[dict[str, Any]], OptimiserConfig], torch.optim.Optimizer]:
    return lambda groups, config: kind(
        groups,
        config.lr,
        config.betas,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
    )


OPTIMISERS: Mapping[
    str, Callable[[list[dict[str, Any]], OptimiserConfig], torch.optim.Optimizer]
] = {
    "adam": _adam(torch.optim.Adam),
    "adamw": _adam(torch.optim.AdamW),
    "sgd": lambda groups, config: torch.optim.SGD(
        groups, config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    ),
}
"""Makers of optimisers, of parameter groups and settings."""
