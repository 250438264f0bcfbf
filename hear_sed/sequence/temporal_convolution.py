"""Dilated causal convolutions over frames.

From Bai, Kolter and Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent
Networks for Sequence Modeling" (2018), with the weight normalization of Salimans and Kingma,
"Weight Normalization" (NeurIPS 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_sed.sequence.base import LAYERS, Residual, SequenceModel, check_dim, projection

_KERNEL = 3
_DILATIONS = (1, 2, 4, 8, 16)
_DROPOUT = 0.2


class CausalConv(nn.Module):
    """A causal convolution with weight normalization: a kernel is a direction and a length.

    Shape:
        (batch, channels, frames) to the same.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        plain = nn.Conv1d(channels, channels, _KERNEL)
        self.bias = plain.bias
        self.weight_g = nn.Parameter(plain.weight.detach().norm(dim=(1, 2), keepdim=True))
        self.weight_v = plain.weight

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(self.weight_v, dim=(1, 2), keepdim=True)
        weight = self.weight_v * (self.weight_g / length)
        past = F.pad(x, ((_KERNEL - 1) * self.dilation, 0))
        return F.conv1d(past, weight, self.bias, dilation=self.dilation)


class TemporalBlock(nn.Module):
    """Two causal convolutions with a residual connection, (batch, channels, frames) to the same."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = CausalConv(channels, dilation)
        self.conv2 = CausalConv(channels, dilation)
        # Checkpoints of EfficientSED hold every convolution under two names.
        self.net = nn.Sequential(
            self.conv1,
            nn.Identity(),  # in place of a layer of theirs that removes padding
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            self.conv2,
            nn.Identity(),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.net(x) + x)


class TemporalStack(nn.Module):
    """Temporal blocks with doubling dilation, (batch, channels, frames) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.network = nn.Sequential(*(TemporalBlock(channels, d) for d in _DILATIONS))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


class _Stacks(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = Residual(*(TemporalStack(dim) for _ in range(LAYERS)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.transpose(1, 2)).transpose(1, 2)


class TemporalConvolution(SequenceModel):
    """Stacks of dilated causal convolutions: an output depends on no later frame.

    Args:
        in_channels: Number of channels of the input.
        dim: Width of the blocks and of the output.

    Raises:
        ConfigError: `dim` is not positive.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        check_dim(dim)
        super().__init__(dim, projection(in_channels, dim), _Stacks(dim))
