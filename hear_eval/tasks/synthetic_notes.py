"""Synthetic notes of many timbres, for tasks of pitch and of polyphony.

A note is a sum of harmonics with an envelope, some vibrato, a little inharmonicity and noise. The
timbre decides on all of these, so that a task whose folds are timbres asks for the pitch itself:
a predictor cannot rely on the spectrum that a note of one instrument has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SAMPLE_RATE = 32000
_SECONDS = 1.0
_PEAK = 0.5
_HARMONICS = 20


class Timbre(NamedTuple):
    """The sound of a synthetic instrument.

    Args:
        amplitudes: Amplitude of each harmonic, (harmonics,).
        inharmonicity: Stretch of the harmonics: harmonic h is at h f0 sqrt(1 + B h^2), as on
            strings (Fletcher, 1962).
        attack: Time constant of the attack in seconds.
        decay: Time constant of the decay in seconds.
        vibrato: Depth of the vibrato in semitones.
        noise: Level of white noise below the note, as a factor.
    """

    amplitudes: np.ndarray
    inharmonicity: float
    attack: float
    decay: float
    vibrato: float
    noise: float


def random_timbre(rng: np.random.Generator) -> Timbre:
    """Return a random timbre: bright or dark, plucked or sustained, with or without odd harmonics.

    Args:
        rng: Source of randomness.
    """
    order = np.arange(1, _HARMONICS + 1)
    amplitudes = order ** -rng.uniform(0.5, 2.5) * np.exp(rng.normal(0, 0.7, _HARMONICS))
    if rng.random() < 0.3:
        amplitudes[1::2] *= 0.05  # as in a closed pipe
    return Timbre(
        amplitudes,
        inharmonicity=float(rng.choice([0.0, 10 ** rng.uniform(-5, -3.5)])),
        attack=float(10 ** rng.uniform(-3, -1.2)),
        decay=float(10 ** rng.uniform(-0.7, 0.7)),
        vibrato=float(rng.choice([0.0, rng.uniform(0.05, 0.3)])),
        noise=float(10 ** rng.uniform(-3.5, -1.5)),
    )


def synthesise_notes(
    pitches: Sequence[float], timbres: Sequence[Timbre], rng: np.random.Generator
) -> np.ndarray:
    """Return a waveform of one second in which notes sound together, (samples,), float32.

    Args:
        pitches: MIDI note numbers; 69 is A4, 440 Hz.
        timbres: Timbre of every note.
        rng: Source of randomness of phases, vibrato and noise.
    """
    samples = round(_SECONDS * SAMPLE_RATE)
    time = np.arange(samples) / SAMPLE_RATE
    total = np.zeros(samples)
    for pitch, timbre in zip(pitches, timbres, strict=True):
        rate, phase = rng.uniform(4, 7), rng.uniform(0, 2 * np.pi)
        bend = timbre.vibrato * np.sin(2 * np.pi * rate * time + phase)
        fundamental = 440.0 * 2 ** ((pitch - 69 + bend) / 12)
        cycles = np.cumsum(fundamental) / SAMPLE_RATE
        note = np.zeros(samples)
        for order, amplitude in enumerate(timbre.amplitudes, start=1):
            stretched = order * np.sqrt(1 + timbre.inharmonicity * order**2)
            if stretched * fundamental.max() < SAMPLE_RATE / 2:
                note += amplitude * np.sin(2 * np.pi * (stretched * cycles + rng.random()))
        note *= (1 - np.exp(-time / timbre.attack)) * np.exp(-time / timbre.decay)
        level = np.sqrt(np.mean(note**2))
        total += note / level + timbre.noise * rng.standard_normal(samples)
    return (_PEAK * total / np.abs(total).max()).astype(np.float32)
