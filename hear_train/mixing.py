"""What is heard in training: clips, varied and mixed, drawn from a seed and a number.

The same seed and number give the same sound, whatever was drawn before, so that a run that goes on
where it stopped hears what it would have heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from hear_core.errors import AudioError, ConfigError
from hear_train import waveforms
from hear_train.clips import Clips
from hear_train.synthesis import synthesise
from hear_train.waveforms import Step

_ATTEMPTS = 20

# What a sound goes through by itself, and what all of them go through together.
ALONE = (
    Step(0.10, waveforms.reverse),
    Step(0.60, waveforms.change_speed),
    Step(0.08, waveforms.repeat),
    Step(0.35, waveforms.equalise),
    Step(0.10, waveforms.modulate),
)
TOGETHER = (Step(0.10, waveforms.reverberate), Step(0.15, waveforms.equalise))


@dataclass(frozen=True)
class Mixing:
    """How sounds are drawn.

    Args:
        seconds: Length of a sound.
        sounds: Probabilities of mixing one, two, three … sounds.
        synthetic: Probability that a sound is a noise or tone made for it, and no clip.
        kinds: Chances of noises, tones and rides among these.
        strength: Factor on the probabilities of all variations; at 0 a clip is only cut, shifted
            and brought to a level, which keeps its labels and stored predictions right.
        quieter: The level of further sounds is up to so many decibels below the first.
        levels: Lowest and highest level of the result, in decibels.
        roll: Samples that the result is shifted by at most, in a circle.
    """

    seconds: float = 5.0
    sounds: tuple[float, ...] = (0.5, 0.35, 0.15)
    synthetic: float = 0.2
    kinds: tuple[float, float, float] = (0.4, 0.25, 0.35)
    strength: float = 1.0
    quieter: float = 20.0
    levels: tuple[float, float] = (-45.0, -8.0)
    roll: int = 4000

    def __post_init__(self) -> None:
        wrong = [
            f"{name} {getattr(self, name)}"
            for name, good in (
                ("seconds", self.seconds > 0),
                ("sounds", min(self.sounds) >= 0 and sum(self.sounds) > 0),
                ("kinds", min(self.kinds) >= 0 and sum(self.kinds) > 0),
                ("synthetic", 0 <= self.synthetic <= 1),
                ("strength", self.strength >= 0),
            )
            if not good
        ]
        if wrong:
            msg = (
                f"sounds cannot be drawn with {', '.join(wrong)}: seconds are more than 0, chances "
                "are not negative and not all 0, synthetic is a share, strength is 0 or more"
            )
            raise ConfigError(msg)


class Sound(NamedTuple):
    """What was drawn.

    Attributes:
        samples: (samples,).
        clips: Numbers of the clips in it, and their shares.
        skipped: Why clips were not taken, by name.
    """

    samples: np.ndarray
    clips: tuple[tuple[int, float], ...]
    skipped: dict[str, str]


class Mixer:
    """Draws sounds.

    Args:
        clips: To draw from.
        mixing: How.
        seed: Another seed draws others.
    """

    def __init__(self, clips: Clips, mixing: Mixing, seed: int) -> None:
        self.clips, self.mixing, self.seed = clips, mixing, seed
        self.length = round(mixing.seconds * clips.sample_rate)
        self._alone, self._together = (
            tuple(Step(step.probability * mixing.strength, step.vary) for step in steps)
            for steps in (ALONE, TOGETHER)
        )

    def draw(self, number: int) -> Sound:
        """Return a sound by its number; clips come in a new order every time all have come."""
        rng = np.random.default_rng((self.seed, number))
        chances = np.array(self.mixing.sounds) / sum(self.mixing.sounds)
        count = 1 + int(rng.choice(len(chances), p=chances))
        skipped: dict[str, str] = {}
        mix, shares = np.zeros(self.length, np.float32), []
        for part in range(count):
            down = 0.0 if part == 0 else float(rng.uniform(-self.mixing.quieter, 0))
            if rng.random() < self.mixing.synthetic:
                samples = synthesise(rng, self.length, self.clips.sample_rate, self.mixing.kinds)
            else:
                first = self._turn(number) if part == 0 else int(rng.integers(len(self.clips)))
                index, samples = self._read(first, rng, skipped)
                shares.append((index, 10 ** (down / 10)))
                samples = waveforms.vary(samples, rng, self.clips.sample_rate, self._alone)
                samples = waveforms.fit(samples, self.length, rng)
            mix += waveforms.level(samples, down)
        mix = waveforms.vary(mix, rng, self.clips.sample_rate, self._together)
        mix = waveforms.level(mix, float(rng.uniform(*self.mixing.levels)))
        shift = int(rng.integers(-self.mixing.roll, self.mixing.roll + 1))
        mix = np.roll(np.clip(mix, -1, 1), shift)
        total = sum(share for _, share in shares)
        return Sound(mix, tuple((i, share / total) for i, share in shares), skipped)

    def _turn(self, number: int) -> int:
        """Return the clip whose turn it is."""
        epoch, turn = divmod(number, len(self.clips))
        return int(np.random.default_rng((self.seed, 1, epoch)).permutation(len(self.clips))[turn])

    def _read(self, index: int, rng: Generator, skipped: dict[str, str]) -> tuple[int, np.ndarray]:
        """Return a clip and its number: the one that is asked for, or another if it is corrupt."""
        for _ in range(_ATTEMPTS):
            try:
                return index, self.clips.read(index)
            except AudioError as error:
                skipped[self.clips[index].name] = str(error)
                index = int(rng.integers(len(self.clips)))
        msg = f"{_ATTEMPTS} clips in a row cannot be read; the last: {list(skipped.values())[-1]}"
        raise ConfigError(msg)
