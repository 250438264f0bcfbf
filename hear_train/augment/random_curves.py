"""Random numbers, envelopes and frequency responses for augmentation."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Return a random number between `low` and `high` whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def wander(rng: Generator, length: int, sample_rate: int, hertz: float) -> np.ndarray:
    """Return a random piecewise linear curve in [-1, 1], (length,), with `hertz` knots a second."""
    knots = rng.uniform(-1, 1, 2 + math.ceil(length / sample_rate * hertz))
    position = np.linspace(0, len(knots) - 1.001, length)
    return np.interp(position, np.arange(len(knots)), knots).astype(np.float32)


def envelope(rng: Generator, length: int, sample_rate: int) -> np.ndarray:
    """Return gains over time, from 0 to 1, (length,): a random curve, waves or decaying strokes."""
    if rng.random() < 0.5:
        gains = 0.5 + 0.5 * wander(rng, length, sample_rate, log_uniform(rng, 0.3, 8))
    else:
        step = np.float32(log_uniform(rng, 0.4, 20) / sample_rate)
        cycles = np.arange(length, dtype=np.float32) * step
        cycles += rng.random(dtype=np.float32) + 0.1 * wander(rng, length, sample_rate, 1.0)
        if rng.random() < 0.5:
            gains = 0.5 + 0.5 * np.sin(2 * np.pi * cycles)
        else:
            gains = np.exp(-rng.uniform(1, 8) * (cycles % 1))
    depth = rng.uniform(0.3, 1)
    return (1 - depth + depth * np.clip(gains, 0, 1) ** rng.uniform(0.5, 3)).astype(np.float32)


def curve(rng: Generator, bins: int, sample_rate: int) -> np.ndarray:
    """Return a random frequency response: gains of the bins of a spectrum, (bins,).

    It is smooth in decibels over log frequency, and sometimes a low-pass or a high-pass filter.
    """
    octaves = np.log2(np.linspace(0, sample_rate / 2, bins, dtype=np.float32) + 20)
    knots = np.linspace(octaves[0], octaves[-1], rng.integers(3, 10))
    decibels = np.interp(octaves, knots, rng.normal(0, rng.uniform(2, 14), len(knots)))
    cut, slope = np.log2(log_uniform(rng, 150, 8000)), rng.uniform(6, 36)
    kind = rng.random()
    if kind < 0.3:
        decibels -= slope * np.maximum(0, octaves - cut)
    elif kind < 0.45:
        decibels -= slope * np.maximum(0, cut - octaves)
    return np.power(10, np.clip(decibels, -90, 40) / 20).astype(np.float32)


def transform_length(length: int) -> int:
    """Return the next length whose Fourier transform is fast: a multiple of a power of two."""
    block = 1 << max(0, length.bit_length() - 4)
    return -(-length // block) * block
