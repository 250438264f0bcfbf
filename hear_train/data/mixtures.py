"""Mixtures for distillation: clips and synthetic sounds, varied and mixed at random.

The same seed and number give the same mixture, whatever was drawn before, so that a run that
resumes continues with the mixtures that it would have had.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from hear_core.errors import ConfigError
from hear_train.augment import waveforms
from hear_train.augment.synthesis import synthesise
from hear_train.augment.waveforms import RandomVariation
from hear_train.data.clips import Clips
from hear_train.data.samplers import UniformSampler
from hear_train.data.sources import DrawnClip, Part, read_or_replace

# Variations of each clip, and of the mixture of all of them.
PER_CLIP = (
    RandomVariation(0.10, waveforms.reverse),
    RandomVariation(0.60, waveforms.change_speed),
    RandomVariation(0.08, waveforms.repeat),
    RandomVariation(0.35, waveforms.equalise),
    RandomVariation(0.10, waveforms.modulate),
)
PER_MIXTURE = (
    RandomVariation(0.10, waveforms.reverberate),
    RandomVariation(0.15, waveforms.equalise),
)


@dataclass(frozen=True)
class MixtureConfig:
    """Settings of random mixtures.

    Args:
        seconds: Length of a mixture.
        sounds: Relative frequencies of mixing one, two, three and more sounds.
        synthetic: Probability that a sound is synthetic rather than a clip.
        kinds: Relative frequencies of noises, tones and train rides among synthetic sounds.
        strength: Factor on the probabilities of all variations. At 0 a clip is only cropped,
            shifted and scaled to a level, so that its labels and stored predictions stay valid.
        quieter: Largest difference in level from the first sound to the others, in dB.
        levels: Lowest and highest RMS level of the mixture, in dB.
        roll: Largest shift of the mixture in a circle, in samples.
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
                f"mixtures cannot be drawn with {', '.join(wrong)}: seconds must be more than 0, "
                "relative frequencies must not be negative nor all 0, synthetic must be from 0 to "
                "1, and strength 0 or more"
            )
            raise ConfigError(msg)


class MixtureDrawer:
    """Draws mixtures by number.

    Args:
        clips: Clips to draw from.
        config: Settings.
        seed: Seed of all draws.
    """

    def __init__(self, clips: Clips, config: MixtureConfig, seed: int) -> None:
        self.clips, self.config, self.seed = clips, config, seed
        self.length = round(config.seconds * clips.sample_rate)
        self._sampler = UniformSampler(len(clips), seed)
        self._per_clip, self._per_mixture = (
            tuple(RandomVariation(p * config.strength, vary) for p, vary in variations)
            for variations in (PER_CLIP, PER_MIXTURE)
        )

    def draw(self, number: int) -> DrawnClip:
        """Return a mixture by its number; first clips come in a new order in every epoch."""
        rng = np.random.default_rng((self.seed, number))
        config, rate = self.config, self.clips.sample_rate
        frequencies = np.array(config.sounds) / sum(config.sounds)
        count = 1 + int(rng.choice(len(frequencies), p=frequencies))
        skipped: dict[str, str] = {}
        mix, shares = np.zeros(self.length, np.float32), []
        for part in range(count):
            down = 0.0 if part == 0 else float(rng.uniform(-config.quieter, 0))
            if rng.random() < config.synthetic:
                samples = synthesise(rng, self.length, rate, config.kinds)
            else:
                index, samples = self._clip(number if part == 0 else None, rng, skipped)
                shares.append((index, 10 ** (down / 10)))
                samples = waveforms.vary(samples, rng, rate, self._per_clip)
                samples = waveforms.fit(samples, self.length, rng)
            mix += waveforms.level(samples, down)
        mix = waveforms.vary(mix, rng, rate, self._per_mixture)
        mix = waveforms.level(mix, float(rng.uniform(*config.levels)))
        shift = int(rng.integers(-config.roll, config.roll + 1))
        mix = waveforms.roll(np.clip(mix, -1, 1), shift)
        total = sum(share for _, share in shares)
        return DrawnClip(mix, tuple(Part(i, share / total) for i, share in shares), skipped)

    def _clip(
        self, number: int | None, rng: Generator, skipped: dict[str, str]
    ) -> tuple[int, np.ndarray]:
        """Return the clip whose turn it is, or a random one without a number, and its samples."""
        index = int(rng.integers(len(self.clips))) if number is None else self._sampler[number]
        return read_or_replace(self.clips, index, rng, skipped)
