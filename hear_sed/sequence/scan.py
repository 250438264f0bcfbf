"""First-order linear recurrences, h[t] = decay[t] * h[t - 1] + input[t], without a step per frame.

The parallel scan is that of Hillis and Steele, "Data Parallel Algorithms" (CACM 1986): after a
round, every frame has what twice as many frames before it left behind. Nothing is divided and no
logarithm is taken, so that what has decayed to nothing is nothing, however long the sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 64
"""Frames that are scanned together; chunks are then scanned in their turn."""
_MOST_ROUNDS = 12


def linear_recurrence(decay: Tensor, x: Tensor) -> Tensor:
    """Return h of h[t] = decay[t] * h[t - 1] + x[t], h[-1] = 0.

    Args:
        decay: (batch, frames, channels), from 0 to 1.
        x: (batch, frames, channels).

    Returns:
        (batch, frames, channels).
    """
    frames = x.shape[1]
    decay, x = (in_chunks(y) for y in (decay, x))
    decay, x = _scanned(decay, x, dim=2, rounds=(CHUNK - 1).bit_length())
    before = carried(decay[:, :, -1], x[:, :, -1]).unsqueeze(2)
    return (decay * before + x).flatten(1, 2)[:, :frames]


def carried(decay: Tensor, x: Tensor) -> Tensor:
    """Return the state that each chunk starts from.

    Args:
        decay: Decay of the state over a whole chunk, (batch, chunks, ...), broadcastable to `x`.
        x: What a chunk adds to the state, (batch, chunks, ...).
    """
    # A graph has no loop of a length that depends on its input; it has all the rounds that 2 ** 18
    # frames need, which is 2.9 hours of 40 ms. Those that are too many do nothing.
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined]
    rounds = _MOST_ROUNDS if traced else max(1, (x.shape[1] - 1).bit_length())
    return _later(_scanned(decay, x, dim=1, rounds=rounds)[1], 1, dim=1, fill=0.0)


def in_chunks(x: Tensor) -> Tensor:
    """Take (batch, frames, channels) to (batch, chunks, CHUNK, channels), zeros at the end."""
    padded = F.pad(x, (0, 0, 0, -x.shape[1] % CHUNK))
    return padded.reshape(x.shape[0], -1, CHUNK, x.shape[2])


def _scanned(decay: Tensor, x: Tensor, dim: int, rounds: int) -> tuple[Tensor, Tensor]:
    """Return, at each place, the decay of all up to it, and what they add up to."""
    for number in range(rounds):
        earlier = _later(x, 1 << number, dim, fill=0.0)
        x = x + decay * earlier
        decay = decay * _later(decay, 1 << number, dim, fill=1.0)
    return decay, x


def _later(x: Tensor, by: int, dim: int, fill: float) -> Tensor:
    """Move `x` along an axis, what is moved in being `fill`."""
    padding = [0, 0] * (x.ndim - 1 - dim) + [by, 0]
    return F.pad(x, padding, value=fill).narrow(dim, 0, x.shape[dim])
