"""Dynamic convolutions, whose kernels depend on the sample.

From Chen et al., "Dynamic Convolution: Attention over Convolution Kernels" (CVPR 2020): a layer
holds several kernels, and a sample is filtered by their mean, weighted by attention to its context.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def annealed_temperature(
    epoch: float,
    start: float = 30.0,
    end: float = 1.0,
    slope: float = 1.0,
    late_slope: float = 0.02,
) -> float:
    """Return the temperature of attention at an epoch of training, for `DynamicConv`.

    It falls by `slope` per epoch from `start` to about 1, and then by `late_slope` per epoch, but
    not below `end`. A high temperature gives all kernels nearly the same weight, so that all of
    them are trained.

    Args:
        epoch: Number of epochs of training so far.
        start: Temperature at the beginning.
        end: Smallest temperature.
        slope: Decrease per epoch down to a temperature of about 1.
        late_slope: Decrease per epoch below that.
    """
    late = 1.0 + late_slope * ((start - 1.0) / slope - epoch)
    return max(start - slope * epoch, late, end)


class DynamicConv(nn.Module):
    """Base class of dynamic convolutions, from a map and its context to a map.

    Args:
        shape: Shape of one kernel: (out channels, in channels per group, height, width).
        context: Size of the context.
        kernels: Number of kernels.

    Attributes:
        temperature: Divisor of the attention logits before the softmax; not in the state dict.

    Shape:
        (batch, channels, bands, frames) and (batch, context) to (batch, out channels, …).
    """

    def __init__(self, shape: tuple[int, int, int, int], context: int, kernels: int) -> None:
        super().__init__()
        self.shape, self.temperature = shape, 1.0
        out_channels, per_group, height, width = shape
        size = out_channels * per_group * height * width
        self.weight = nn.Parameter(torch.empty(1, 1, kernels, size))
        self.residuals = nn.Sequential(nn.Linear(context, kernels))
        nn.init.normal_(self.weight, std=(2 / (out_channels * height * width)) ** 0.5)

    def attention(self, context: Tensor) -> Tensor:
        """Return the weights of the kernels (batch, kernels), which sum to 1."""
        return (self.residuals(context) / self.temperature).softmax(1)


class DynamicPointwiseConv(DynamicConv):
    """A dynamic convolution of size 1: kernels are averaged, then applied as a matrix."""

    def __init__(self, in_channels: int, out_channels: int, context: int, kernels: int) -> None:
        super().__init__((out_channels, in_channels, 1, 1), context, kernels)
        self.product = _Product()

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        out_channels, in_channels, _, _ = self.shape
        matrices = self.attention(context) @ self.weight[0, 0]
        y = self.product(matrices.view(-1, out_channels, in_channels), x.flatten(2))
        return y.view(-1, out_channels, *x.shape[2:])


class DynamicDepthwiseConv(DynamicConv):
    """A dynamic convolution of each channel.

    Kernels are averaged, then applied, to a sample alone. To several, every kernel is applied and
    results are averaged: a kernel for every sample would have to be a convolution with as many
    groups as the batch has channels, a number that an ONNX graph must know in advance.
    """

    def __init__(self, channels: int, kernel: int, stride: int, context: int, kernels: int) -> None:
        super().__init__((channels, 1, kernel, kernel), context, kernels)
        self.stride = stride

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        # Torch takes several times longer in another layout, above all for maps of a few frames.
        x = x.contiguous(memory_format=torch.channels_last)
        attention = self.attention(context)
        if not torch.onnx.is_in_onnx_export() and len(x) == 1:
            return self._filtered(x, (attention @ self.weight[0, 0]).view(self.shape))
        weights = attention[:, :, None, None, None].unbind(1)
        kernels = self.weight.view(-1, *self.shape).unbind(0)
        pairs = zip(weights, kernels, strict=True)
        return reduce(torch.add, [weight * self._filtered(x, k) for weight, k in pairs])

    def _filtered(self, x: Tensor, kernel: Tensor) -> Tensor:
        channels, _, size, _ = self.shape
        return F.conv2d(x, kernel, stride=self.stride, padding=size // 2, groups=channels)


class StaticConv(nn.Module):
    """A convolution that takes a context as dynamic ones do, and does not look at it."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.module = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.module(x)


class _Product(nn.Module):
    """A matrix product as a layer, so that its operands are seen by who measures memory."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b
