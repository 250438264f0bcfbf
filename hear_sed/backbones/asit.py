"""ASiT: an audio transformer trained by masked modelling and self-distillation.

From Atito et al., "ASiT: Local-Global Audio Spectrogram Vision Transformer for Event
Classification" (TASLP 2024), as it is used for sound event detection by Schmid et al., "Effective
Pre-Training of Audio Transformers for Sound Event Detection" (ICASSP 2025).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.frontends.kaldi_filter_bank import KaldiFilterBank
from hear_sed.backbones.base import BackboneRecord
from hear_sed.backbones.transformer import (
    FrameTransformer,
    TransformerBlock,
    average,
    initialise_weights,
    interpolate,
    random_positions,
    rename_by_patterns,
    run_blocks,
)

FRONTEND = partial(
    KaldiFilterBank, window_type="hann", gain=1.0, mean=-4.2677393, scale=2 * 4.5689974
)
"""The original also subtracts the mean of the clip; removing that of every frame undoes it."""
RENAMED = ((r"^model\.(?!asit\.)", "model.asit."),)
"""Patterns and replacements from keys of released files to keys of the detector."""
_PATCH = 16


class Asit(FrameTransformer):
    """ASiT as a frame-wise backbone.

    Patches are 16 x 16, ordered by time, and within a time step by frequency. Two habits of the
    original are kept, as released checkpoints were trained with them: the class token is the first
    of the sequence that is pooled to frames, and the table of positions, 8 bands of 37 steps, is
    resized to steps of 8 bands as if its first axis were time. The original leaves the table as it
    is for an input of exactly 592 frames; here it is resized at every length.

    Args:
        n_mels: Number of mel bands of the input, a multiple of 16.
        depth: Number of blocks.
        dim: Width of a token.
        heads: Number of heads.
        steps: Number of time steps in the table of positions.
    """

    kind = "asit"
    min_frames = _PATCH
    frame_rounding = 2  # the filter bank has no padding, and lacks two frames of a whole number
    resize_sequence = staticmethod(average)
    resize_grid = staticmethod(interpolate)

    def __init__(
        self, n_mels: int = 128, depth: int = 12, dim: int = 768, heads: int = 12, steps: int = 37
    ) -> None:
        self.bands, self.steps = n_mels // _PATCH, steps
        super().__init__(n_mels, depth, dim, self.bands, dim)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, dim, _PATCH, stride=_PATCH)})
        self.cls_token = random_positions(1, 1, dim)
        self.pos_embed = random_positions(1, 1 + self.bands * steps, dim)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        initialise_weights(self)

    def layers(self, log_mel: Tensor) -> Iterator[Tensor]:
        x = self.patch_embed["proj"](log_mel.transpose(1, 2).unsqueeze(1))
        x = (x + self._positions(x.shape[2])).flatten(2).transpose(1, 2)
        extra = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)
        x = torch.cat([extra, x], dim=1)
        return run_blocks(self.blocks, x)

    def _positions(self, steps: int) -> Tensor:
        """Return the positions of an input, (1, dim, steps, bands)."""
        table = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.bands, self.steps))
        return F.interpolate(table, (steps, self.bands), mode="bicubic", align_corners=False)

    def grid(self, x: Tensor) -> Tensor:
        tokens = x[:, 1:]
        return tokens.reshape(x.shape[0], -1, self.bands, x.shape[2]).permute(0, 3, 2, 1)

    def sequence(self, x: Tensor) -> Tensor:
        return self.norm(x)


BACKBONES: Mapping[str, BackboneRecord] = {
    "ASIT": BackboneRecord(Asit, FRONTEND, partial(rename_by_patterns, RENAMED))
}
"""The backbone by the name that PretrainedSED and EfficientSED give it."""
