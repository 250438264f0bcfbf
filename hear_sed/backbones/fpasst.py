"""Frame-wise PaSST: a vision transformer on convolutional features of every frame.

From Schmid et al., "Multi-Iteration Multi-Stage Fine-Tuning of Transformers for Sound Event
Detection with Heterogeneous Datasets" (DCASE 2024), after Koutini et al., "Efficient Training of
Audio Transformers with Patchout" (Interspeech 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.frontends.log_mel import LogMel
from hear_sed.backbones.base import BackboneRecord
from hear_sed.backbones.transformer import (
    STRIDE,
    FrameTransformer,
    TransformerBlock,
    initialise_weights,
    random_positions,
    rename_by_patterns,
    run_blocks,
)

FRONTEND = partial(
    LogMel,
    sample_rate=16000,
    hop=160,
    window=400,
    n_fft=512,
    fmax=7000.0,
    floor=1e-7,
    periodic=True,
)
RENAMED = ((r"^model\.(?!fpasst\.)", "model.fpasst."),)
"""Patterns and replacements from keys of released files to keys of the detector."""
_CHANNELS = 16
_EXTRA = 2  # class and distillation tokens


class FramePasst(FrameTransformer):
    """Frame-wise PaSST as a backbone.

    Three convolutions halve time and quarter frequency; their maps are laid out as 16 channels of
    `n_mels` bands, and a convolution over all bands makes a token of 40 ms of them. The tokens for
    class and distillation take part in attention and are dropped at the end. Positions of short
    inputs are the first ones of the table.

    Args:
        n_mels: Number of mel bands of the input, a multiple of 4.
        depth: Number of blocks.
        dim: Width of a token.
        heads: Number of heads.
        steps: Number of positions, of 40 ms each.
    """

    kind = "fpasst"
    frame_rounding = STRIDE - 1

    def __init__(
        self, n_mels: int = 128, depth: int = 12, dim: int = 768, heads: int = 12, steps: int = 250
    ) -> None:
        super().__init__(n_mels, depth, dim, 1, dim, max_frames=STRIDE * steps)
        self.conv_in_1 = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.conv_in_2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv_in_3 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(_CHANNELS, dim, (n_mels, 2))})
        self.cls_token = random_positions(1, 1, dim)
        self.dist_token = random_positions(1, 1, dim)
        self.new_pos_embed = random_positions(1, _EXTRA, dim)
        self.freq_new_pos_embed = random_positions(1, dim, 1, 1)
        self.time_new_pos_embed = random_positions(1, dim, 1, steps)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        initialise_weights(self)

    def layers(self, log_mel: Tensor) -> Iterator[Tensor]:
        x = log_mel.unsqueeze(1)
        for convolution in (self.conv_in_1, self.conv_in_2, self.conv_in_3):
            x = F.gelu(convolution(x))
        x = x.reshape(x.shape[0], _CHANNELS, self.n_mels, x.shape[3])
        # The kernel covers a step and the one after it, and beyond the last step zeros.
        x = self.patch_embed["proj"](F.pad(x, (0, 1)))
        x = x + self.time_new_pos_embed[:, :, :, : x.shape[3]] + self.freq_new_pos_embed
        extra = torch.cat([self.cls_token, self.dist_token], dim=1) + self.new_pos_embed
        x = torch.cat([extra.expand(x.shape[0], -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        return run_blocks(self.blocks, x)

    def grid(self, x: Tensor) -> Tensor:
        return x[:, _EXTRA:].transpose(1, 2).unsqueeze(2)

    def sequence(self, x: Tensor) -> Tensor:
        return self.norm(x[:, _EXTRA:])


BACKBONES: Mapping[str, BackboneRecord] = {
    "fpasst": BackboneRecord(FramePasst, FRONTEND, partial(rename_by_patterns, RENAMED))
}
"""The backbone by the name that PretrainedSED and EfficientSED give it."""
