"""The contract of sequence models, which map frames to the same number of frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.errors import ConfigError

LAYERS = 2
"""Number of layers of every sequence model, as in EfficientSED."""


class SequenceModel(nn.Sequential):
    """Base class of sequence models, a chain of layers.

    Shape:
        (batch, frames, in_channels) to (batch, frames, out_channels), with at least one frame.

    Args:
        out_channels: Number of channels of the output.
        layers: Layers that are applied one after another.
    """

    def __init__(self, out_channels: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.out_channels = out_channels


def projection(in_channels: int, dim: int) -> nn.Module:
    """Return a linear layer from `in_channels` to `dim`, or the identity if they are equal."""
    return nn.Identity() if in_channels == dim else nn.Linear(in_channels, dim)


class RmsNorm(nn.Module):
    """Scale every vector to the length sqrt(dim), then every element by a learned gain.

    From Zhang and Sennrich, "Root Mean Square Layer Normalization" (NeurIPS 2019).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = dim**0.5
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * self.scale * self.gamma


class Residual(nn.Sequential):
    """Layers with a residual connection around each, (batch, frames, dim) to the same."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = x + layer(x)
        return x


def check_dim(dim: int, multiple: int = 1) -> None:
    """Check that a width is a positive multiple of a number.

    Raises:
        ConfigError: `dim` is not positive, or is not a multiple of `multiple`.
    """
    if dim < 1 or dim % multiple:
        nearest = max(1, round(dim / multiple)) * multiple
        msg = f"dim must be a positive multiple of {multiple}, such as {nearest}, not {dim}"
        raise ConfigError(msg)
