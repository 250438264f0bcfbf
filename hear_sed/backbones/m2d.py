"""M2D: an audio transformer trained by masked modelling with two networks.

From Niizumi et al., "Masked Modeling Duo: Towards a Universal Audio Pre-training Framework" (TASLP
2024) and "M2D-CLAP" (Interspeech 2024), as it is used for sound event detection by Schmid et al.,
"Effective Pre-Training of Audio Transformers for Sound Event Detection" (ICASSP 2025).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.frontends.standardised_log_mel import StandardisedLogMel
from hear_sed.backbones.base import BackboneRecord
from hear_sed.backbones.transformer import (
    STRIDE,
    FrameTransformer,
    TransformerBlock,
    initialise_weights,
    interpolate,
    random_positions,
    rename_by_patterns,
    run_blocks,
)

FRONTEND = StandardisedLogMel
RENAMED = (
    (r"^model\.(?!m2d\.)", "model.m2d."),
    (r"^model\.m2d\.backbone\.", "model.m2d."),
)
"""Patterns and replacements from keys of released files to keys of the detector."""
CONSTANTS = {
    "model.m2d.norm_stats": (2,),
    "model.m2d.to_spec.mel_basis": (80, 201),
    "model.m2d.to_spec.stft.wsin": (201, 1, 400),
    "model.m2d.to_spec.stft.wcos": (201, 1, 400),
    "model.m2d.to_spec.stft.window_mask": (1, 400, 1),
}
"""Tensors of released files that belong to the front-end."""
_PATCH = 16


class M2d(FrameTransformer):
    """Masked Modeling Duo as a frame-wise backbone.

    Patches are 16 x 16, ordered by frequency, and within a band by time. The frequency patches of
    a time step are stacked to its output, so that there is a vector of five patches every 160 ms,
    which is interpolated to 40 ms. The class token takes part in attention and is dropped.

    As in the original, an input is padded to whole patches with zeros, the mean of the training
    data, unless that takes more positions than there are: then the rest is dropped. Of 10 s that
    are the last 90 ms.

    Args:
        n_mels: Number of mel bands of the input, a multiple of 16.
        depth: Number of blocks.
        dim: Width of a token.
        heads: Number of heads.
        steps: Number of positions in time, of 160 ms each.
    """

    kind = "m2d"
    min_frames = STRIDE
    resize_sequence = staticmethod(interpolate)
    resize_grid = staticmethod(interpolate)

    def __init__(
        self, n_mels: int = 80, depth: int = 12, dim: int = 768, heads: int = 12, steps: int = 62
    ) -> None:
        self.bands, self.steps = n_mels // _PATCH, steps
        longest = _PATCH * (steps + 1) - 1
        super().__init__(n_mels, depth, dim, self.bands, dim * self.bands, max_frames=longest)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, dim, _PATCH, stride=_PATCH)})
        self.cls_token = random_positions(1, 1, dim)
        self.pos_embed = random_positions(1, 1 + self.bands * steps, dim)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        initialise_weights(self)

    def layers(self, log_mel: Tensor) -> Iterator[Tensor]:
        padded = F.pad(log_mel, (0, -log_mel.shape[2] % _PATCH))
        x = self.patch_embed["proj"](padded[:, :, : _PATCH * self.steps].unsqueeze(1))
        positions = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.bands, self.steps))
        x = (x + positions[:, :, :, : x.shape[3]]).flatten(2).transpose(1, 2)
        extra = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)
        x = torch.cat([extra, x], dim=1)
        return run_blocks(self.blocks, x)

    def grid(self, x: Tensor) -> Tensor:
        tokens = x[:, 1:].transpose(1, 2)
        return tokens.reshape(tokens.shape[0], tokens.shape[1], self.bands, -1)

    def sequence(self, x: Tensor) -> Tensor:
        return self.grid(self.norm(x)).permute(0, 3, 2, 1).flatten(2)


BACKBONES: Mapping[str, BackboneRecord] = {
    "M2D": BackboneRecord(M2d, FRONTEND, partial(rename_by_patterns, RENAMED), CONSTANTS)
}
"""The backbone by the name that PretrainedSED and EfficientSED give it."""
