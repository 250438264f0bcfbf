"""Sound made here and now, for commands that are given none."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def siren(seconds: float, sample_rate: int) -> Tensor:
    """Return a siren in some noise, (samples,), always the same."""
    t = torch.arange(int(seconds * sample_rate)) / sample_rate
    phase = 2 * math.pi * 800 * t - 400 * torch.cos(2 * math.pi * 0.5 * t)
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(0))
    return 0.3 * phase.sin() + 0.02 * noise
