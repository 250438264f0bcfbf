"""Distillation: losses between a student and its teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.errors import ConfigError
from hear_core.networks.backbone import Backbone
from hear_train.batch import Batch
from hear_train.objectives.objective import Objective, clip_tap
from hear_train.objectives.supervised import binary_cross_entropy

_MIN_PROBABILITY = 1e-5
_MIN_LOGIT = math.log(_MIN_PROBABILITY / (1 - _MIN_PROBABILITY))


@dataclass(frozen=True)
class DistillationWeights:
    """Weights of the terms of the distillation loss.

    Args:
        labels: Lambda, the share of the label loss in clips that have labels; the rest is the
            teacher's.
        logits: Weight of the mean squared error between the logits of student and teacher. It
            weighs all classes equally, where most probabilities are too close to 0 to matter.
        taps: Weight of the distance of taps, in units of the teacher's variance in the batch of a
            process.
        softmax: Weight of the cross-entropy between softmaxes over all classes, as in Hinton,
            Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), with its factor
            T^2. It is dominated by the likeliest classes and their order.
        temperature: Temperature T of these softmaxes.
    """

    labels: float = 0.1
    logits: float = 0.0
    taps: float = 1.0
    softmax: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.labels <= 1 or self.temperature <= 0:
            msg = (
                f"the weight of the labels must be from 0 to 1 and is {self.labels:g}, and the "
                f"temperature must be more than 0 and is {self.temperature:g}"
            )
            raise ConfigError(msg)


class Distillation(Objective):
    """A student with its distillation loss.

    The loss is lambda BCE(labels) + (1 - lambda) BCE(teacher), the latter with probabilities, as in
    Schmid, Koutini and Widmer, "Efficient Large-Scale Audio Tagging via Transformer-to-CNN
    Knowledge Distillation" (ICASSP 2023). Clips without labels have the second term only, with
    weight 1. More terms are optional, see `DistillationWeights`.

    With mixup, EfficientAT mixes the losses of both partners; as binary cross-entropy is linear in
    the targets, this equals the loss of the mixed targets that it gets here.

    Args:
        student: Network that is trained.
        weights: Weights of the terms.
        taps: Channels of the teacher's taps, by name, that are matched with those of the same name
            of the student, by a linear map that is trained as well.

    Raises:
        ConfigError: The student does not have such a tap.
    """

    def __init__(
        self,
        student: Backbone,
        weights: DistillationWeights,
        taps: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.weights = student, weights
        if missing := set(taps or {}) - set(student.tap_shapes):
            msg = f"the student does not have the tap {', '.join(sorted(missing))} to match"
            raise ConfigError(msg)
        self.maps = nn.ModuleDict(
            {
                name: nn.Linear(student.tap_shapes[name].channels, size)
                for name, size in (taps or {}).items()
            }
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, and its terms before they are weighted."""
        assert batch.teacher is not None  # noqa: S101 - the preprocessing sets it
        tap = clip_tap(self.network)
        outputs = self.outputs(batch, (tap, *self.maps))
        logits, soft = outputs[tap].float(), batch.teacher.weak
        assert soft is not None  # noqa: S101
        terms = {"teacher": F.binary_cross_entropy_with_logits(logits, soft)}
        loss = terms["teacher"]
        labelled = _labelled(batch)
        if self.weights.labels and labelled.any():
            per_clip = labelled * self.weights.labels
            hard = binary_cross_entropy(logits, batch.targets)
            teacher = binary_cross_entropy(logits, batch.teacher)
            terms["labels"] = hard[labelled].mean()
            loss = (per_clip * hard + (1 - per_clip) * teacher).mean()
        right = soft.clamp(_MIN_PROBABILITY, 1 - _MIN_PROBABILITY).logit()
        if self.weights.logits:
            terms["logits"] = F.mse_loss(logits.clamp(min=_MIN_LOGIT), right)
            loss = loss + self.weights.logits * terms["logits"]
        if self.weights.softmax:
            heat = self.weights.temperature
            terms["softmax"] = F.cross_entropy(logits / heat, (right / heat).softmax(1)) * heat**2
            loss = loss + self.weights.softmax * terms["softmax"]
        for name, linear in self.maps.items():
            wanted = pool(batch.taps[name]).float()
            spread = wanted.var(0, unbiased=False).mean().clamp(min=1e-6)
            terms[name] = F.mse_loss(linear(pool(outputs[name]).float()), wanted) / spread
            loss = loss + self.weights.taps * terms[name]
        return {"loss": loss, **{name: term.detach() for name, term in terms.items()}}


def pool(tap: Tensor) -> Tensor:
    """Return a tap as vectors (batch, channels), averaged over bands and frames."""
    return tap.mean((2, 3)) if tap.ndim == 4 else tap


def init_output_bias(network: Backbone, mean_logits: Tensor) -> None:
    """Set the biases of the last layer to the mean logits of the targets.

    Most of the 527 classes of AudioSet are rare; without this, a large part of a short training is
    spent on learning that.
    """
    heads = (*network.class_layers, "weak_head")  # the latter may have classes of its own
    for name, layer in network.named_modules():
        if name not in heads or not isinstance(layer, nn.Linear) or layer.bias is None:
            continue
        if len(layer.bias) == len(mean_logits):
            with torch.no_grad():
                layer.bias.copy_(mean_logits)


def _labelled(batch: Batch) -> Tensor:
    """Return which clips have labels, (batch,)."""
    if batch.targets.weak is None:
        return torch.zeros(len(batch.waveform), dtype=torch.bool, device=batch.waveform.device)
    if batch.targets.known is None:
        return torch.ones(len(batch.waveform), dtype=torch.bool, device=batch.waveform.device)
    return batch.targets.known.any(1)
