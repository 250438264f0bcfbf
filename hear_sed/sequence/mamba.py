"""Mamba2 over frames, in operations that run on every device.

From Dao and Gu, "Transformers are SSMs: Generalized Models and Efficient Algorithms Through
Structured State Space Duality" (ICML 2024). Parameters of a mixer are named as in mamba-ssm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_sed.sequence.base import LAYERS, Residual, SequenceModel, check_dim, projection
from hear_sed.sequence.scan import CHUNK, initial_states, split_into_chunks

_EXPAND = 2
_NARROW = 128  # width at which EfficientSED uses heads of half the size
_STEPS = (1e-3, 1e-1)  # range of the initial step sizes


def state_space(x: Tensor, step: Tensor, decay: Tensor, read: Tensor, write: Tensor) -> Tensor:
    """Run a state space model in which the state of each head decays exponentially.

    The state is S[t] = exp(step[t] * decay) S[t - 1] + step[t] * write[t] x[t]^T with S[-1] = 0,
    and the output is y[t] = read[t] S[t]. It is computed as attention within chunks, and as a
    recurrence between chunks, see sections 5 and 6 of the paper.

    Args:
        x: Input of the heads, (batch, frames, heads, size).
        step: Step sizes, dt in the paper, (batch, frames, heads), positive.
        decay: Decay of each head, A in the paper, (heads,), negative.
        read: Weights of the state in the output, C in the paper, (batch, frames, states).
        write: Weights of the input in the state, B in the paper, (batch, frames, states).

    Returns:
        Output of the heads, (batch, frames, heads, size).
    """
    frames, heads = x.shape[1:3]
    # From here on, axes are batch, chunks, heads, frames of a chunk, and values of a frame.
    read, write = (split_into_chunks(y).unsqueeze(2) for y in (read, write))
    values = split_into_chunks((x * step.unsqueeze(3)).flatten(2))
    values = values.reshape(*values.shape[:3], heads, -1).transpose(2, 3)
    log_decay = split_into_chunks(step * decay).transpose(2, 3).cumsum(3).unsqueeze(4)
    later = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=x.device).triu(1)
    pairwise = (log_decay - log_decay.transpose(3, 4)).masked_fill(later, -torch.inf).exp()
    within = (read @ write.transpose(3, 4) * pairwise) @ values
    total = log_decay[:, :, :, -1:]
    added = write.transpose(3, 4) @ (values * (total - log_decay).exp())
    before = read @ initial_states(total.exp(), added) * log_decay.exp()
    return (within + before).transpose(2, 3).flatten(1, 2)[:, :frames]


class Mamba2(nn.Module):
    """Mixer of Mamba2 without its gated norm, (batch, frames, dim) to the same.

    Args:
        dim: Number of channels of every frame.
        state: Number of states for each element of a head.
        kernel: Kernel size of the causal convolution.
        head: Size of each head.
    """

    def __init__(self, dim: int, state: int = 64, kernel: int = 3, head: int = 64) -> None:
        super().__init__()
        inner = _EXPAND * dim
        heads = inner // head
        self.sizes, self.heads = [inner, inner, state, state, heads], heads
        mixed = inner + 2 * state
        self.in_proj = nn.Linear(dim, inner + mixed + heads, bias=False)
        self.conv1d = nn.Conv1d(mixed, mixed, kernel, groups=mixed, padding=kernel - 1)
        low, high = (math.log(step) for step in _STEPS)
        steps = torch.empty(heads).uniform_(low, high).exp()
        # The softplus of the bias is the initial step size of a head.
        self.dt_bias = nn.Parameter(steps + (-(-steps).expm1()).log())
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        frames, inner = x.shape[1], self.sizes[0]
        gate, mixed, step = self.in_proj(x).split([inner, sum(self.sizes[1:4]), self.heads], dim=2)
        mixed = self.conv1d(mixed.transpose(1, 2))[:, :, :frames].transpose(1, 2)
        # The state accumulates over many frames and needs float32, also under autocast.
        values, write, read = F.silu(mixed).float().split(self.sizes[1:4], dim=2)
        values = values.reshape(*values.shape[:2], self.heads, -1)
        step = F.softplus(step.float() + self.dt_bias.float())
        y = state_space(values, step, -self.A_log.float().exp(), read, write)
        y = (y + values * self.D.float().unsqueeze(1)).flatten(2).to(x.dtype)
        return self.out_proj(y * F.silu(gate))


class _MambaBlocks(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        head = 32 if dim == _NARROW else 64
        self.norm = nn.LayerNorm(dim)
        self.layers = Residual(
            *(nn.Sequential(Mamba2(dim, head=head), nn.LayerNorm(dim)) for _ in range(LAYERS))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.norm(x))


class Mamba(SequenceModel):
    """Two Mamba2 mixers, each followed by a layer norm.

    Args:
        in_channels: Number of channels of the input.
        dim: Width of the blocks and of the output.

    Raises:
        ConfigError: `dim` cannot be split among the heads.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        check_dim(dim, 64 // _EXPAND)
        super().__init__(dim, projection(in_channels, dim), _MambaBlocks(dim))
