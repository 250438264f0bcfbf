"""Hybrid sequence model: recurrence and attention in parallel, on the same frames.

The recurrence is the minGRU of Feng et al., "Were RNNs All We Needed?" (2024), forwards and
backwards. The outputs of both are averaged as in Dong et al., "Hymba" (2024). Parameters are named
as in the checkpoints that EfficientSED released.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_sed.sequence.attention import split_heads
from hear_sed.sequence.base import LAYERS, RmsNorm, SequenceModel, check_dim, projection
from hear_sed.sequence.scan import linear_recurrence

_HEADS = 8


class MinGru(nn.Module):
    """Minimal GRU: a recurrence that is linear, since gate and candidate depend on the input only.

    h[t] = (1 - z[t]) h[t - 1] + z[t] g(c[t]), where g makes the candidate c positive.

    Shape:
        (batch, frames, dim) to the same.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_hidden_and_gate = nn.Linear(dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # The state accumulates over many frames and needs float32, also under autocast.
        candidate, gate = self.to_hidden_and_gate(x).float().chunk(2, dim=2)
        positive = torch.where(candidate >= 0, candidate + 0.5, candidate.sigmoid())
        hidden = linear_recurrence((-gate).sigmoid(), gate.sigmoid() * positive)
        return hidden.to(x.dtype)


class BidirectionalMinGru(nn.Module):
    """One `MinGru` in each direction, (batch, frames, dim) to the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.forward_minGRU = MinGru(dim)
        self.backward_minGRU = MinGru(dim)
        self.to_out = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        backwards = self.backward_minGRU(x.flip(1)).flip(1)
        return self.to_out(torch.cat([self.forward_minGRU(x), backwards], dim=2))


class HybridMixer(nn.Module):
    """Mean of recurrence and attention, each normalized per head; (batch, frames, dim) to the same.

    Args:
        dim: Number of channels of every frame.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.rnn = BidirectionalMinGru(dim)
        self.rnn_out_norm = RmsNorm(dim // _HEADS)
        self.attn_out_norm = RmsNorm(dim // _HEADS)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(y, _HEADS) for y in self.to_qkv(x).chunk(3, dim=2))
        attended = self.attn_out_norm(F.scaled_dot_product_attention(query, key, value))
        recurrent = self.rnn_out_norm(split_heads(self.rnn(x), _HEADS))
        return self.to_out((0.5 * (recurrent + attended)).transpose(1, 2).flatten(2))


class _Layer(nn.Sequential):
    def __init__(self, dim: int) -> None:
        feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        super().__init__(RmsNorm(dim), HybridMixer(dim), RmsNorm(dim), feed)

    def forward(self, x: Tensor) -> Tensor:
        mix_norm, mix, feed_norm, feed = self
        x = x + mix(mix_norm(x))
        return x + feed(feed_norm(x))


class _HybridBlocks(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_Layer(dim) for _ in range(LAYERS)))
        self.norm = RmsNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layers(x))


class Hybrid(SequenceModel):
    """Blocks of minGRU and attention in parallel, each followed by a feed-forward layer.

    Args:
        in_channels: Number of channels of the input.
        dim: Width of the blocks and of the output.

    Raises:
        ConfigError: `dim` cannot be split among the heads.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        check_dim(dim, _HEADS)
        super().__init__(dim, projection(in_channels, dim), _HybridBlocks(dim))
