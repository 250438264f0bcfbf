"""Building blocks of MobileNets: the block table, inverted residuals, and the chain of blocks.

From Howard et al., "Searching for MobileNetV3" (ICCV 2019), and Sandler et al., "MobileNetV2"
(CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hear_core.networks.squeeze_excitation import SqueezeExcitation
from hear_core.networks.taps import TapShape

_RE, _HS = nn.ReLU, nn.Hardswish
STEM, HIDDEN, LAST_EXPANSION = 16, 1280, 6
"""Channels of the first layer and of the classifier at width 1; expansion of the last layer."""

TAP_ALIASES: Mapping[str, tuple[str, ...]] = {
    "l": ("logits",),
    "clf1": ("e1",),
    "clf2": ("clf",),
    "embedding": ("clf",),
    "se": ("se12", "se13", "se14", "se15"),
    "all_se": ("se4", "se5", "se6", "se11", "se12", "se13", "se14", "se15"),
    "block": ("b0", "b5", "b10", "b16"),
    "all_b": ("b5", "b11", "b13", "b15"),
    "all_b_se": ("se5", "se11", "se13", "se15"),
}
"""Names of taps and groups of taps of MobileNets, as EfficientAT_HEAR spells them."""


class BlockRow(NamedTuple):
    """One inverted residual, with its channels at width 1.

    `stride` is along both axes, or along frequency only if there is a `time_stride`.
    """

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    activation: type[nn.Module]
    stride: int = 1
    dilation: int = 1
    time_stride: int | None = None

    @property
    def effective_strides(self) -> tuple[int, int]:
        """The strides along frequency and time that are used: a dilated block has none."""
        if self.dilation != 1:
            return 1, 1
        return self.stride, self.stride if self.time_stride is None else self.time_stride

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


def strided(size: int, stride: int) -> int:
    """Return the size of a map along one axis after a stride: the quotient, rounded up."""
    return -(-size // stride)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch norm with the epsilon and momentum of EfficientAT."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    activation: type[nn.Module] | None,
    *,
    stride: int | tuple[int, int] = 1,
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
        batch_norm(out_channels),
    ]
    return nn.Sequential(*layers, *([activation(inplace=True)] if activation else []))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, squeeze and excite, project; add the input if sizes agree.

    Args:
        in_channels: Number of channels of the input (batch, channels, bands, frames).
        row: Row of the block table, with channels scaled to the width of the network.
        squeeze_excitation: Squeeze-and-excitation of the expanded map; None for a block without.
    """

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
                stride=row.effective_strides,
                dilation=row.dilation,
                groups=row.expanded,
            )
        )
        if squeeze_excitation is not None:
            layers.append(squeeze_excitation)
        layers.append(conv_norm(row.expanded, row.out, 1, None))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor, *, squeeze_only: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Return the output and the bottlenecks of squeeze-and-excitation, if there are any.

        With `squeeze_only`, only the bottlenecks are computed, and the output is the input.
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

    def channelwise_layers(self) -> Sequence[nn.Module]:
        """Return the layers that need only some channels at a time: all, or up to squeezing."""
        layers = list(self.block)
        return layers[:-2] if isinstance(layers[-2], SqueezeExcitation) else [self]


class Features(nn.ModuleList):
    """The chain of a MobileNet: a first convolution, the blocks of a table, a last convolution.

    Args:
        rows: Rows of the block table, at width 1.
        width: Factor on all channel counts.
        n_mels: Number of mel bands of the input.
        frames: Number of frames of the input; used only by squeeze-and-excitation over time.
        se_dims: Axes of squeeze-and-excitation: any of the letters ``c`` (channels), ``f``
            (frequency) and ``t`` (time), or ``none``.
        se_agg: Aggregation of several axes, see `SqueezeExcitation`.
        se_ratio: Size of an axis over the size of its bottleneck.

    Attributes:
        channels: Channels of the last map.
        tap_shapes: Shapes of the maps ``b0``, ``b1`` … and the bottlenecks ``se4`` …

    Raises:
        ConfigError: An axis or an aggregation is unknown.
    """

    def __init__(
        self,
        rows: Sequence[BlockRow],
        width: float,
        n_mels: int,
        *,
        frames: int = 1000,
        se_dims: str = "c",
        se_agg: str = "max",
        se_ratio: int = 4,
    ) -> None:
        channels = make_divisible(STEM * width)
        bands, frames = strided(n_mels, 2), strided(frames, 2)
        stages: list[nn.Module] = [conv_norm(1, channels, 3, nn.Hardswish, stride=2)]
        shapes = {"b0": TapShape(channels, bands)}
        for row in rows:
            row = row.scaled(width)
            stride, time_stride = row.effective_strides
            bands, frames = strided(bands, stride), strided(frames, time_stride)
            squeeze = None
            if row.squeeze and se_dims != "none":
                sizes = {"c": row.expanded, "f": bands, "t": frames}
                bottlenecks = {d: make_divisible(n // se_ratio) for d, n in sizes.items()}
                squeeze = SqueezeExcitation(sizes, bottlenecks, se_dims, se_agg)
                shapes[f"se{len(stages)}"] = TapShape(squeeze.bottleneck)
            shapes[f"b{len(stages)}"] = TapShape(row.out, bands)
            stages.append(InvertedResidual(channels, row, squeeze))
            channels = row.out
        self.channels = LAST_EXPANSION * channels
        shapes[f"b{len(stages)}"] = TapShape(self.channels, bands)
        stages.append(conv_norm(channels, self.channels, 1, nn.Hardswish))
        self.tap_shapes = shapes
        super().__init__(stages)

    def forward(self, log_mel: Tensor, taps: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the last map that was computed, and the values of the `taps` in the chain.

        Args:
            log_mel: Log-mel spectrograms (batch, n_mels, frames).
            taps: Names of the requested taps; the chain ends early once it has all of them.
        """
        values: dict[str, Tensor] = {}
        x = log_mel.unsqueeze(1)
        for index, stage in enumerate(self):
            if isinstance(stage, InvertedResidual):
                squeeze_only = set(taps) - set(values) == {f"se{index}"}
                x, bottlenecks = stage(x, squeeze_only=squeeze_only)
                if f"se{index}" in taps:
                    values[f"se{index}"] = torch.cat(bottlenecks, dim=1)
            else:
                x = stage(x)
            if f"b{index}" in taps:
                channels = self.tap_shapes[f"b{index}"].channels
                values[f"b{index}"] = x if x.shape[1] == channels else x[:, :channels]
            if len(values) == len(taps):
                break
        return x, values

    def channelwise_chains(self) -> Sequence[Sequence[nn.Module]]:
        """Return the chains of layers, see `Backbone.channelwise_chains`."""
        # The first block filters the channels of the first layer, which acts as its expansion.
        stem, first, *others, _ = self
        blocks = (block for block in others if isinstance(block, InvertedResidual))
        return [(stem, first), *(block.channelwise_layers() for block in blocks)]


def initialise(network: nn.Module) -> None:
    """Initialise the weights of convolutions and linear layers, except on the meta device."""
    for module in network.modules():
        if any(p.is_meta for p in module.parameters(recurse=False)):
            continue  # a skeleton has no weights
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
