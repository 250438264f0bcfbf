"""MobileNets for audio tagging: MobileNetV3-Large, scaled in width, on one-channel log-mels.

The architecture is that of Howard et al., "Searching for MobileNetV3" (ICCV 2019), as changed for
audio by Schmid, Koutini and Widmer, "Efficient Large-Scale Audio Tagging via Transformer-to-CNN
Knowledge Distillation" (ICASSP 2023). Parameters are named as in the checkpoints that EfficientAT
released, so that those load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hear_core.backbone import Backbone
from hear_core.errors import ConfigError, unknown
from hear_core.taps import TapShape
from hear_mn.blocks import (
    HIDDEN,
    LAST_EXPANSION,
    STEM,
    InvertedResidual,
    block_table,
    conv_norm,
    initialise,
    make_divisible,
    strided,
)
from hear_mn.heads import HEADS, HeadSizes
from hear_mn.squeeze_excitation import SqueezeExcitation


class MobileNet(Backbone):
    """A MobileNet backbone.

    Taps: ``b0`` (stem) to ``b15`` and ``b16`` (last convolution) are maps; ``se4`` … are the
    squeeze-and-excitation bottlenecks before their ReLU; ``e1`` is the last convolution averaged
    over frequency and time; ``clf`` is the hidden layer of the mlp head after its Hardswish;
    ``logits`` are what a sigmoid turns into probabilities.

    Args:
        width: Factor on all channel counts.
        num_classes: Number of logits.
        head: A key of `hear_mn.heads.HEADS`.
        attention_heads: Of the attention pooling head.
        strides: Of blocks 2, 4, 7 and 13.
        reduced_tail: Halve the channels of the last blocks.
        dilated: Stretch the kernels of the last three blocks by two; they then have no stride.
        se_dims: What squeeze-and-excitation looks at: any of the letters ``c`` (channels), ``f``
            (frequency) and ``t`` (time), or ``none``.
        se_agg: How several of these are combined: ``max``, ``avg``, ``add`` or ``min``.
        se_ratio: Size of what is squeezed over size of its bottleneck.
        n_mels: Mel bands of the input.
        frames: Frames of the input; matters for ``t`` only, which takes no other length.
        dropout: In the mlp head, when training.

    Raises:
        ConfigError: A head, an axis or an aggregation is unknown.
    """

    def __init__(
        self,
        width: float = 1.0,
        *,
        num_classes: int = 527,
        head: str = "mlp",
        attention_heads: int = 4,
        strides: Sequence[int] = (2, 2, 2, 2),
        reduced_tail: bool = False,
        dilated: bool = False,
        se_dims: str = "c",
        se_agg: str = "max",
        se_ratio: int = 4,
        n_mels: int = 128,
        frames: int = 1000,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise ConfigError(unknown("head", head, HEADS))
        self.n_mels = n_mels
        channels = make_divisible(STEM * width)
        bands, frames = strided(n_mels, 2), strided(frames, 2)
        stages: list[nn.Module] = [conv_norm(1, channels, 3, nn.Hardswish, stride=2)]
        shapes = {"b0": TapShape(channels, bands)}
        for row in block_table(strides, reduced_tail=reduced_tail, dilated=dilated):
            row = row.scaled(width)
            bands = strided(bands, row.effective_stride)
            frames = strided(frames, row.effective_stride)
            squeeze = None
            if row.squeeze and se_dims != "none":
                sizes = {"c": row.expanded, "f": bands, "t": frames}
                bottlenecks = {d: make_divisible(n // se_ratio) for d, n in sizes.items()}
                squeeze = SqueezeExcitation(sizes, bottlenecks, se_dims, se_agg)
                shapes[f"se{len(stages)}"] = TapShape(squeeze.bottleneck)
            shapes[f"b{len(stages)}"] = TapShape(row.out, bands)
            stages.append(InvertedResidual(channels, row, squeeze))
            channels = row.out
        last = LAST_EXPANSION * channels
        shapes[f"b{len(stages)}"] = TapShape(last, bands)
        stages.append(conv_norm(channels, last, 1, nn.Hardswish))
        self.features = nn.ModuleList(stages)

        hidden = make_divisible((HIDDEN // 2 if reduced_tail else HIDDEN) * width)
        self.classifier = HEADS[head](
            HeadSizes(last, num_classes, hidden, dropout, attention_heads)
        )
        self.class_layers = tuple(f"classifier.{name}" for name in self.classifier.class_layers)
        self.tap_shapes = {**shapes, "e1": TapShape(last), **self.classifier.tap_shapes}
        initialise(self)

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        x = log_mel.unsqueeze(1)
        for index, stage in enumerate(self.features):
            if isinstance(stage, InvertedResidual):
                squeeze_only = set(taps) - set(values) == {f"se{index}"}
                x, bottlenecks = stage(x, squeeze_only=squeeze_only)
                if f"se{index}" in taps:
                    values[f"se{index}"] = torch.cat(bottlenecks, dim=1)
            else:
                x = stage(x)
            if f"b{index}" in taps:
                values[f"b{index}"] = x
            if len(values) == len(taps):
                return values
        return values | self.classifier.tap(x, taps)

    def in_parts(self) -> Sequence[Sequence[nn.Module]]:
        # The first block filters the channels of the first layer, which so is its expansion.
        stem, first, *others, _ = self.features
        blocks = (block for block in others if isinstance(block, InvertedResidual))
        return [(stem, first), *(block.in_parts() for block in blocks), (self.classifier,)]
