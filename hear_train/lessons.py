"""Lessons: batches of sounds, and what a teacher says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn
from torch.utils.data import Dataset

from hear_core.audio.reading import resample
from hear_core.frontends.log_mel import Frontend, LogMel
from hear_train.mixing import Mixer
from hear_train.teachers import StoredTeacher, Teacher


class Lesson(NamedTuple):
    """A batch to learn from.

    Attributes:
        number: Of the step.
        heard: Waveforms (batch, samples), or log-mels (batch, n_mels, frames) once they were heard.
        soft: Probabilities by the teacher (batch, classes); empty if it has not been asked yet.
        labels: Of those clips that have any (batch, classes); others are rows of NaN.
        taps: Of the teacher.
        skipped: Why clips were not taken, by name.
    """

    number: int
    heard: Tensor
    soft: Tensor
    labels: Tensor
    taps: dict[str, Tensor]
    skipped: dict[str, str]

    def to(self, device: torch.device) -> Lesson:
        """Return the lesson on a device."""
        return self._replace(
            heard=self.heard.to(device),
            soft=self.soft.to(device),
            labels=self.labels.to(device),
            taps={name: tap.to(device) for name, tap in self.taps.items()},
        )


@dataclass(frozen=True)
class Blur:
    """What is done to log-mels.

    Args:
        edges: Draw the edges of the mel bank anew for every batch: the lower one up to 9 Hz up,
            the upper one from 14001 to 16000 Hz, as EfficientAT does; else they stay.
        mixup: Mix pairs of log-mels by Beta(mixup, mixup); 0 does not. EfficientAT has 0.3.
        mask_bands: Blank up to so many mel bands of what the student sees.
        mask_frames: Blank up to so many frames.
    """

    edges: bool = True
    mixup: float = 0.0
    mask_bands: int = 0
    mask_frames: int = 0


class Listening(nn.Module):
    """Turns waveforms into log-mels, and asks the teacher.

    Args:
        frontend: Of the student.
        teacher: A network, if the lessons have no predictions of one.
        blur: Changes to the log-mels.
        seed: Of these.
        shuffled: Give every sound what was said of its neighbour in the batch: a control.
    """

    def __init__(
        self,
        frontend: Frontend,
        teacher: Teacher | None,
        blur: Blur,
        seed: int,
        *,
        shuffled: bool = False,
    ) -> None:
        super().__init__()
        self.frontend, self.teacher, self.blur, self.seed = frontend, teacher, blur, seed
        self.shuffled = shuffled

    @torch.no_grad()
    def forward(self, lesson: Lesson) -> Lesson:
        rng = np.random.default_rng((self.seed, 2, lesson.number))
        edges = _draw_edges(rng) if self.blur.edges else None
        pairs = _draw_pairs(rng, lesson.heard, self.blur.mixup) if self.blur.mixup else None
        log_mel = _mixed(_log_mel(self.frontend, lesson.heard, edges), pairs)
        soft, labels, taps = _mixed(lesson.soft, pairs), _mixed(lesson.labels, pairs), lesson.taps
        if self.teacher is not None:
            seen = log_mel
            if _settings(self.teacher.frontend) != _settings(self.frontend):
                heard = _at_rate(lesson.heard, self.frontend, self.teacher.frontend)
                seen = _mixed(_log_mel(self.teacher.frontend, heard, edges), pairs)
            taps = self.teacher(seen)
            soft = taps.pop("logits").sigmoid()
        if self.shuffled:
            soft, taps = soft.roll(1, 0), {name: tap.roll(1, 0) for name, tap in taps.items()}
        heard = _masked(log_mel, rng, self.blur)
        return lesson._replace(heard=heard, soft=soft, labels=labels, taps=taps)


@dataclass
class Lessons(Dataset[Lesson]):
    """Lessons by the number of the step; the same number is the same lesson.

    Args:
        mixer: Draws the sounds.
        batch: How many a lesson has, in one process.
        classes: Number of classes.
        stored: Predictions of a teacher by clip.
        listening: Applied here, that is in a worker; if None, it is done where the student learns.
        rank: Of this process.
        processes: How many share a step.
    """

    mixer: Mixer
    batch: int
    classes: int
    stored: StoredTeacher | None = None
    listening: Listening | None = None
    rank: int = 0
    processes: int = 1

    def __getitem__(self, step: int) -> Lesson:
        start = (step * self.processes + self.rank) * self.batch
        sounds = [self.mixer.draw(start + i) for i in range(self.batch)]
        soft = [self._mean(sound.clips, self._stored) for sound in sounds] if self.stored else []
        labels = [self._mean(sound.clips, self._labels) for sound in sounds]
        lesson = Lesson(
            step * self.processes + self.rank,
            torch.from_numpy(np.stack([sound.samples for sound in sounds])),
            torch.from_numpy(np.stack(soft)) if soft else torch.empty(self.batch, 0),
            torch.from_numpy(np.stack(labels)),
            {},
            {name: why for sound in sounds for name, why in sound.skipped.items()},
        )
        return lesson if self.listening is None else self.listening(lesson)

    def _mean(self, clips: tuple[tuple[int, float], ...], of: Any) -> np.ndarray:
        """Return the mean of something of clips by their shares: NaN if there is none."""
        if not clips:
            return np.full(self.classes, np.nan, np.float32)
        mean: np.ndarray = sum(np.float32(share) * of(index) for index, share in clips)
        return mean

    def _stored(self, index: int) -> np.ndarray:
        assert self.stored is not None  # noqa: S101 - says so to the type checker
        return self.stored.probabilities(self.mixer.clips[index].name)

    def _labels(self, index: int) -> np.ndarray:
        labels = self.mixer.clips[index].labels
        if labels is None:
            return np.full(self.classes, np.nan, np.float32)
        return np.unpackbits(labels, count=self.classes).astype(np.float32)


def _draw_edges(rng: Generator) -> tuple[float, float]:
    return float(rng.integers(10)), float(14001 + rng.integers(2000))


def _log_mel(frontend: Frontend, waveforms: Tensor, edges: tuple[float, float] | None) -> Tensor:
    """Return what a front-end makes of waveforms, with other edges of its mel bank if given."""
    if edges is not None and isinstance(frontend, LogMel):
        return frontend(waveforms, edges=edges)
    return frontend(waveforms)


def _at_rate(waveforms: Tensor, student: Frontend, teacher: Frontend) -> Tensor:
    """Return waveforms at the rate of the teacher."""
    if student.sample_rate == teacher.sample_rate:
        return waveforms
    rates = student.sample_rate, teacher.sample_rate
    heard = [resample(waveform, *rates) for waveform in waveforms.cpu().numpy()]
    return torch.from_numpy(np.stack(heard)).to(waveforms.device)


def _settings(frontend: Frontend) -> tuple[Any, ...]:
    names = ("sample_rate", "n_mels", "hop", "window", "floor")
    return (type(frontend), *(getattr(frontend, name, None) for name in names))


class _Pairs(NamedTuple):
    """Which row every row of a batch is mixed with, and its own share of the mix."""

    partner: Tensor
    share: Tensor


def _draw_pairs(rng: Generator, batch: Tensor, alpha: float) -> _Pairs:
    share = rng.beta(alpha, alpha, size=len(batch)).astype(np.float32)
    partner = torch.from_numpy(rng.permutation(len(batch)))
    own = torch.from_numpy(np.maximum(share, 1 - share))
    return _Pairs(partner.to(batch.device), own.to(batch.device))


def _mixed(tensor: Tensor, pairs: _Pairs | None) -> Tensor:
    if pairs is None:
        return tensor
    share = pairs.share.view(-1, *[1] * (tensor.ndim - 1))
    return share * tensor + (1 - share) * tensor[pairs.partner]


def _masked(log_mel: Tensor, rng: Generator, blur: Blur) -> Tensor:
    """Blank one stretch of bands and one of frames of every clip, with the mean of all."""
    for axis, most in ((1, blur.mask_bands), (2, blur.mask_frames)):
        if not most:
            continue
        size = log_mel.shape[axis]
        width = torch.from_numpy(rng.integers(0, most + 1, size=(len(log_mel), 1)))
        start = torch.from_numpy(rng.integers(0, np.maximum(1, size - width.numpy() + 1)))
        places = torch.arange(size)
        hidden = ((places >= start) & (places < start + width)).to(log_mel.device)
        hidden = hidden[:, :, None] if axis == 1 else hidden[:, None, :]
        log_mel = torch.where(hidden, log_mel.mean(), log_mel)
    return log_mel
