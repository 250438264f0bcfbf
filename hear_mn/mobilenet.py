"""MobileNets for audio tagging: MobileNetV3-Large, scaled in width, on one-channel log-mels.

The architecture is that of Howard et al., "Searching for MobileNetV3" (ICCV 2019), as changed for
audio by Schmid, Koutini and Widmer, "Efficient Large-Scale Audio Tagging via Transformer-to-CNN
Knowledge Distillation" (ICASSP 2023). Parameters are named as in the checkpoints that EfficientAT
released, so that those load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hear_core.backbone import Backbone
from hear_core.errors import ConfigError, unknown
from hear_core.taps import TapShape
from hear_mn.heads import HEADS, HeadSizes
from hear_mn.squeeze_excitation import SqueezeExcitation

_RE, _HS = nn.ReLU, nn.Hardswish
_STEM, _HIDDEN, _LAST_EXPANSION = 16, 1280, 6


class BlockRow(NamedTuple):
    """One inverted residual, its channels still at width 1."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    activation: type[nn.Module]
    stride: int = 1
    dilation: int = 1

    @property
    def effective_stride(self) -> int:
        """The stride that is run: dilation takes its place."""
        return self.stride if self.dilation == 1 else 1

    def scaled(self, width: float) -> BlockRow:
        """Return the row with its channels scaled."""
        return self._replace(
            expanded=make_divisible(self.expanded * width), out=make_divisible(self.out * width)
        )


def block_table(
    strides: Sequence[int] = (2, 2, 2, 2), *, reduced_tail: bool = False, dilated: bool = False
) -> list[BlockRow]:
    """List the 15 blocks of MobileNetV3-Large."""
    c1, c2, c3, c4 = strides
    r = 2 if reduced_tail else 1
    d = 2 if dilated else 1
    return [
        BlockRow(3, 16, 16, False, _RE),
        BlockRow(3, 64, 24, False, _RE, c1),
        BlockRow(3, 72, 24, False, _RE),
        BlockRow(5, 72, 40, True, _RE, c2),
        BlockRow(5, 120, 40, True, _RE),
        BlockRow(5, 120, 40, True, _RE),
        BlockRow(3, 240, 80, False, _HS, c3),
        BlockRow(3, 200, 80, False, _HS),
        BlockRow(3, 184, 80, False, _HS),
        BlockRow(3, 184, 80, False, _HS),
        BlockRow(3, 480, 112, True, _HS),
        BlockRow(3, 672, 112, True, _HS),
        BlockRow(5, 672, 160 // r, True, _HS, c4, d),
        BlockRow(5, 960 // r, 160 // r, True, _HS, 1, d),
        BlockRow(5, 960 // r, 160 // r, True, _HS, 1, d),
    ]


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor` that is not more than a tenth below `value`."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    activation: type[nn.Module] | None,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    """Return convolution, batch norm and activation, padded so that only strides shrink the map."""
    layers = [
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=(kernel - 1) // 2 * dilation,
            dilation=dilation,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*layers, *([activation(inplace=True)] if activation else []))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, squeeze and excite, project; add the input where it fits."""

    def __init__(
        self, in_channels: int, row: BlockRow, squeeze_excitation: SqueezeExcitation | None
    ) -> None:
        super().__init__()
        self.residual = row.stride == 1 and in_channels == row.out
        layers: list[nn.Module] = []
        if row.expanded != in_channels:
            layers.append(conv_norm(in_channels, row.expanded, 1, row.activation))
        layers.append(
            conv_norm(
                row.expanded,
                row.expanded,
                row.kernel,
                row.activation,
                stride=row.effective_stride,
                dilation=row.dilation,
                groups=row.expanded,
            )
        )
        if squeeze_excitation is not None:
            layers.append(squeeze_excitation)
        layers.append(conv_norm(row.expanded, row.out, 1, None))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor, *, squeeze_only: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Return the output and the bottlenecks of squeeze-and-excitation (none without it).

        With `squeeze_only`, what comes after the bottlenecks is left out, and so is the output.
        """
        y, bottlenecks = x, []
        for layer in self.block:
            if isinstance(layer, SqueezeExcitation):
                bottlenecks = layer.squeeze(y)
                if squeeze_only:
                    return x, bottlenecks
                y = layer.excite(y, bottlenecks)
            else:
                y = layer(y)
        return (x + y if self.residual else y), bottlenecks

    def in_parts(self) -> Sequence[nn.Module]:
        """Return the layers that can run for some channels at a time: all, or up to squeezing."""
        layers = list(self.block)
        return layers[:-2] if isinstance(layers[-2], SqueezeExcitation) else [self]


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
        channels = make_divisible(_STEM * width)
        bands, frames = _strided(n_mels, 2), _strided(frames, 2)
        stages: list[nn.Module] = [conv_norm(1, channels, 3, nn.Hardswish, stride=2)]
        shapes = {"b0": TapShape(channels, bands)}
        for row in block_table(strides, reduced_tail=reduced_tail, dilated=dilated):
            row = row.scaled(width)
            bands = _strided(bands, row.effective_stride)
            frames = _strided(frames, row.effective_stride)
            squeeze = None
            if row.squeeze and se_dims != "none":
                sizes = {"c": row.expanded, "f": bands, "t": frames}
                bottlenecks = {d: make_divisible(n // se_ratio) for d, n in sizes.items()}
                squeeze = SqueezeExcitation(sizes, bottlenecks, se_dims, se_agg)
                shapes[f"se{len(stages)}"] = TapShape(squeeze.bottleneck)
            shapes[f"b{len(stages)}"] = TapShape(row.out, bands)
            stages.append(InvertedResidual(channels, row, squeeze))
            channels = row.out
        last = _LAST_EXPANSION * channels
        shapes[f"b{len(stages)}"] = TapShape(last, bands)
        stages.append(conv_norm(channels, last, 1, nn.Hardswish))
        self.features = nn.ModuleList(stages)

        hidden = make_divisible((_HIDDEN // 2 if reduced_tail else _HIDDEN) * width)
        self.classifier = HEADS[head](
            HeadSizes(last, num_classes, hidden, dropout, attention_heads)
        )
        self.class_layers = tuple(f"classifier.{name}" for name in self.classifier.class_layers)
        self.tap_shapes = {**shapes, "e1": TapShape(last), **self.classifier.tap_shapes}
        self._initialise()

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
        if "e1" in taps:
            values["e1"] = x.mean((2, 3))
        if len(values) < len(taps):
            head = self.classifier(x)
            values |= {tap: head[tap] for tap in taps if tap in head}
        return values

    def in_parts(self) -> Sequence[Sequence[nn.Module]]:
        # The first block filters the channels of the first layer, which so is its expansion.
        stem, first, *others, _ = self.features
        blocks = (block for block in others if isinstance(block, InvertedResidual))
        return [(stem, first), *(block.in_parts() for block in blocks), (self.classifier,)]

    def _initialise(self) -> None:
        for module in self.modules():
            if any(p.is_meta for p in module.parameters(recurse=False)):
                continue  # an outline has no weights
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)


def _strided(size: int, stride: int) -> int:
    return -(-size // stride)
