"""Sources of batches: clips drawn by number, with their labels and stored predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.random import Generator

from hear_core.errors import AudioError, ConfigError
from hear_train.augment import waveforms
from hear_train.batch import Batch, BatchSource, Targets
from hear_train.data.clips import Clip, Clips
from hear_train.data.samplers import Sampler

_ATTEMPTS = 20  # clips in a row that may be unreadable


class Part(NamedTuple):
    """A clip in a waveform to train on.

    Attributes:
        clip: Number of the clip.
        share: Share of the clip in the waveform, from 0 to 1.
        start: Sample of the clip that the waveform begins with, before it is shifted.
        shift: Samples by which it is shifted in a circle.
    """

    clip: int
    share: float
    start: int = 0
    shift: int = 0


class DrawnClip(NamedTuple):
    """A waveform to train on.

    Attributes:
        samples: Waveform (samples,), float32.
        clips: The clips in it.
        skipped: Reasons why clips were replaced by others, by name.
    """

    samples: np.ndarray
    clips: tuple[Part, ...]
    skipped: Mapping[str, str]


class Drawer(Protocol):
    """Draws waveforms by number: the same number gives the same waveform."""

    clips: Clips

    def draw(self, number: int) -> DrawnClip:
        """Return a waveform by its number."""


@dataclass(frozen=True)
class WaveformAugmentation:
    """Settings of the augmentation of waveforms, in the order in which it is applied.

    Args:
        gain: Largest change of level in dB, up and down.
        roll: Largest shift in a circle, in samples.
        mix: Probability of mixing a clip with another one, see `hear_train.augment.waveforms.mix`.
        mix_alpha: Parameter of the beta distribution of the shares.
    """

    gain: int = 0
    roll: int = 0
    mix: float = 0.0
    mix_alpha: float = 2.0

    def __post_init__(self) -> None:
        if min(self.gain, self.roll) < 0 or not 0 <= self.mix <= 1 or self.mix_alpha <= 0:
            msg = (
                "waveform augmentation needs gain and roll of 0 or more, mix from 0 to 1 and "
                f"mix_alpha above 0, not {self}"
            )
            raise ConfigError(msg)


class ClipDrawer:
    """Draws augmented clips.

    Args:
        clips: Clips to draw from.
        sampler: Order of the clips.
        seconds: Length: shorter clips are padded with silence at the end, longer ones are cropped
            at random.
        augmentation: Settings.
        seed: Seed of the augmentation.
        around_events: Probability that a longer clip is cropped around one of its events, of a
            class that is drawn first, rather than anywhere.
        shortest: Samples that shorter clips are padded to, where clips keep their own lengths; None
            pads all clips to `seconds`.
    """

    def __init__(
        self,
        clips: Clips,
        sampler: Sampler,
        seconds: float,
        augmentation: WaveformAugmentation,
        seed: int,
        around_events: float = 0.0,
        shortest: int | None = None,
    ) -> None:
        self.clips, self.sampler, self.augmentation = clips, sampler, augmentation
        self.shortest = shortest
        self.length, self.seed = round(seconds * clips.sample_rate), seed
        self.around_events = around_events

    def draw(self, number: int) -> DrawnClip:
        rng = np.random.default_rng((self.seed, number))
        skipped: dict[str, str] = {}
        part, samples = self._clip(self.sampler[number], rng, skipped)
        if rng.random() >= self.augmentation.mix:
            return DrawnClip(samples, (part,), skipped)
        other, partner = self._clip(int(rng.integers(len(self.clips))), rng, skipped)
        alpha = self.augmentation.mix_alpha
        share = waveforms.fold_share(float(rng.beta(alpha, alpha)))
        longest = max(len(samples), len(partner))
        samples, partner = (waveforms.crop(each, longest) for each in (samples, partner))
        mixed = waveforms.mix(samples, partner, share)
        parts = part._replace(share=share), other._replace(share=1 - share)
        return DrawnClip(mixed, parts, skipped)

    def _clip(self, index: int, rng: Generator, skipped: dict[str, str]) -> tuple[Part, np.ndarray]:
        index, samples = read_or_replace(self.clips, index, rng, skipped)
        settings = self.augmentation
        if settings.gain:
            decibels = int(rng.integers(-settings.gain, settings.gain))
            samples = waveforms.gain(samples, decibels)
        start = shift = 0
        if (spare := len(samples) - self.length) > 0:
            events = self.clips[index].events
            if events is not None and len(events) and rng.random() < self.around_events:
                start = self._around_event(events, spare, rng)
            else:
                start = int(rng.integers(spare + 1))
        length = self.length
        if self.shortest is not None:
            length = max(self.shortest, min(len(samples), length))
        samples = waveforms.crop(samples, length, start)
        if settings.roll:
            shift = int(rng.integers(-settings.roll, settings.roll + 1))
            samples = waveforms.roll(samples, shift)
        return Part(index, 1.0, start, shift), samples

    def _around_event(self, events: np.ndarray, spare: int, rng: Generator) -> int:
        """Return the start of a crop that holds a random event, or a section of a long one."""
        label = rng.choice(np.unique(events[:, 0]))
        of_class = events[events[:, 0] == label]
        _, onset, offset = of_class[rng.integers(len(of_class))] * self.clips.sample_rate
        low, high = sorted((onset, offset - self.length))
        return int(np.clip(rng.uniform(low, high), 0, spare))


def read_or_replace(
    clips: Clips, index: int, rng: Generator, skipped: dict[str, str]
) -> tuple[int, np.ndarray]:
    """Return the number and the samples of a clip, or of a random other one if it is unreadable.

    Args:
        clips: Clips to read.
        index: Number of the clip.
        rng: Random generator.
        skipped: Gets the reasons why clips were replaced, by name.

    Raises:
        ConfigError: Twenty clips in a row cannot be read.
    """
    for _ in range(_ATTEMPTS):
        try:
            return index, clips.read(index)
        except AudioError as error:
            skipped[clips[index].name] = str(error)
            index = int(rng.integers(len(clips)))
    msg = f"{_ATTEMPTS} clips in a row cannot be read; the last: {list(skipped.values())[-1]}"
    raise ConfigError(msg)


@dataclass
class DrawnBatches:
    """Batches of drawn waveforms, see `hear_train.batch.BatchSource`.

    Several processes share a step: together they get what one process would get with a batch that
    is as many times larger.

    Args:
        drawer: Draws the waveforms.
        batch_size: Clips of a batch, in one process.
        classes: Number of classes.
        predictions: Returns the stored predictions of a teacher for a clip by its name, (classes,),
            or those of its frames, (classes, frames).
        preprocess: Applied to every batch here, in a worker; None if the trainer does it.
        rank: Index of this process.
        processes: Number of processes.
        strong: Returns the targets of the frames of a clip as it was drawn, (classes, frames);
            None for data without events.
    """

    drawer: Drawer
    batch_size: int
    classes: int
    predictions: Callable[[str], np.ndarray] | None = None
    preprocess: Callable[[Batch], Batch] | None = None
    rank: int = 0
    processes: int = 1
    strong: Callable[[Clip, Part], np.ndarray] | None = None

    def __getitem__(self, step: int) -> Batch:
        first = (step * self.processes + self.rank) * self.batch_size
        drawn = [self.drawer.draw(first + i) for i in range(self.batch_size)]
        rows = [self._targets(each) for each in drawn]
        targets = Targets(
            torch.from_numpy(np.stack([weak for weak, _ in rows])),
            None
            if self.strong is None
            else torch.from_numpy(np.stack([*map(self._strong, drawn)])),
            known=torch.from_numpy(np.stack([known for _, known in rows])),
        )
        teacher = None
        if self.predictions is not None:
            soft = torch.from_numpy(np.stack([self._predicted(each) for each in drawn]))
            teacher = Targets(soft) if soft.ndim == 2 else Targets(strong=soft)
        clips, lengths = self.drawer.clips, [len(each.samples) for each in drawn]
        waveform = np.stack([waveforms.crop(each.samples, max(lengths)) for each in drawn])
        batch = Batch(
            step * self.processes + self.rank,
            torch.from_numpy(waveform),
            targets,
            tuple(clips[each.clips[0].clip].name if each.clips else "" for each in drawn),
            {name: why for each in drawn for name, why in each.skipped.items()},
            teacher=teacher,
            lengths=torch.tensor(lengths) if len(set(lengths)) > 1 else None,
        )
        return batch if self.preprocess is None else self.preprocess(batch)

    def _targets(self, drawn: DrawnClip) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and known classes of a mix, by the rule of `Targets.mix`."""
        weak, known = np.zeros(self.classes, np.float32), np.zeros(self.classes, bool)
        for part in drawn.clips:
            clip = self.drawer.clips[part.clip]
            if clip.labels is None:  # a mix with an unlabelled clip is unlabelled
                return np.zeros_like(weak), np.zeros_like(known)
            weak += np.float32(part.share) * np.unpackbits(clip.labels, count=self.classes)
            known |= (
                True if clip.known is None else np.unpackbits(clip.known, count=self.classes) > 0
            )
        return weak, known

    def _predicted(self, drawn: DrawnClip) -> np.ndarray:
        """Return the predictions of a mix: the mean of those of its clips by their shares."""
        assert self.predictions is not None  # noqa: S101
        clips = self.drawer.clips
        rows = [
            np.float32(part.share) * self.predictions(clips[part.clip].name) for part in drawn.clips
        ]
        return np.stack(rows).sum(0, dtype=np.float32)

    def _strong(self, drawn: DrawnClip) -> np.ndarray:
        """Return the targets of the frames of a mix: those of its clips by their shares."""
        assert self.strong is not None  # noqa: S101
        rows = [
            np.float32(part.share) * self.strong(self.drawer.clips[part.clip], part)
            for part in drawn.clips
        ]
        return np.stack(rows).sum(0, dtype=np.float32)


@dataclass
class PairedBatches:
    """Batches of clips with labels of their frames, each with a batch of clips without.

    Args:
        labelled: Batches of the former.
        unlabelled: Batches of the latter.
        preprocess: Applied to every pair here, in a worker; None if the trainer does it.
    """

    labelled: BatchSource
    unlabelled: BatchSource
    preprocess: Callable[[Batch], Batch] | None = None
    batch_size: int = field(init=False)

    def __post_init__(self) -> None:
        self.batch_size = self.labelled.batch_size + self.unlabelled.batch_size

    def __getitem__(self, step: int) -> Batch:
        batch, other = self.labelled[step], self.unlabelled[step]
        pair = batch._replace(unlabelled=other, skipped={**batch.skipped, **other.skipped})
        return pair if self.preprocess is None else self.preprocess(pair)
