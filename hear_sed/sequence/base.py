"""The contract of sequence models: from a sequence of frames to another of the same length."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.errors import ConfigError

LAYERS = 2


class SequenceModel(nn.Sequential):
    """Base of the sequence models: (batch, frames, in_channels) to (batch, frames, out_channels).

    There may be any number of frames from 1.

    Args:
        out_channels: Number of channels of the output.
        layers: That make it of the input, one after another.
    """

    def __init__(self, out_channels: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.out_channels = out_channels


def projection(in_channels: int, dim: int) -> nn.Module:
    """Return what takes an input to the width of the blocks, where it is not that wide already."""
    return nn.Identity() if in_channels == dim else nn.Linear(in_channels, dim)


class RmsNorm(nn.Module):
    """Scale every vector to the length sqrt(dim), and its elements by a gain.

    From Zhang and Sennrich, "Root Mean Square Layer Normalization" (NeurIPS 2019).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = dim**0.5
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * self.scale * self.gamma


class Residual(nn.Sequential):
    """Parts whose outputs are each added to their inputs; (batch, frames, dim) to the same."""

    def forward(self, x: Tensor) -> Tensor:
        for part in self:
            x = x + part(x)
        return x


def check_dim(dim: int, multiple: int = 1) -> None:
    """Make sure that a width is positive and can be split as a model has to.

    Raises:
        ConfigError: It is not, or cannot.
    """
    if dim < 1 or dim % multiple:
        nearest = max(1, round(dim / multiple)) * multiple
        msg = f"dim must be a positive multiple of {multiple}, such as {nearest}, not {dim}"
        raise ConfigError(msg)
