"""Supervised losses for clips: binary cross-entropy with masks, and cross-entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional as F

from hear_core.errors import ConfigError, unknown
from hear_core.networks.backbone import Backbone
from hear_train.batch import Batch, Targets
from hear_train.objectives.objective import Objective, clip_tap


def binary_cross_entropy(logits: Tensor, targets: Targets) -> Tensor:
    """Return the binary cross-entropy of each clip, averaged over all classes, (batch,).

    Classes that are not known have a loss of 0, but count in the mean, as in EfficientAT's loss for
    OpenMIC.

    Args:
        logits: Logits (batch, classes).
        targets: Weak targets, from 0 to 1, and which of them are known.
    """
    losses = F.binary_cross_entropy_with_logits(logits, _weak(targets), reduction="none")
    if targets.known is not None:
        losses = losses * targets.known
    return losses.mean(1)


def cross_entropy(logits: Tensor, targets: Targets) -> Tensor:
    """Return the cross-entropy of each clip, (batch,).

    Args:
        logits: Logits (batch, classes).
        targets: Weak targets, the probabilities of the classes, which sum to 1.
    """
    return F.cross_entropy(logits, _weak(targets), reduction="none")


LOSSES: Mapping[str, Callable[[Tensor, Targets], Tensor]] = {
    "bce": binary_cross_entropy,
    "ce": cross_entropy,
}


class Supervised(Objective):
    """Supervised training of a network: a loss between its logits and the labels.

    Args:
        network: Network to train.
        loss: A key of `LOSSES`: ``bce`` where a clip has any number of classes, ``ce`` where it has
            exactly one.

    Raises:
        ConfigError: The loss is unknown.
    """

    def __init__(self, network: Backbone, loss: str = "bce") -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ConfigError(unknown("loss", loss, LOSSES))
        self.network, self.loss = network, LOSSES[loss]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        tap = clip_tap(self.network)
        logits = self.network(batch.log_mel, (tap,))[tap].float()
        return {"loss": self.loss(logits, batch.targets).mean()}


def _weak(targets: Targets) -> Tensor:
    assert targets.weak is not None  # noqa: S101 - a source of clips gives weak targets
    return targets.weak
