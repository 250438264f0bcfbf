"""Supervised losses for clips: binary cross-entropy with masks, and cross-entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hear_core.errors import ConfigError, unknown
from hear_core.networks.backbone import Backbone
from hear_train.augment.pairs import (
    PairAugmentation,
    draw_shares,
    draw_stripes,
    mask_stripes,
    mix_pair_targets,
    mix_pairs,
)
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
        logits = self.outputs(batch, (tap,))[tap].float()
        return {"loss": self.loss(logits, batch.targets).mean()}


class PairSupervised(Supervised):
    """Supervised training as in PANNs, with the augmentation of `hear_train.augment.pairs`.

    It is applied to what the batch norm of the network's input gives, its module ``bn0``, or to the
    input of a network that has none.

    Args:
        network: Network to train.
        loss: A key of `LOSSES`.
        augmentation: Settings.
        seed: Seed of the augmentation. The shares of mixup are those of the original with the same
            seed.
    """

    def __init__(
        self, network: Backbone, loss: str, augmentation: PairAugmentation, seed: int
    ) -> None:
        super().__init__(network, loss)
        self.augmentation, self.seed = augmentation, seed
        self._shares: tuple[int, np.random.RandomState] = (0, np.random.RandomState(seed))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.log_mel is not None  # noqa: S101 - the preprocessing sets it
        size = len(batch.log_mel)
        rng = np.random.default_rng((self.seed, 3, batch.step))
        stripes = [
            draw_stripes(rng, size, batch.log_mel.shape[axis], widest, self.augmentation.stripes)
            for axis, widest in ((2, self.augmentation.time_mask), (1, self.augmentation.freq_mask))
        ]
        shares = None
        if self.augmentation.mixup:
            if size % 2:
                msg = f"mixup of pairs needs an even data.batch_size, not {size}"
                raise ConfigError(msg)
            shares = self.shares(batch.step, size // 2)
        return self.augmented_loss(batch, stripes, shares)

    def augmented_loss(
        self, batch: Batch, stripes: Sequence[np.ndarray], shares: np.ndarray | None
    ) -> dict[str, Tensor]:
        """Return the loss of a batch that is augmented by given draws.

        Args:
            batch: The batch.
            stripes: Stripes along time and along frequency, see `mask_stripes`.
            shares: Shares of mixup, see `mix_pairs`; None does not mix.
        """
        assert batch.log_mel is not None  # noqa: S101
        mixing = None
        if shares is not None:
            mixing = torch.from_numpy(shares).to(batch.log_mel.device, batch.log_mel.dtype)

        def augment(rows: Tensor) -> Tensor:
            for axis, drawn in zip((2, 1), stripes, strict=True):
                rows = mask_stripes(rows, drawn, axis)
            return rows if mixing is None else mix_pairs(rows, mixing)

        log_mel, norm = batch.log_mel, getattr(self.network, "bn0", None)
        if norm is None:
            logits = self.network(augment(log_mel))["logits"]
        else:
            hook = norm.register_forward_hook(lambda module, given, rows: augment(rows))
            try:
                logits = self.network(log_mel)["logits"]
            finally:
                hook.remove()
        targets = batch.targets if mixing is None else mix_pair_targets(batch.targets, mixing)
        return {"loss": self.loss(logits.float(), targets).mean()}

    def shares(self, step: int, pairs: int) -> np.ndarray:
        """Return the shares of a step: those that the original draws in its turn, (pairs,)."""
        done, state = self._shares
        if step < done:
            done, state = 0, np.random.RandomState(self.seed)
        for _ in range(done, step):
            draw_shares(state, pairs, self.augmentation.mixup)
        found = draw_shares(state, pairs, self.augmentation.mixup)
        self._shares = step + 1, state
        return found


def _weak(targets: Targets) -> Tensor:
    assert targets.weak is not None  # noqa: S101 - a source of clips gives weak targets
    return targets.weak
