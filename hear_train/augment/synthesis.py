"""Synthetic training sounds: noise, tones and train rides.

Each function takes a random generator, a length in samples and a sample rate in Hz, and returns a
waveform (length,), float32, at an arbitrary level. Where recordings are few, these sounds widen the
range of classes that a teacher predicts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from hear_train.augment.random_curves import curve, envelope, log_uniform, wander
from hear_train.augment.waveforms import level, reverberate

Synthesis = Callable[[Generator, int, int], np.ndarray]

_TABLE = 2048  # samples of the period that tones are looked up in


def noise(rng: Generator, length: int, sample_rate: int) -> np.ndarray:
    """Return coloured noise, steady or modulated, like wind, water, engines or distant crowds."""
    samples = _coloured(rng, length, sample_rate, rng.uniform(0, 1.5), 20, shape=True)
    return samples if rng.random() < 0.3 else samples * envelope(rng, length, sample_rate)


def tone(rng: Generator, length: int, sample_rate: int) -> np.ndarray:
    """Return a tone with overtones, steady or gliding, like hums, horns, whistles or motors."""
    glide = rng.choice([0, 0.02, 0.5]) * wander(rng, length, sample_rate, log_uniform(rng, 0.2, 6))
    pitch = np.exp2(np.log2(log_uniform(rng, 30, 3000)) + glide)
    phase = np.cumsum(pitch / sample_rate, dtype=np.float64)
    harmonics = np.arange(1, 1 + rng.integers(1, 30))
    weights = rng.uniform(0, 1, len(harmonics)) * harmonics ** -rng.uniform(0, 2)
    turn = 2 * np.pi * np.arange(_TABLE)[:, None] / _TABLE
    start = rng.uniform(0, 2 * np.pi, len(harmonics))
    period = (weights * np.sin(turn * harmonics + start)).sum(1).astype(np.float32)
    samples = period[(phase * _TABLE).astype(np.int64) % _TABLE]
    if rng.random() < 0.3:
        seconds = np.arange(length, dtype=np.float32) / sample_rate
        samples = samples * np.exp(-seconds * np.float32(log_uniform(rng, 0.5, 10)))
    return samples if rng.random() < 0.4 else samples * envelope(rng, length, sample_rate)


def ride(rng: Generator, length: int, sample_rate: int) -> np.ndarray:
    """Return the sound of a train ride: a rumble, wheels on rail joints, and often a reverb."""
    samples = level(_coloured(rng, length, sample_rate, rng.uniform(0.5, 0.95), 30), 0)
    depth = np.float32(rng.uniform(0, 0.8))
    samples *= 1 + depth * wander(rng, length, sample_rate, log_uniform(rng, 0.3, 8))
    samples += np.float32(10 ** (rng.uniform(-12, 10) / 20)) * _joints(rng, length, sample_rate)
    if rng.random() < 0.5:
        samples += level(tone(rng, length, sample_rate), rng.uniform(-35, -3))
    return reverberate(samples, rng, sample_rate) if rng.random() < 0.85 else samples


KINDS: tuple[Synthesis, ...] = (noise, tone, ride)


def synthesise(
    rng: Generator, length: int, sample_rate: int, chances: tuple[float, float, float]
) -> np.ndarray:
    """Return a sound of one of the `KINDS`, drawn with the relative frequencies `chances`."""
    shares = np.array(chances) / sum(chances)
    return KINDS[int(rng.choice(len(KINDS), p=shares))](rng, length, sample_rate)


def _joints(rng: Generator, length: int, sample_rate: int) -> np.ndarray:
    """Return the strokes of wheels on rail joints: equal pairs in a slightly uneven rhythm."""
    size = int(sample_rate * log_uniform(rng, 0.02, 0.3))
    fade = np.exp(-np.linspace(0, rng.uniform(2, 7), size, dtype=np.float32))
    stroke = level(_coloured(rng, size, sample_rate, rng.uniform(0.2, 1.2), 60) * fade, 0)
    period = log_uniform(rng, 0.2, 1.6)
    gap = rng.uniform(0.12, 0.35) * period
    joints, moment = np.zeros(length + size, np.float32), rng.uniform(0, period)
    while moment < length / sample_rate:
        for late, loud in ((0.0, 1.0), (gap, rng.uniform(0.5, 1))):
            start = min(length, int((moment + late) * sample_rate))
            joints[start : start + size] += np.float32(loud) * stroke
        moment += period * rng.uniform(0.97, 1.03)
    return joints[:length]


def _coloured(
    rng: Generator,
    length: int,
    sample_rate: int,
    slope: float,
    lowest: float,
    *,
    shape: bool = False,
) -> np.ndarray:
    """Return noise whose spectrum falls with a power of the frequency above `lowest` Hz."""
    bins = length // 2 + 1
    spectrum = rng.standard_normal(2 * bins, np.float32).view(np.complex64)
    hertz = np.arange(bins, dtype=np.float32) * np.float32(sample_rate / length)
    spectrum *= np.maximum(hertz / np.float32(lowest), 1) ** np.float32(-slope)
    if shape:
        spectrum *= curve(rng, bins, sample_rate)
    return np.fft.irfft(spectrum, length).astype(np.float32)
