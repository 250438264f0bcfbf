"""What a student is corrected by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.errors import ConfigError
from hear_core.networks.backbone import Backbone
from hear_train.lessons import Lesson

_LOWEST = 1e-5
_LOWEST_LOGIT = math.log(_LOWEST / (1 - _LOWEST))


@dataclass(frozen=True)
class Weights:
    """How much the terms of the loss count.

    Args:
        labels: Lambda: share of the labels, where a clip has any; the rest is the teacher's.
        logits: Factor on the mean square of the student's logits less the teacher's. It speaks of
            all classes alike; the probabilities of most are too near 0 to say anything.
        taps: Factor on the distance of taps, each in units of the teacher's spread in the batch of
            a process.
        softmax: Factor on the cross-entropy of softmaxes over all classes, as in Hinton, Vinyals
            and Dean, "Distilling the Knowledge in a Neural Network" (2015), with its factor T^2.
            It speaks of the loudest classes: which of them stands above which.
        temperature: T of these softmaxes.
    """

    labels: float = 0.1
    logits: float = 0.0
    taps: float = 1.0
    softmax: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.labels <= 1 or self.temperature <= 0:
            msg = (
                f"the labels' share is {self.labels:g} and the temperature {self.temperature:g}: "
                "one is from 0 to 1, the other more than 0"
            )
            raise ConfigError(msg)


class Distillation(nn.Module):
    """A student that is told by a lesson how far off it is.

    The loss is lambda BCE(labels) + (1 - lambda) BCE(teacher), the latter with probabilities and
    temperature 1, as in Schmid, Koutini and Widmer (ICASSP 2023); clips without labels have the
    second term only, in full. More terms are optional, see `Weights`.

    Args:
        student: The network.
        weights: Of the terms.
        taps: Sizes of the teacher's taps that are matched with the student's taps of the same
            name, by a linear map that is learned as well.

    Raises:
        ConfigError: The student has no such tap.
    """

    def __init__(
        self, student: Backbone, weights: Weights, taps: dict[str, int] | None = None
    ) -> None:
        super().__init__()
        self.student, self.weights = student, weights
        if missing := set(taps or {}) - set(student.tap_shapes):
            msg = f"the student has no tap {', '.join(sorted(missing))} to match"
            raise ConfigError(msg)
        self.maps = nn.ModuleDict(
            {
                name: nn.Linear(student.tap_shapes[name].channels, size)
                for name, size in (taps or {}).items()
            }
        )

    def forward(self, lesson: Lesson) -> dict[str, Tensor]:
        """Return the loss, and its terms before they are weighted."""
        found = self.student(lesson.heard, ("logits", *self.maps))
        logits = found["logits"].float()
        terms = {"teacher": F.binary_cross_entropy_with_logits(logits, lesson.soft)}
        loss = terms["teacher"]
        labelled = ~lesson.labels.isnan().any(1)
        if self.weights.labels and labelled.any():
            per_clip = labelled * self.weights.labels
            hard = _per_clip(logits, lesson.labels.nan_to_num())
            soft = _per_clip(logits, lesson.soft)
            terms["labels"] = hard[labelled].mean()
            loss = (per_clip * hard + (1 - per_clip) * soft).mean()
        right = lesson.soft.clamp(_LOWEST, 1 - _LOWEST).logit()
        if self.weights.logits:
            terms["logits"] = F.mse_loss(logits.clamp(min=_LOWEST_LOGIT), right)
            loss = loss + self.weights.logits * terms["logits"]
        if self.weights.softmax:
            heat = self.weights.temperature
            terms["softmax"] = F.cross_entropy(logits / heat, (right / heat).softmax(1)) * heat**2
            loss = loss + self.weights.softmax * terms["softmax"]
        for name, linear in self.maps.items():
            wanted = pooled(lesson.taps[name]).float()
            spread = wanted.var(0, unbiased=False).mean().clamp(min=1e-6)
            terms[name] = F.mse_loss(linear(pooled(found[name]).float()), wanted) / spread
            loss = loss + self.weights.taps * terms[name]
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}


def pooled(tap: Tensor) -> Tensor:
    """Return a tap as vectors (batch, channels); maps are averaged."""
    return tap.mean((2, 3)) if tap.ndim == 4 else tap


def start_at(student: Backbone, mean_logits: Tensor) -> None:
    """Let an untrained student say of everything what the teacher says on average.

    Most of 527 classes are hardly ever heard; without this, much of a short training is spent on
    learning just that.
    """
    for layer in _class_layers(student):
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            with torch.no_grad():
                layer.bias.copy_(mean_logits)


def _class_layers(student: Backbone) -> Sequence[nn.Module]:
    return [student.get_submodule(name) for name in student.class_layers]


def _per_clip(logits: Tensor, wanted: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)
