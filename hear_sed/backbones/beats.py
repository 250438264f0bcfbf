"""BEATs: an audio transformer with gated relative positions.

From Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers" (ICML 2023), as it is used
for sound event detection by Schmid et al., "Effective Pre-Training of Audio Transformers for Sound
Event Detection" (ICASSP 2025). Gated relative positions are those of WavLM (Chen et al., JSTSP
2022); post-norm blocks are scaled as in DeepNet (Wang et al., 2022).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.frontends.kaldi_filter_bank import KaldiFilterBank
from hear_sed.backbones.base import BackboneRecord
from hear_sed.backbones.transformer import (
    FrameTransformer,
    average,
    interpolate,
    rename_by_patterns,
    run_blocks,
)
from hear_sed.sequence.attention import split_heads

FRONTEND = partial(KaldiFilterBank, mean=15.41663, scale=2 * 6.55582)
RENAMED = (
    (r"^model\.model\.", "model.beats."),
    (r"(model\.beats\.encoder)\.layers\.\d+\.self_attn\.(relative_attention_bias\.)", r"\1.\2"),
    (r"(pos_conv)\.0\.parametrizations\.weight\.original0$", r"\1.weight_g"),
    (r"(pos_conv)\.0\.parametrizations\.weight\.original1$", r"\1.weight_v"),
    (r"(pos_conv)\.0\.", r"\1."),
)
"""Patterns and replacements from keys of released files to keys of the detector.

Released files hold the bias table once per block; it is one table.
"""
_PATCH = 16
_DROPOUT = 0.1


class Beats(FrameTransformer):
    """BEATs as a frame-wise backbone.

    Patches of 16 x 16 are ordered by time, and within a time step by frequency. The original pools
    this sequence to frames as it is, about two patches per frame, so that neighbouring frames see
    different frequency bands of the same 160 ms. Released checkpoints were trained with it, so it
    is kept. There is no limit to the length: positions are relative.

    LayerDrop, which the original applies in training, is left out.

    Args:
        n_mels: Number of mel bands of the input, a multiple of 16.
        depth: Number of blocks.
        dim: Width of a token.
        heads: Number of heads.
        embedding: Width of a patch before its projection to `dim`.
        dropout: Dropout in training.
    """

    kind = "beats"
    min_frames = _PATCH
    frame_rounding = 2  # the filter bank has no padding, and lacks two frames of a whole number
    resize_sequence = staticmethod(average)
    resize_grid = staticmethod(interpolate)

    def __init__(
        self,
        n_mels: int = 128,
        depth: int = 12,
        dim: int = 768,
        heads: int = 12,
        *,
        embedding: int = 512,
        dropout: float = _DROPOUT,
    ) -> None:
        self.bands = n_mels // _PATCH
        super().__init__(n_mels, depth, dim, self.bands, dim)
        self.patch_embedding = nn.Conv2d(1, embedding, _PATCH, stride=_PATCH, bias=False)
        self.layer_norm = nn.LayerNorm(embedding)
        self.post_extract_proj = nn.Linear(embedding, dim)
        self.encoder = Encoder(depth, dim, heads, dropout)

    def layers(self, log_mel: Tensor) -> Iterator[Tensor]:
        patches = self.patch_embedding(log_mel.transpose(1, 2).unsqueeze(1))
        tokens = self.layer_norm(patches.flatten(2).transpose(1, 2))
        return self.encoder(self.post_extract_proj(tokens))

    def grid(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, self.bands, x.shape[2]).permute(0, 3, 2, 1)

    def sequence(self, x: Tensor) -> Tensor:
        return x


class Encoder(nn.Module):
    """Convolutional positions and blocks that share a table of relative positions."""

    def __init__(self, depth: int, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.pos_conv = ConvolutionalPositions(dim)
        self.layer_norm = nn.LayerNorm(dim)
        self.relative_attention_bias = nn.Embedding(2 * _BUCKETS, heads)
        residual = (2.0 * depth) ** 0.25
        self.layers = nn.ModuleList(
            PostNormBlock(dim, heads, residual, dropout) for _ in range(depth)
        )
        nn.init.xavier_normal_(self.relative_attention_bias.weight)
        _initialise_deep_norm(self.layers, gain=(8.0 * depth) ** -0.25)

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        """Return the tokens (batch, tokens, dim) before the first block and after every block."""
        x = self.layer_norm(x + self.pos_conv(x))
        x = F.dropout(x, self.dropout, self.training)
        bias = self._bias(x.shape[1])
        return run_blocks((partial(block, bias=bias) for block in self.layers), x)

    def _bias(self, tokens: int) -> Tensor:
        """Return the bias of every query for every key, (heads, tokens, tokens)."""
        token = torch.arange(tokens, device=self.relative_attention_bias.weight.device)
        # One row of the table for every distance, from the most negative one on.
        distances = torch.arange(2 * tokens - 1, device=token.device) - (tokens - 1)
        by_distance = self.relative_attention_bias(bucket(distances)).T
        return by_distance[:, token - token.unsqueeze(1) + (tokens - 1)]


_BUCKETS, _EXACT, _FARTHEST = 160, 80, 800


def bucket(distances: Tensor) -> Tensor:
    """Return the row of the table of relative positions for distances between tokens.

    Distances below 80 have a row each, those up to 800 share rows on a logarithmic axis, and
    those beyond share the last one. Keys after the query have rows of their own.

    Args:
        distances: Index of the key minus that of the query, integers of any shape.
    """
    far = distances.abs()
    octaves = torch.log(far.clamp(min=_EXACT).float() / _EXACT) / math.log(_FARTHEST / _EXACT)
    shared = (_EXACT + (octaves * (_BUCKETS - _EXACT)).long()).clamp(max=_BUCKETS - 1)
    return torch.where(far < _EXACT, far, shared) + _BUCKETS * (distances > 0).long()


class ConvolutionalPositions(nn.Module):
    """Positions from a grouped convolution over tokens, (batch, tokens, dim) to the same.

    From Baevski et al., "wav2vec 2.0" (NeurIPS 2020). The weights have a norm for every place in
    the kernel (Salimans and Kingma, "Weight Normalization", NeurIPS 2016).
    """

    def __init__(self, dim: int, kernel: int = 128, groups: int = 16) -> None:
        super().__init__()
        self.groups, self.padding = groups, kernel // 2
        weight = torch.randn(dim, dim // groups, kernel) * math.sqrt(4.0 / (kernel * dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.weight_v = nn.Parameter(weight)
        self.weight_g = nn.Parameter(self._norm(weight))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_v * (self.weight_g / self._norm(self.weight_v))
        y = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=self.padding, groups=self.groups)
        # An even kernel gives one token more.
        return F.gelu(y[:, :, :-1]).transpose(1, 2)

    @staticmethod
    def _norm(weight: Tensor) -> Tensor:
        return torch.linalg.vector_norm(weight, dim=(0, 1), keepdim=True)


class GatedRelativeAttention(nn.Module):
    """Self-attention whose relative positions count more or less, depending on the query.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        dropout: Dropout of attention weights in training.

    Shape:
        Tokens (batch, tokens, dim) and bias (heads, tokens, tokens) to (batch, tokens, dim).
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(dim, dim) for _ in range(4)
        )
        self.grep_linear = nn.Linear(dim // heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (
            split_heads(project(x), self.heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        # Each of the two gates is the sum of four outputs.
        gates = self.grep_linear(query)
        update, reset = (part.sum(-1, keepdim=True).sigmoid() for part in gates.chunk(2, dim=-1))
        gate = update * (reset * self.grep_a - 1.0) + 2.0
        y = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=gate * bias,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out_proj(y.transpose(1, 2).flatten(2))


class PostNormBlock(nn.Module):
    """Transformer block whose residuals are scaled up before they are normalised.

    Args:
        dim: Width of a token.
        heads: Number of heads.
        residual: Factor on the input of both halves.
        dropout: Dropout in training.
    """

    def __init__(self, dim: int, heads: int, residual: float, dropout: float) -> None:
        super().__init__()
        self.residual, self.dropout = residual, dropout
        self.self_attn = GatedRelativeAttention(dim, heads, dropout)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)
        self.final_layer_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        y = F.dropout(self.self_attn(x, bias), self.dropout, self.training)
        x = self.self_attn_layer_norm(x * self.residual + y)
        y = F.dropout(self.fc2(F.gelu(self.fc1(x))), self.dropout, self.training)
        return self.final_layer_norm(x * self.residual + y)


def _initialise_deep_norm(blocks: Iterable[nn.Module], gain: float) -> None:
    """Draw the weights of blocks as DeepNet does: those that feed the residual are scaled."""
    for block in blocks:
        for name, layer in block.named_modules():
            if isinstance(layer, nn.Linear) and not name.endswith("grep_linear"):
                scaled = not name.endswith(("q_proj", "k_proj"))
                nn.init.xavier_normal_(layer.weight, gain if scaled else 1.0)
                nn.init.zeros_(layer.bias)


BACKBONES: Mapping[str, BackboneRecord] = {
    "BEATs": BackboneRecord(Beats, FRONTEND, partial(rename_by_patterns, RENAMED))
}
"""The backbone by the name that PretrainedSED and EfficientSED give it."""
