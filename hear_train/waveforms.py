"""Ways to make another sound of a sound.

Each takes samples (samples,), float32, a generator and a rate, and returns samples. They change
what is heard: a teacher must hear the result, as labels of the original are no longer sure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from hear_train.chance import curve, envelope, log_uniform, transform_length

Variation = Callable[[np.ndarray, Generator, int], np.ndarray]


class Step(NamedTuple):
    """A variation, and how often it is made."""

    probability: float
    vary: Variation


def vary(samples: np.ndarray, rng: Generator, rate: int, steps: tuple[Step, ...]) -> np.ndarray:
    """Return samples after some of the steps, each made with its probability."""
    for step in steps:
        if rng.random() < step.probability:
            samples = step.vary(samples, rng, rate)
    return samples


def fit(samples: np.ndarray, length: int, rng: Generator) -> np.ndarray:
    """Return a stretch of a sound; a short one stands somewhere in silence, or comes repeatedly."""
    spare = len(samples) - length
    if spare >= 0:
        start = rng.integers(spare + 1)
        return samples[start : start + length]
    if rng.random() < 0.5:
        period = len(samples) + int(rng.uniform(0, 0.5) * -spare)
        padded = np.pad(samples, (0, period - len(samples)))
        return np.tile(padded, -(-length // period))[:length]
    before = rng.integers(-spare + 1)
    return np.pad(samples, (before, -spare - before))


def change_speed(samples: np.ndarray, rng: Generator, rate: int) -> np.ndarray:
    """Play up to an octave lower or higher, which takes longer or less long."""
    position = np.arange(0, len(samples) - 1, 2 ** rng.uniform(-1, 1))
    before = position.astype(np.int64)
    weight = (position - before).astype(np.float32)
    return samples[before] * (1 - weight) + samples[before + 1] * weight


def repeat(samples: np.ndarray, rng: Generator, rate: int) -> np.ndarray:
    """Make a rhythm of the loudest moment: ticks, knocks, strokes."""
    length = min(len(samples), int(log_uniform(rng, 0.03, 0.5) * rate))
    start = int(np.abs(samples).argmax()) - length // 4
    start = min(max(0, start), len(samples) - length)
    moment = samples[start : start + length] * np.hanning(2 * length)[length:].astype(np.float32)
    period = max(length, int(log_uniform(rng, 0.06, 1.2) * rate))
    strokes = rng.uniform(0.3, 1, size=rng.integers(1, 5)).astype(np.float32)
    rhythm = np.zeros(len(samples), np.float32)
    for index, at in enumerate(range(0, len(samples), period)):
        end = min(len(samples), at + length)
        rhythm[at:end] = strokes[index % len(strokes)] * moment[: end - at]
    return rhythm


def reverse(samples: np.ndarray, rng: Generator, rate: int) -> np.ndarray:
    """Play backwards."""
    return samples[::-1]


def equalise(samples: np.ndarray, rng: Generator, rate: int) -> np.ndarray:
    """Filter with a smooth curve, and sometimes cut off what is above or below a frequency."""
    size = transform_length(len(samples))
    spectrum = np.fft.rfft(samples, size)
    spectrum *= curve(rng, len(spectrum), rate)
    return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def modulate(samples: np.ndarray, rng: Generator, rate: int) -> np.ndarray:
    """Let the sound swell and fade, in a rhythm or without one."""
    return samples * envelope(rng, len(samples), rate)


def reverberate(samples: np.ndarray, rng: Generator, rate: int) -> np.ndarray:
    """Put the sound into a room: noise that dies away follows it."""
    tail = int(log_uniform(rng, 0.05, 1.0) * rate)
    response = rng.standard_normal(tail, np.float32)
    response *= np.exp(-6.9 * np.arange(tail, dtype=np.float32) / tail)
    response *= 10 ** rng.uniform(-1, 0.3) / np.sqrt(np.square(response).sum())
    size = transform_length(len(samples) + tail)
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)
    return (samples + wet[: len(samples)]).astype(np.float32)


def level(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Bring samples to a level, 0 dB being an effective value of 1; silence stays silent."""
    power = float(np.dot(samples, samples)) / max(1, len(samples))
    return samples if power < 1e-12 else samples * np.float32(10 ** (decibels / 20) / power**0.5)
