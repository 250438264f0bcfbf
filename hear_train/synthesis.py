"""Sounds of nothing: noises, tones, and what a ride on rails sounds like.

Each takes a generator, a length in samples and a rate, and returns samples (length,), float32, of
any level. They widen what a few clips let a teacher talk about.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from hear_train.chance import curve, envelope, log_uniform, wander
from hear_train.waveforms import level, reverberate

Synthesis = Callable[[Generator, int, int], np.ndarray]

_TABLE = 2048


def noise(rng: Generator, length: int, rate: int) -> np.ndarray:
    """Return coloured noise, steady or modulated: wind, water, engines, crowds, from afar."""
    samples = _coloured(rng, length, rate, rng.uniform(0, 1.5), 20, shape=True)
    return samples if rng.random() < 0.3 else samples * envelope(rng, length, rate)


def tone(rng: Generator, length: int, rate: int) -> np.ndarray:
    """Return a tone with overtones, steady or gliding: hums, horns, whistles, motors."""
    glide = rng.choice([0, 0.02, 0.5]) * wander(rng, length, rate, log_uniform(rng, 0.2, 6))
    pitch = np.exp2(np.log2(log_uniform(rng, 30, 3000)) + glide)
    phase = np.cumsum(pitch / rate, dtype=np.float64)
    harmonics = np.arange(1, 1 + rng.integers(1, 30))
    weights = rng.uniform(0, 1, len(harmonics)) * harmonics ** -rng.uniform(0, 2)
    turn = 2 * np.pi * np.arange(_TABLE)[:, None] / _TABLE
    start = rng.uniform(0, 2 * np.pi, len(harmonics))
    period = (weights * np.sin(turn * harmonics + start)).sum(1).astype(np.float32)
    samples = period[(phase * _TABLE).astype(np.int64) % _TABLE]
    if rng.random() < 0.3:
        seconds = np.arange(length, dtype=np.float32) / rate
        samples = samples * np.exp(-seconds * np.float32(log_uniform(rng, 0.5, 10)))
    return samples if rng.random() < 0.4 else samples * envelope(rng, length, rate)


def ride(rng: Generator, length: int, rate: int) -> np.ndarray:
    """Return a rumble with pairs of strokes in a rhythm, as of wheels on joints, in a hall."""
    samples = level(_coloured(rng, length, rate, rng.uniform(0.5, 0.95), 30), 0)
    swell = np.float32(rng.uniform(0, 0.8)) * wander(rng, length, rate, log_uniform(rng, 0.3, 8))
    samples *= 1 + swell
    samples += np.float32(10 ** (rng.uniform(-12, 10) / 20)) * _joints(rng, length, rate)
    if rng.random() < 0.5:
        samples += level(tone(rng, length, rate), rng.uniform(-35, -3))
    return reverberate(samples, rng, rate) if rng.random() < 0.85 else samples


KINDS: tuple[Synthesis, ...] = (noise, tone, ride)


def synthesise(
    rng: Generator, length: int, rate: int, chances: tuple[float, float, float]
) -> np.ndarray:
    """Return a sound of one of the kinds, each with its chance."""
    shares = np.array(chances) / sum(chances)
    return KINDS[int(rng.choice(len(KINDS), p=shares))](rng, length, rate)


def _joints(rng: Generator, length: int, rate: int) -> np.ndarray:
    """Return pairs of short strokes, all of one sound, in a rhythm that is not quite even."""
    size = int(rate * log_uniform(rng, 0.02, 0.3))
    fade = np.exp(-np.linspace(0, rng.uniform(2, 7), size, dtype=np.float32))
    stroke = level(_coloured(rng, size, rate, rng.uniform(0.2, 1.2), 60) * fade, 0)
    period = log_uniform(rng, 0.2, 1.6)
    gap = rng.uniform(0.12, 0.35) * period
    joints, moment = np.zeros(length + size, np.float32), rng.uniform(0, period)
    while moment < length / rate:
        for late, loud in ((0.0, 1.0), (gap, rng.uniform(0.5, 1))):
            start = min(length, int((moment + late) * rate))
            joints[start : start + size] += np.float32(loud) * stroke
        moment += period * rng.uniform(0.97, 1.03)
    return joints[:length]


def _coloured(
    rng: Generator, length: int, rate: int, slope: float, lowest: float, *, shape: bool = False
) -> np.ndarray:
    """Return noise that falls with a power of the frequency, from `lowest` Hz on."""
    bins = length // 2 + 1
    spectrum = rng.standard_normal(2 * bins, np.float32).view(np.complex64)
    hertz = np.arange(bins, dtype=np.float32) * np.float32(rate / length)
    spectrum *= np.maximum(hertz / np.float32(lowest), 1) ** np.float32(-slope)
    if shape:
        spectrum *= curve(rng, bins, rate)
    return np.fft.irfft(spectrum, length).astype(np.float32)
