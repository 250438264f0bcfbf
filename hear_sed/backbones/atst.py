"""ATST-Frame: an audio transformer whose patches are single frames.

From Li et al., "Self-Supervised Audio Teacher-Student Transformer for Both Clip-Level and
Frame-Level Tasks" (TASLP 2024), as it is used for sound event detection by Schmid et al.,
"Effective Pre-Training of Audio Transformers for Sound Event Detection" (ICASSP 2025).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from torch import Tensor, nn

from hear_core.frontends.bounded_decibel_mel import BoundedDecibelMel
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

FRONTEND = BoundedDecibelMel
RENAMED = ((r"^(model\.atst\.patch_embed)\.patch_embed\.", r"\1."),)
"""Patterns and replacements from keys of released files to keys of the detector."""
CONSTANTS = {
    "model.atst.mask_embed": (1, 1, 768),
    "model.atst_mel.mel_transform.spectrogram.window": (1024,),
    "model.atst_mel.mel_transform.mel_scale.fb": (513, 64),
}
"""Tensors of released files that are not needed: the token of masked frames and the front-end."""


class AtstFrame(FrameTransformer):
    """ATST-Frame as a frame-wise backbone.

    A token is all bands of four log-mel frames, hence a frame of 40 ms; a rest of less than four
    frames is dropped. There is no class token, although the table of positions starts with one.

    Args:
        n_mels: Number of mel bands of the input.
        depth: Number of blocks.
        dim: Width of a token.
        heads: Number of heads.
        steps: Number of positions, of 40 ms each.
    """

    kind = "atst"
    min_frames = STRIDE

    def __init__(
        self, n_mels: int = 64, depth: int = 12, dim: int = 768, heads: int = 12, steps: int = 250
    ) -> None:
        super().__init__(n_mels, depth, dim, 1, dim, max_frames=STRIDE * (steps + 1) - 1)
        self.patch_embed = nn.Linear(n_mels * STRIDE, dim)
        self.pos_embed = random_positions(1, 1 + steps, dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, heads, qkv_bias=False) for _ in range(depth)
        )
        self.norm_frame = nn.LayerNorm(dim, eps=1e-6)
        initialise_weights(self)

    def layers(self, log_mel: Tensor) -> Iterator[Tensor]:
        batch, n_mels, frames = log_mel.shape
        steps = frames // STRIDE
        patches = log_mel[:, :, : steps * STRIDE].reshape(batch, n_mels, steps, STRIDE)
        x = self.patch_embed(patches.transpose(1, 2).flatten(2))
        x = x + self.pos_embed[:, 1 : 1 + steps]
        return run_blocks(self.blocks, x)

    def grid(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).unsqueeze(2)

    def sequence(self, x: Tensor) -> Tensor:
        return self.norm_frame(x)


BACKBONES: Mapping[str, BackboneRecord] = {
    "ATST-F": BackboneRecord(AtstFrame, FRONTEND, partial(rename_by_patterns, RENAMED), CONSTANTS)
}
"""The backbone by the name that PretrainedSED and EfficientSED give it."""
