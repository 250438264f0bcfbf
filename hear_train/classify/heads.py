"""Heads on embeddings: their training, and the search for their size and weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.io.threads import torch_threads
from hear_core.metrics.ranking import average_precisions
from hear_core.networks.tap_classifier import build_head
from hear_train.classify.sounds import TESTED

_ITERATIONS = 100
_SMALL = 1e8  # multiplications in a step that one thread computes in some milliseconds
_FLAT = 1e-5  # standard deviation below which a feature counts as constant
_WEIGHTS = 0.1, 10.0  # smallest and largest weight of a class


class HeadConfig(NamedTuple):
    """Settings of a head.

    Attributes:
        hidden: Size of the hidden layer; 0 is a linear head.
        weight_decay: Factor of half the sum of squared weights in the loss.
    """

    hidden: int
    weight_decay: float


class Examples(NamedTuple):
    """Embeddings to train heads on.

    Attributes:
        rows: Embeddings (examples, size), float32.
        targets: Classes of the examples, (examples, classes), float32.
        weights: Weights of the examples in the loss, (examples,), float32.
        folds: Fold of each example, (examples,), see `hear_train.classify.sounds.Sounds`.
    """

    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    folds: np.ndarray

    def select(self, kept: np.ndarray) -> Examples:
        """Return some of the examples."""
        return Examples(*(part[kept] for part in self))


def example_weights(targets: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Return the weights of examples in the loss, (examples,), float32.

    All windows of a labelled clip together weigh as much as the clip. Clips of rare classes weigh
    more, so that all classes weigh the same, within limits. Every window of background is an
    example of its own, but all together weigh at most as much as all labelled clips.

    Args:
        targets: Classes of the examples, (examples, classes); all 0 for background.
        clips: Index of the clip of each example, (examples,).
    """
    labelled = targets.any(1)
    share = 1 / np.bincount(clips)[clips]
    counts = (targets * share[:, None]).sum(0)
    balanced = np.clip(counts.sum() / max(1, (counts > 0).sum()) / np.maximum(counts, 1), *_WEIGHTS)
    of_clip = (targets * balanced).sum(1) / np.maximum(targets.sum(1), 1)
    weights = np.where(labelled, of_clip * share, 1.0)
    if labelled.any() and not labelled.all():
        limit = weights[labelled].sum() / weights[~labelled].sum()
        weights[~labelled] *= min(1.0, limit)
    return weights.astype(np.float32)


def fit_head(examples: Examples, config: HeadConfig, seed: int) -> nn.Sequential:
    """Train a head by L-BFGS on the weighted binary cross-entropy of all examples.

    Args:
        examples: The examples.
        config: Settings.
        seed: Seed of the initial weights of a hidden layer.

    Returns:
        A head that standardises embeddings itself, see
        `hear_core.networks.tap_classifier.build_head`.
    """
    rows, targets, weights, _ = examples
    inputs, wanted = torch.from_numpy(rows), torch.from_numpy(targets)
    share = torch.from_numpy(weights / weights.sum())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = build_head(rows.shape[1], targets.shape[1], config.hidden)
    std, mean = torch.std_mean(inputs, 0, correction=0)
    standardise: nn.Module = head[0]
    layers: nn.Module = head[1:]
    standardise.load_state_dict({"mean": mean, "std": torch.where(std > _FLAT, std, 1.0)})
    inputs = standardise(inputs)
    if not config.hidden:
        for parameter in layers.parameters():
            nn.init.zeros_(parameter)
    optimiser = torch.optim.LBFGS(
        layers.parameters(), max_iter=_ITERATIONS, history_size=10, line_search_fn="strong_wolfe"
    )
    decayed = [parameter for parameter in layers.parameters() if parameter.ndim > 1]

    def closure() -> Tensor:
        optimiser.zero_grad()
        losses = F.binary_cross_entropy_with_logits(layers(inputs), wanted, reduction="none")
        penalty = torch.stack([parameter.square().sum() for parameter in decayed]).sum()
        loss: Tensor = (losses.sum(1) * share).sum() + config.weight_decay / 2 * penalty
        loss.backward()
        return loss

    # Several threads would only wait for each other in steps that are this small.
    small = rows.size * (config.hidden or targets.shape[1]) < _SMALL
    with torch_threads(1) if small else nullcontext():
        optimiser.step(closure)
    return head.requires_grad_(False)


def head_logits(head: nn.Module, rows: np.ndarray) -> np.ndarray:
    """Return the logits (rows, classes) of embeddings (rows, size)."""
    with torch.inference_mode():
        return head(torch.from_numpy(rows)).numpy()


def validated_logits(examples: Examples, config: HeadConfig, fold: int, seed: int) -> np.ndarray:
    """Return the logits of the examples in a fold by a head that was trained without them.

    Args:
        examples: The examples. Those that are tested on are neither validated nor trained on.
        config: Settings of the head.
        fold: The fold.
        seed: Seed of the head's initial weights.

    Returns:
        (examples in the fold, classes).
    """
    held = examples.folds == fold
    head = fit_head(examples.select(~held & (examples.folds != TESTED)), config, seed)
    return head_logits(head, examples.rows[held])


def best_candidate(logits: Sequence[np.ndarray], targets: np.ndarray) -> int:
    """Return the index of the best logits: by mean average precision, then by their loss.

    Args:
        logits: Candidates (examples, classes).
        targets: Classes of the examples, (examples, classes).
    """
    present = targets.any(0)

    def quality(found: np.ndarray) -> tuple[float, float]:
        mean = average_precisions(found, targets)[present].mean() if present.any() else 0.0
        losses = F.binary_cross_entropy_with_logits(
            torch.from_numpy(found), torch.from_numpy(targets)
        )
        return round(float(mean), 3), -float(losses)

    return max(range(len(logits)), key=lambda index: quality(logits[index]))
