"""First-order linear recurrences h[t] = decay[t] * h[t - 1] + x[t], computed as parallel scans.

The scan is that of Hillis and Steele, "Data Parallel Algorithms" (CACM 1986): every round doubles
the number of earlier frames that a state includes. It needs neither divisions nor logarithms, so
that a state that has decayed to zero stays exactly zero, however long the sequence is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 64
"""Number of frames in a chunk. Frames are scanned within chunks, and then chunk by chunk."""
_MAX_ROUNDS = 12


def linear_recurrence(decay: Tensor, x: Tensor) -> Tensor:
    """Solve h[t] = decay[t] * h[t - 1] + x[t] for h, with h[-1] = 0.

    Args:
        decay: Decay of the state at every frame, (batch, frames, channels), in [0, 1].
        x: Input that is added to the state, (batch, frames, channels).

    Returns:
        States h, (batch, frames, channels).
    """
    frames = x.shape[1]
    decay, x = (split_into_chunks(y) for y in (decay, x))
    decay, x = _scan(decay, x, dim=2, rounds=(CHUNK - 1).bit_length())
    before = initial_states(decay[:, :, -1], x[:, :, -1]).unsqueeze(2)
    return (decay * before + x).flatten(1, 2)[:, :frames]


def initial_states(decay: Tensor, x: Tensor) -> Tensor:
    """Return the state that each chunk starts from.

    Args:
        decay: Decay of the state over a whole chunk, (batch, chunks, ...), broadcastable to `x`.
        x: Contribution of a whole chunk to the state, (batch, chunks, ...).
    """
    # The number of rounds of a traced graph cannot depend on its input. It has as many as 2 ** 18
    # frames need, which is 2.9 hours at 40 ms; superfluous rounds do not change the result.
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined]
    rounds = _MAX_ROUNDS if traced else max(1, (x.shape[1] - 1).bit_length())
    return _shift(_scan(decay, x, dim=1, rounds=rounds)[1], 1, dim=1, fill=0.0)


def split_into_chunks(x: Tensor) -> Tensor:
    """Split (batch, frames, channels) into (batch, chunks, CHUNK, channels), padded with zeros."""
    padded = F.pad(x, (0, 0, 0, -x.shape[1] % CHUNK))
    return padded.reshape(x.shape[0], -1, CHUNK, x.shape[2])


def _scan(decay: Tensor, x: Tensor, dim: int, rounds: int) -> tuple[Tensor, Tensor]:
    """Return the cumulative decay and the state at every position along an axis."""
    for number in range(rounds):
        earlier = _shift(x, 1 << number, dim, fill=0.0)
        x = x + decay * earlier
        decay = decay * _shift(decay, 1 << number, dim, fill=1.0)
    return decay, x


def _shift(x: Tensor, by: int, dim: int, fill: float) -> Tensor:
    """Shift `x` by `by` positions along an axis, and fill the first positions with `fill`."""
    padding = [0, 0] * (x.ndim - 1 - dim) + [by, 0]
    return F.pad(x, padding, value=fill).narrow(dim, 0, x.shape[dim])
