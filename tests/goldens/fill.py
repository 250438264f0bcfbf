"""Deterministic weights and signals: what the golden arrays were computed with.

A tensor is drawn from a generator that the CRC-32 of its name seeds, and scaled by its kind and
fan-in so that a deep network neither dies nor explodes. The same name and shape give the same
numbers in any implementation, so two of them can be compared without a released checkpoint.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# What becomes of standard normal noise, by the kind of a tensor.
_SCALES = {
    "variance": lambda noise: 1.0 + 0.1 * np.abs(noise),
    "matrix": lambda noise: noise / np.sqrt(np.prod(noise.shape[1:], dtype=np.float32)),
    "gain": lambda noise: 1.0 + 0.1 * noise,
    "offset": lambda noise: 0.1 * noise,
}


def _kind(name: str, rank: int) -> str:
    if name.endswith("running_var"):
        return "variance"
    if name.endswith("running_mean"):
        return "offset"
    if rank >= 2:
        return "matrix"
    return "gain" if name.endswith("weight") else "offset"


def fill_tensor(name: str, shape: Sequence[int]) -> np.ndarray:
    """Return the float32 values of the tensor `name` of shape `shape`."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    noise = rng.standard_normal(tuple(shape)).astype(np.float32)
    return _SCALES[_kind(name, len(shape))](noise)


def fill_state(tensors: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    """Return a state dict for the rows of a manifest.

    A row is ``[dtype, shape]``, or ``[dtype, shape, values]`` where the values are given. Other
    integer tensors, such as counters, are zero.
    """
    state = {}
    for name, (dtype, shape, *values) in tensors.items():
        if values:
            state[name] = np.asarray(values[0], dtype).reshape(shape)
        elif np.issubdtype(np.dtype(dtype), np.floating):
            state[name] = fill_tensor(name, shape).astype(dtype)
        else:
            state[name] = np.zeros(shape, dtype)
    return state


def waveform(seconds: float, batch: int = 1, sample_rate: int = 32000) -> Tensor:
    """Return a test signal (batch, samples) of chirp, pulsing tone and swelling noise, peak 0.8."""
    samples = round(seconds * sample_rate)
    time = np.arange(samples, dtype=np.float64) / sample_rate

    def clip(row: int) -> np.ndarray:
        noise = np.random.default_rng(1000 + row).standard_normal(samples)
        noise *= 0.2 + 0.2 * np.sin(2 * np.pi * 0.7 * time)
        chirp = np.sin(2 * np.pi * (100 + 60 * row + 300 * time) * time)
        pulses = np.sin(2 * np.pi * 1.5 * time) > 0
        tone = np.sin(2 * np.pi * 440 * (row + 1) * time) * pulses
        mix = 0.4 * chirp + 0.3 * tone + 0.3 * noise
        return (mix / np.abs(mix).max() * 0.8).astype(np.float32)

    return torch.from_numpy(np.stack([clip(row) for row in range(batch)]))


def frame_features(channels: int, frames: int = 250) -> Tensor:
    """Return the input (1, frames, channels) of the sequence models in the golden arrays."""
    values = np.random.default_rng(7).standard_normal((1, 250, channels)).astype(np.float32)
    return torch.from_numpy(values)[:, :frames]
