"""Augmentation of PANNs: stripes of SpecAugment and mixup of pairs, on normalised log-mels.

From Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern
Recognition" (TASLP 2020), after Park et al., "SpecAugment" (Interspeech 2019) and Zhang et al.,
"mixup" (ICLR 2018). It is applied inside the network, after the batch norm of its input, so that
the batch norm sees whole clips and a stripe has the value 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from hear_core.errors import ConfigError
from hear_train.batch import Pairs, Targets


@dataclass(frozen=True)
class PairAugmentation:
    """Settings of the augmentation of PANNs.

    Args:
        stripes: Number of stripes along time and along frequency that are masked in every clip; 0
            masks none.
        time_mask: Width in frames that a stripe along time stays below.
        freq_mask: Width in mel bands that a stripe along frequency stays below.
        mixup: Alpha of mixup: clips 0 and 1, 2 and 3 and so on are mixed with a share from
            Beta(alpha, alpha), so that the loss is that of half as many clips as were loaded; 0
            disables it.
    """

    stripes: int = 2
    time_mask: int = 64
    freq_mask: int = 8
    mixup: float = 1.0

    def __post_init__(self) -> None:
        if self.stripes < 0 or self.mixup < 0 or min(self.time_mask, self.freq_mask) < 1:
            msg = (
                "the augmentation of pairs needs stripes and mixup of 0 or more, and masks of 1 or "
                f"more, not {self}"
            )
            raise ConfigError(msg)


def draw_stripes(rng: Generator, clips: int, size: int, widest: int, stripes: int) -> np.ndarray:
    """Return width and start of stripes, (clips, stripes, 2), as torchlibrosa draws them.

    Args:
        rng: Random generator.
        clips: Number of clips.
        size: Length of the axis.
        widest: Width that a stripe stays below.
        stripes: Number of stripes of a clip.
    """
    width = rng.integers(0, min(widest, size), size=(clips, stripes))
    return np.stack([width, rng.integers(0, size - width)], axis=-1)


def mask_stripes(log_mel: Tensor, stripes: np.ndarray, axis: int) -> Tensor:
    """Return log-mels (batch, n_mels, frames) with stripes set to 0.

    Args:
        log_mel: Normalised log-mel spectrograms.
        stripes: Width and start of the stripes of every clip, (batch, stripes, 2).
        axis: 1 masks mel bands, 2 masks frames.
    """
    places = np.arange(log_mel.shape[axis])
    width, start = stripes[..., 0, None], stripes[..., 1, None]
    hidden = torch.from_numpy(((places >= start) & (places < start + width)).any(1))
    shape = (-1, 1, hidden.shape[1]) if axis == 2 else (-1, hidden.shape[1], 1)
    return log_mel.masked_fill(hidden.view(shape).to(log_mel.device), 0.0)


def draw_shares(rng: Generator | np.random.RandomState, pairs: int, alpha: float) -> np.ndarray:
    """Return the share of the first clip of every pair, (pairs,), from Beta(alpha, alpha)."""
    return np.array([rng.beta(alpha, alpha) for _ in range(pairs)])


def mix_pairs(rows: Tensor, shares: Tensor) -> Tensor:
    """Return rows 0 and 1, 2 and 3 and so on mixed, (batch / 2, …).

    Args:
        rows: Rows (batch, …), an even number of them.
        shares: Share of the first row of every pair, (batch / 2,).
    """
    return _pairs(shares).mix(rows)[::2]


def mix_pair_targets(targets: Targets, shares: Tensor) -> Targets:
    """Return the targets of rows that are mixed by `mix_pairs`."""
    return _pairs(shares).mix_targets(targets)[torch.arange(0, 2 * len(shares), 2)]


def _pairs(shares: Tensor) -> Pairs:
    """Return every row with its neighbour as its partner."""
    partner = torch.arange(2 * len(shares), device=shares.device) ^ 1
    return Pairs(partner, torch.stack([shares, 1 - shares], dim=1).flatten())
