"""Dynamic MobileNets for audio tagging: MobileNets whose blocks adapt to their input.

The architecture is that of Schmid, Koutini and Widmer, "Dynamic Convolutional Neural Networks as
Efficient Pre-trained Audio Models" (TASLP 2024). A block summarises its input in a context
vector, from which it computes the kernels of its convolutions, the slopes of its activation, and
coordinate attention.
Parameters are named as in the checkpoints that EfficientAT released, so that those load as they
are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.errors import ConfigError, unknown
from hear_core.networks.backbone import Backbone
from hear_core.networks.mobilenet_blocks import (
    HIDDEN,
    LAST_EXPANSION,
    STEM,
    TAP_ALIASES,
    BlockRow,
    InvertedResidual,
    batch_norm,
    block_table,
    conv_norm,
    initialise,
    make_divisible,
    strided,
)
from hear_core.networks.taps import TapShape
from hear_mn.dynamic_convolution import (
    DynamicConv,
    DynamicDepthwiseConv,
    DynamicPointwiseConv,
    StaticConv,
)
from hear_mn.heads import HeadSizes, Mlp

DYNAMIC_BLOCKS: Mapping[str, Callable[[BlockRow], bool]] = {
    "all": lambda row: True,
    "replace_se": lambda row: row.squeeze,
}


def context_size(expanded: int, width: float, ratio: int, smallest: int, largest: int) -> int:
    """Return the size of a block's context: a part of its expanded channels, within limits.

    Args:
        expanded: Channels of the block, scaled.
        width: Factor on the limits.
        ratio: Number of channels over size of the context.
        smallest: Smallest size at width 1.
        largest: Largest size at width 1.
    """
    low, high = make_divisible(smallest * width), make_divisible(largest * width)
    return min(max(make_divisible(expanded // ratio), low), high)


class ContextGenerator(nn.Module):
    """Summarise a map in a context vector, and along its two axes.

    The axes are encoded together as in Hou, Zhou and Feng, "Coordinate Attention" (CVPR 2021).
    """

    def __init__(self, in_channels: int, channels: int, context: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.joint_conv = nn.Conv2d(in_channels, context, 1, bias=False)
        self.joint_norm = batch_norm(context)
        self.joint_act = nn.Hardswish(inplace=True)
        self.conv_f = nn.Conv2d(context, channels, 1)
        self.conv_t = nn.Conv2d(context, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the context (batch, context), and the two axes as they scale the strided map.

        These are (batch, channels, bands, 1) and (batch, channels, 1, frames).
        """
        bands = x.shape[2]
        axes = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], dim=2)
        axes = self.joint_act(self.joint_norm(self.joint_conv(axes)))
        by_band = self.conv_f(self._pooled(axes[:, :, :bands])).sigmoid()
        by_frame = self.conv_t(self._pooled(axes[:, :, bands:])).sigmoid()
        return axes.mean((2, 3)), by_band, by_frame.transpose(2, 3)

    def _pooled(self, axis: Tensor) -> Tensor:
        if self.stride == 1:
            return axis
        return F.avg_pool2d(axis, (3, 1), (self.stride, 1), (1, 0))


class DynamicRelu(nn.Module):
    """Activation: the maximum of several lines, whose slopes and intercepts depend on a context.

    This is DyReLU-B of Chen et al., "Dynamic ReLU" (ECCV 2020).

    Args:
        channels: Channels of the map; each has its own lines.
        context: Size of the context.
        lines: Number of lines.
    """

    lambdas: Tensor
    init_v: Tensor

    def __init__(self, channels: int, context: int, lines: int) -> None:
        super().__init__()
        self.lines = lines
        self.coef_net = nn.Sequential(nn.Linear(context, 2 * lines * channels))
        self.register_buffer("lambdas", torch.tensor([1.0] * lines + [0.5] * lines))
        self.register_buffer("init_v", torch.tensor([1.0] + [0.0] * (2 * lines - 1)))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        theta = 2 * self.coef_net(context).sigmoid() - 1
        theta = theta.view(-1, x.shape[1], 2 * self.lines, 1, 1) * self.lambdas[:, None, None]
        theta = theta + self.init_v[:, None, None]
        numbers = theta.unbind(2)
        pairs = zip(numbers[: self.lines], numbers[self.lines :], strict=True)
        return reduce(torch.maximum, [x * slope + intercept for slope, intercept in pairs])


class DynamicInvertedResidual(nn.Module):
    """Expand, filter each channel, weight bands and frames, project; add the input if sizes agree.

    Args:
        in_channels: Channels of the input.
        row: Row of the block table, scaled.
        context: Size of the context.
        kernels: Number of kernels in each dynamic convolution; 0 for static ones.
        lines: Number of lines of the dynamic activation; 0 for the static one of the table.
        coordinate_attention: Whether bands and frames are weighed.
    """

    def __init__(
        self,
        in_channels: int,
        row: BlockRow,
        context: int,
        kernels: int,
        lines: int,
        *,
        coordinate_attention: bool,
    ) -> None:
        super().__init__()
        self.expands = row.expanded != in_channels
        self.residual = row.stride == 1 and in_channels == row.out
        self.coordinate_attention, self.lines = coordinate_attention, lines

        def pointwise(channels: int, out: int) -> nn.Module:
            if not kernels:
                return StaticConv(channels, out)
            return DynamicPointwiseConv(channels, out, context, kernels)

        def depthwise(channels: int) -> nn.Module:
            if not kernels:
                return StaticConv(channels, channels, row.kernel, row.stride, channels)
            return DynamicDepthwiseConv(channels, row.kernel, row.stride, context, kernels)

        if self.expands:
            self.exp_conv = pointwise(in_channels, row.expanded)
            self.exp_norm = batch_norm(row.expanded)
            self.exp_act = row.activation(inplace=True)
        self.depth_conv = depthwise(row.expanded)
        self.depth_norm = batch_norm(row.expanded)
        self.depth_act = (
            DynamicRelu(row.expanded, context, lines) if lines else row.activation(inplace=True)
        )
        self.proj_conv = pointwise(row.expanded, row.out)
        self.proj_norm = batch_norm(row.out)
        self.context_gen = ContextGenerator(in_channels, row.expanded, context, row.stride)

    def forward(self, x: Tensor) -> Tensor:
        context, by_band, by_frame = self.context_gen(x)
        y = x
        if self.expands:
            y = self.exp_act(self.exp_norm(self.exp_conv(y, context)))
        y = self.depth_norm(self.depth_conv(y, context))
        y = self.depth_act(y, context) if self.lines else self.depth_act(y)
        if self.coordinate_attention:
            y = y * by_band * by_frame
        y = self.proj_norm(self.proj_conv(y, context))
        return x + y if self.residual else y


class DynamicMobileNet(Backbone):
    """A dynamic MobileNet backbone.

    Taps: ``b0`` (stem) to ``b15`` and ``b16`` (last convolution) are maps; ``e1`` is the last
    convolution averaged over frequency and time; ``clf`` is the hidden layer of the classifier
    after its Hardswish; ``logits`` become probabilities by a sigmoid. There is no
    squeeze-and-excitation to tap.

    Args:
        width: Factor on all channel counts.
        num_classes: Number of logits.
        strides: Strides of blocks 2, 4, 7 and 13.
        dynamic_blocks: ``all``, or ``replace_se``: those that have squeeze-and-excitation in a
            MobileNet; the others are static then.
        kernels: Number of kernels in each dynamic convolution; 0 makes convolutions static.
        lines: Number of lines of each dynamic activation; 0 makes activations static.
        coordinate_attention: Whether dynamic blocks weigh bands and frames.
        context_ratio: Expanded channels of a block over the size of its context.
        smallest_context: Limit to that size at width 1.
        largest_context: Limit to that size at width 1.
        temperature: Softmax temperature of the attention over kernels: 1 once trained,
            see `annealed_temperature`.
        n_mels: Mel bands of the input.
        dropout: Dropout probability in the classifier, when training.

    Raises:
        ConfigError: `dynamic_blocks` is unknown, or the temperature is not positive.
    """

    tap_aliases = TAP_ALIASES

    def __init__(
        self,
        width: float = 1.0,
        *,
        num_classes: int = 527,
        strides: Sequence[int] = (2, 2, 2, 2),
        dynamic_blocks: str = "all",
        kernels: int = 4,
        lines: int = 2,
        coordinate_attention: bool = True,
        context_ratio: int = 4,
        smallest_context: int = 32,
        largest_context: int = 128,
        temperature: float = 1.0,
        n_mels: int = 128,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if dynamic_blocks not in DYNAMIC_BLOCKS:
            raise ConfigError(unknown("dynamic_blocks", dynamic_blocks, DYNAMIC_BLOCKS))
        self.n_mels = n_mels
        channels, bands = make_divisible(STEM * width), strided(n_mels, 2)
        shapes = {"b0": TapShape(channels, bands)}
        self.in_c = conv_norm(1, channels, 3, nn.Hardswish, stride=2)
        self.layers = nn.ModuleList()
        for number, row in enumerate(block_table(strides), start=1):
            row = row.scaled(width)
            bands = strided(bands, row.stride)
            shapes[f"b{number}"] = TapShape(row.out, bands)
            block: nn.Module
            if DYNAMIC_BLOCKS[dynamic_blocks](row):
                context = context_size(
                    row.expanded, width, context_ratio, smallest_context, largest_context
                )
                block = DynamicInvertedResidual(
                    channels,
                    row,
                    context,
                    kernels,
                    lines,
                    coordinate_attention=coordinate_attention,
                )
            else:
                block = InvertedResidual(channels, row, None)
            self.layers.append(block)
            channels = row.out
        last = LAST_EXPANSION * channels
        shapes[f"b{len(shapes)}"] = TapShape(last, bands)
        self.out_c = conv_norm(channels, last, 1, nn.Hardswish)
        hidden = make_divisible(HIDDEN * width)
        self.classifier = Mlp(HeadSizes(last, num_classes, hidden, dropout, attention_heads=0))
        self.class_layers = tuple(f"classifier.{name}" for name in self.classifier.class_layers)
        self.tap_shapes = {**shapes, "e1": TapShape(last), **self.classifier.tap_shapes}
        self.set_temperature(temperature)
        initialise(self)

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of the attention over kernels in every dynamic convolution.

        Raises:
            ConfigError: It is not positive.
        """
        if temperature <= 0:
            msg = f"the temperature of attention must be positive, not {temperature}"
            raise ConfigError(msg)
        for module in self.modules():
            if isinstance(module, DynamicConv):
                module.temperature = temperature

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        x = log_mel.unsqueeze(1)
        for index, stage in enumerate((self.in_c, *self.layers, self.out_c)):
            x = stage(x)[0] if isinstance(stage, InvertedResidual) else stage(x)
            if f"b{index}" in taps:
                values[f"b{index}"] = x
            if len(values) == len(taps):
                return values
        return values | self.classifier.tap(x, taps)

    def channelwise_chains(self) -> Sequence[Sequence[nn.Module]]:
        # A dynamic block needs no channel for another once it has summed its input up.
        blocks = [
            b.channelwise_layers() if isinstance(b, InvertedResidual) else (b,) for b in self.layers
        ]
        return [*blocks, (self.classifier,)]
