"""Attention over frames: transformer blocks, and self-attention alone.

Positions are those of Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding"
(2021); every head has a gate that depends on the frame. Parameters are named as in the checkpoints
that EfficientSED released.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_sed.sequence.base import LAYERS, Residual, RmsNorm, SequenceModel, check_dim, projection

_THETA = 10000.0


def head_count(dim: int) -> int:
    """Return the number of attention heads for a width."""
    return 4 if dim < 128 else 8


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split (batch, frames, heads * size) into heads, (batch, heads, frames, size)."""
    # When tracing for ONNX, `unflatten` would turn the sizes of the example into constants.
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


class RotaryPositions(nn.Module):
    """Rotate every pair of neighbouring elements by an angle proportional to the frame index."""

    freqs: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        exponents = torch.arange(0, size, 2, dtype=torch.float32) / size
        self.register_buffer("freqs", _THETA**-exponents)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (..., frames, size) with rotated pairs."""
        # In float16, integers above 2048 cannot all be represented.
        frames = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)
        angles = frames.unsqueeze(1) * self.freqs.float()
        cos, sin = angles.cos(), angles.sin()
        first, second = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
        rotated = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1)
        return rotated.flatten(-2).to(x.dtype)


class GatedAttention(nn.Module):
    """Self-attention with rotary positions and gated heads, (batch, frames, dim) to the same.

    Args:
        dim: Number of channels of every frame.
        dropout: Dropout probability of the attention weights and the output, when training.
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = head_count(dim), dropout
        self.pos_encoding = RotaryPositions(dim // self.heads)
        self.norm = RmsNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_gates = nn.Linear(dim, self.heads)
        self.to_out = nn.Sequential(nn.Linear(dim, dim, bias=False), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        query, key, value = (split_heads(y, self.heads) for y in self.to_qkv(x).chunk(3, dim=2))
        y = F.scaled_dot_product_attention(
            self.pos_encoding(query),
            self.pos_encoding(key),
            value,
            dropout_p=self.dropout if self.training else 0.0,
        )
        y = y * self.to_gates(x).sigmoid().transpose(1, 2).unsqueeze(3)
        return self.to_out(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with a hidden width of 4 * dim, (batch, frames, dim) to the same."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            RmsNorm(dim),
            nn.Linear(dim, 4 * dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * dim, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _TransformerBlocks(nn.Module):
    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                Residual(GatedAttention(dim, dropout), FeedForward(dim, dropout))
                for _ in range(LAYERS)
            )
        )
        self.norm = RmsNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layers(x))


class _AttentionBlocks(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = Residual(*(GatedAttention(dim, dropout=0.0) for _ in range(LAYERS)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Transformer(SequenceModel):
    """Transformer blocks (Vaswani et al., "Attention Is All You Need", NeurIPS 2017), pre-norm.

    Args:
        in_channels: Number of channels of the input.
        dim: Width of the blocks and of the output.

    Raises:
        ConfigError: `dim` cannot be split among the heads.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        check_dim(dim, 2 * head_count(dim))  # rotary positions rotate pairs
        super().__init__(dim, projection(in_channels, dim), _TransformerBlocks(dim, dropout=0.2))


class SelfAttention(SequenceModel):
    """The attention layers of `Transformer`, without feed-forward layers.

    Args:
        in_channels: Number of channels of the input.
        dim: Width of the blocks and of the output.

    Raises:
        ConfigError: `dim` cannot be split among the heads.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        check_dim(dim, 2 * head_count(dim))  # rotary positions rotate pairs
        super().__init__(dim, projection(in_channels, dim), _AttentionBlocks(dim))
