"""Audio transformers: shared parts of the backbones that attend to patches of a log-mel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.errors import ConfigError
from hear_core.networks.backbone import LOGITS_ALIASES
from hear_core.networks.taps import TapShape
from hear_sed.backbones.base import FrameBackbone
from hear_sed.sequence.attention import split_heads

STRIDE = 4
"""Log-mel frames of 10 ms per output frame of 40 ms."""
_INIT_DEVIATION = 0.02


class MultiHeadAttention(nn.Module):
    """Multi-head self-attention of a vision transformer, (batch, tokens, dim) to the same.

    From Vaswani et al., "Attention Is All You Need" (NeurIPS 2017).

    Args:
        dim: Width of a token.
        heads: Number of heads.
        qkv_bias: Whether queries, keys and values have a bias.
    """

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(y, self.heads) for y in self.qkv(x).chunk(3, dim=2))
        y = F.scaled_dot_product_attention(query, key, value)
        return self.proj(y.transpose(1, 2).flatten(2))


class FeedForwardLayer(nn.Module):
    """Two linear layers with a GELU between them, the inner one four times as wide."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class TransformerBlock(nn.Module):
    """Pre-norm transformer block of a vision transformer, (batch, tokens, dim) to the same.

    From Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021).

    Args:
        dim: Width of a token.
        heads: Number of heads.
        qkv_bias: Whether queries, keys and values have a bias.
    """

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = MultiHeadAttention(dim, heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = FeedForwardLayer(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def run_blocks(blocks: Iterable[Callable[[Tensor], Tensor]], x: Tensor) -> Iterator[Tensor]:
    """Yield the tokens before the first block and after every block; blocks run on request."""
    yield x
    for block in blocks:
        x = block(x)
        yield x


def average(x: Tensor, frames: int) -> Tensor:
    """Reduce the last axis of a tensor to `frames` averages over neighbours.

    The averages are those of `torch.nn.functional.adaptive_avg_pool1d`. As a matrix product they
    have an ONNX graph for any length.

    Args:
        x: Values (..., length), with a length of at least `frames`.
        frames: New length.
    """
    length = x.shape[-1]
    frame = torch.arange(frames, device=x.device)
    start, stop = frame * length // frames, ((frame + 1) * length + frames - 1) // frames
    step = torch.arange(length, device=x.device).unsqueeze(1)
    inside = (step >= start) & (step < stop)
    return x @ (inside / (stop - start)).to(x.dtype)


def interpolate(x: Tensor, frames: int) -> Tensor:
    """Stretch the last axis of a tensor to `frames` values by linear interpolation.

    The values are those of `torch.nn.functional.interpolate` with `align_corners` False. As a
    matrix product they have an ONNX graph for any length.

    Args:
        x: Values (..., length), with a length of at most `frames`.
        frames: New length.
    """
    length = x.shape[-1]
    step = torch.arange(length, device=x.device, dtype=torch.float32).unsqueeze(1)
    frame = torch.arange(frames, device=x.device, dtype=torch.float32)
    place = ((frame + 0.5) * length / frames - 0.5).clamp(min=0.0)
    # Beyond the last step its value is repeated.
    place = torch.minimum(place, step[-1])
    return x @ (1.0 - (place - step).abs()).clamp(min=0.0).to(x.dtype)


def keep_length(x: Tensor, frames: int) -> Tensor:
    """Return a tensor whose last axis has `frames` values already."""
    return x


class FrameTransformer(FrameBackbone):
    """Base class of the audio transformers: log-mel to one vector every 40 ms.

    A subclass implements `layers`, `grid` and `sequence`, and sets how both are resized to
    the frames.

    Taps: ``b0``, ``b1``, … are the outputs of the blocks, maps (batch, dim, bands, frames) with
    the frequency patches as bands; ``tokens`` is the sequence that the network was trained to
    output, at its own rate, (batch, channels, 1, steps); ``frames`` is the same every 40 ms,
    (batch, channels, 1, frames). ``block`` and ``all_b`` are groups of four blocks.

    Args:
        n_mels: Number of mel bands of the input.
        depth: Number of blocks.
        dim: Width of a token.
        bands: Number of frequency patches.
        channels: Width of an output frame.
        max_frames: Largest number of log-mel frames that the positions suffice for; None if there
            is no limit.

    Attributes:
        max_frames: See above.
        frame_rounding: Log-mel frames that are added before they are divided by `frame_stride`.
    """

    frame_stride = STRIDE
    whole_frames = False
    sequence_tap = "tokens"
    frame_rounding: int = 0
    resize_sequence: Callable[[Tensor, int], Tensor] = staticmethod(keep_length)
    resize_grid: Callable[[Tensor, int], Tensor] = staticmethod(keep_length)

    def __init__(
        self,
        n_mels: int,
        depth: int,
        dim: int,
        bands: int,
        channels: int,
        *,
        max_frames: int | None = None,
    ) -> None:
        super().__init__()
        self.n_mels, self.depth, self.channels, self.max_frames = (
            n_mels,
            depth,
            channels,
            max_frames,
        )
        blocks = {f"b{index}": TapShape(dim, bands) for index in range(depth)}
        output = TapShape(channels, 1)
        self.tap_shapes = {**blocks, "tokens": output, "frames": output}
        self.tap_aliases = _aliases(depth)

    def frame_count(self, log_mel_frames: int) -> int:
        """Return the number of output frames of a log-mel."""
        return (log_mel_frames + self.frame_rounding) // STRIDE

    def layers(self, log_mel: Tensor) -> Iterator[Tensor]:
        """Yield the tokens (batch, tokens, dim) before the first block and after every block."""
        raise NotImplementedError

    def grid(self, x: Tensor) -> Tensor:
        """Return tokens (batch, tokens, dim) as a map (batch, dim, bands, steps)."""
        raise NotImplementedError

    def sequence(self, x: Tensor) -> Tensor:
        """Return the output (batch, steps, channels) of the tokens after the last block."""
        raise NotImplementedError

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("frames",)) -> dict[str, Tensor]:
        """Return the requested taps, see `Backbone.forward`.

        Raises:
            ConfigError: The log-mel is longer than the positions of the network.
        """
        self._check_length(log_mel.shape[2])
        frames = self.frame_count(log_mel.shape[2])
        outputs = {"tokens", "frames"} & set(taps)
        last = self.depth if outputs else 1 + max(int(tap[1:]) for tap in taps)
        values = {}
        for number, x in enumerate(self.layers(log_mel)):
            if f"b{number - 1}" in taps:
                values[f"b{number - 1}"] = self.resize_grid(self.grid(x), frames)
            if number == last:
                break
        if outputs:
            tokens = self.sequence(x).transpose(1, 2).unsqueeze(2)
            values |= {"tokens": tokens} if "tokens" in taps else {}
            values |= {"frames": self.resize_sequence(tokens, frames)} if "frames" in taps else {}
        return values

    def _check_length(self, frames: int) -> None:
        if self.max_frames is not None and frames > self.max_frames:
            msg = (
                f"{type(self).__name__} has positions for {self.max_frames} log-mel frames, but "
                f"the log-mel has {frames}; use windows of at most {self.max_frames / 100:g} s"
            )
            raise ConfigError(msg)


def initialise_weights(network: nn.Module) -> None:
    """Draw the weights of linear layers from a normal distribution, as vision transformers do."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=_INIT_DEVIATION)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def random_positions(*shape: int) -> nn.Parameter:
    """Return a table of learned positions or tokens before training."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=_INIT_DEVIATION))


def rename_by_patterns(patterns: Iterable[tuple[str, str]], key: str) -> str:
    """Return the key of a detector for a key of a released file.

    Args:
        patterns: Regular expressions and their replacements, applied one after another.
        key: Key of the file.
    """
    for pattern, replacement in patterns:
        key = re.sub(pattern, replacement, key)
    return key


def _aliases(depth: int) -> Mapping[str, tuple[str, ...]]:
    """Return the groups of taps: four blocks that end with the last, evenly spaced."""
    quarters = sorted({round(depth * quarter / 4) - 1 for quarter in (1, 2, 3, 4)} - {-1})
    group = tuple(f"b{index}" for index in quarters)
    return {**LOGITS_ALIASES, "all_b": group, "block": ("b0", *group)}
