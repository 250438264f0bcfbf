"""Augmentation of waveforms.

`roll`, `gain` and `mix` are those of EfficientAT (https://github.com/fschmid56/EfficientAT); they
keep the labels, or mix them. The variations at the end change what a clip sounds like, so that its
labels are no longer certain; they are meant for distillation, where the teacher gets the result.

Waveforms are (samples,), float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from hear_train.augment.random_curves import curve, envelope, log_uniform, transform_length

Variation = Callable[[np.ndarray, Generator, int], np.ndarray]
"""A function of samples, a random generator and the sample rate in Hz that returns samples."""


class RandomVariation(NamedTuple):
    """A variation that is applied with a probability."""

    probability: float
    vary: Variation


def roll(samples: np.ndarray, shift: int) -> np.ndarray:
    """Return samples that are shifted in a circle."""
    return np.roll(samples, shift)


def gain(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Return samples that are amplified by a number of decibels."""
    return samples * np.float32(10 ** (decibels / 20))


def fold_share(share: float) -> float:
    """Return the share of the louder of two sounds, from 0.5 to 1, for a share from 0 to 1."""
    return max(share, 1 - share)


def mix(samples: np.ndarray, partner: np.ndarray, share: float) -> np.ndarray:
    """Return two waveforms of one length mixed, with zero mean.

    Args:
        samples: First waveform, (samples,).
        partner: Second waveform, (samples,).
        share: Share of the first one, from 0 to 1; EfficientAT draws it from Beta(2, 2) and takes
            `fold_share` of it.
    """
    mixed = (samples - samples.mean()) * np.float32(share)
    mixed += (partner - partner.mean()) * np.float32(1 - share)
    return mixed - mixed.mean()


def crop(samples: np.ndarray, length: int, start: int = 0) -> np.ndarray:
    """Return `length` samples from `start` on, padded with silence at the end if necessary."""
    samples = samples[start : start + length]
    return np.pad(samples, (0, length - len(samples)))


def vary(
    samples: np.ndarray, rng: Generator, sample_rate: int, variations: tuple[RandomVariation, ...]
) -> np.ndarray:
    """Return samples after variations, each applied with its probability."""
    for variation in variations:
        if rng.random() < variation.probability:
            samples = variation.vary(samples, rng, sample_rate)
    return samples


def fit(samples: np.ndarray, length: int, rng: Generator) -> np.ndarray:
    """Return a random section of a sound; a short one is padded at both ends, or repeated."""
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


def change_speed(samples: np.ndarray, rng: Generator, sample_rate: int) -> np.ndarray:
    """Change speed and pitch by up to an octave, by linear interpolation."""
    position = np.arange(0, len(samples) - 1, 2 ** rng.uniform(-1, 1))
    before = position.astype(np.int64)
    weight = (position - before).astype(np.float32)
    return samples[before] * (1 - weight) + samples[before + 1] * weight


def repeat(samples: np.ndarray, rng: Generator, sample_rate: int) -> np.ndarray:
    """Repeat the loudest moment in a rhythm, as of ticks, knocks or strokes."""
    length = min(len(samples), int(log_uniform(rng, 0.03, 0.5) * sample_rate))
    start = int(np.abs(samples).argmax()) - length // 4
    start = min(max(0, start), len(samples) - length)
    moment = samples[start : start + length] * np.hanning(2 * length)[length:].astype(np.float32)
    period = max(length, int(log_uniform(rng, 0.06, 1.2) * sample_rate))
    strokes = rng.uniform(0.3, 1, size=rng.integers(1, 5)).astype(np.float32)
    rhythm = np.zeros(len(samples), np.float32)
    for index, at in enumerate(range(0, len(samples), period)):
        end = min(len(samples), at + length)
        rhythm[at:end] = strokes[index % len(strokes)] * moment[: end - at]
    return rhythm


def reverse(samples: np.ndarray, rng: Generator, sample_rate: int) -> np.ndarray:
    """Reverse the waveform in time."""
    return samples[::-1]


def equalise(samples: np.ndarray, rng: Generator, sample_rate: int) -> np.ndarray:
    """Filter with a smooth random frequency response."""
    size = transform_length(len(samples))
    spectrum = np.fft.rfft(samples, size)
    spectrum *= curve(rng, len(spectrum), sample_rate)
    return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def modulate(samples: np.ndarray, rng: Generator, sample_rate: int) -> np.ndarray:
    """Modulate the amplitude, periodically or at random."""
    return samples * envelope(rng, len(samples), sample_rate)


def reverberate(samples: np.ndarray, rng: Generator, sample_rate: int) -> np.ndarray:
    """Add reverberation: convolve with exponentially decaying noise."""
    tail = int(log_uniform(rng, 0.05, 1.0) * sample_rate)
    response = rng.standard_normal(tail, np.float32)
    response *= np.exp(-6.9 * np.arange(tail, dtype=np.float32) / tail)
    response *= 10 ** rng.uniform(-1, 0.3) / np.sqrt(np.square(response).sum())
    size = transform_length(len(samples) + tail)
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)
    return (samples + wet[: len(samples)]).astype(np.float32)


def level(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Scale samples to an RMS level in dB, where 0 dB is an RMS of 1; silence stays silent."""
    power = float(np.dot(samples, samples)) / max(1, len(samples))
    return samples if power < 1e-12 else samples * np.float32(10 ** (decibels / 20) / power**0.5)
