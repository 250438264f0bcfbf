"""Preprocessing of batches: log-mels, their augmentation, and the predictions of a live teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hear_core.audio.reading import resample
from hear_core.frontends.log_mel import Frontend
from hear_train.augment.frames import FrameAugmentation, FrameDraws
from hear_train.augment.spectrograms import (
    SpectrogramAugmentation,
    draw_mel_edges,
    draw_mixstyle,
    draw_mixup,
    log_mel_with_edges,
    mixstyle,
    spec_augment,
)
from hear_train.batch import Batch
from hear_train.objectives.teachers import NetworkTeacher

_FRAME_STRIDE = 4  # log-mel frames in a frame of the targets of clips without strong labels


class Preprocessing(nn.Module):
    """Computes what the network gets from a batch of waveforms.

    A live teacher gets the same augmented sound, but without SpecAugment.

    Args:
        frontend: Front-end of the network that is trained.
        augmentation: Augmentation of its log-mels.
        seed: Seed of the augmentation.
        teacher: Live teacher; None if the batches have targets of a teacher already, or none.
        shuffle_teacher: Give every clip the predictions for its neighbour in the batch, as a
            control experiment.

    Shape:
        `Batch.waveform` (batch, samples) to `Batch.log_mel` (batch, n_mels, frames).
    """

    def __init__(
        self,
        frontend: Frontend,
        augmentation: SpectrogramAugmentation,
        seed: int,
        teacher: NetworkTeacher | None = None,
        *,
        shuffle_teacher: bool = False,
    ) -> None:
        super().__init__()
        self.frontend, self.teacher = frontend, teacher
        self.augmentation, self.seed, self.shuffle_teacher = augmentation, seed, shuffle_teacher

    @torch.no_grad()
    def forward(self, batch: Batch) -> Batch:
        settings, size, device = self.augmentation, len(batch.waveform), batch.waveform.device
        rng = np.random.default_rng((self.seed, 2, batch.step))
        edges = draw_mel_edges(rng) if settings.mel_edges else None
        styles = mixed = None
        if settings.mixstyle and rng.random() < settings.mixstyle:
            styles = draw_mixstyle(rng, size, device)
        elif settings.mixup:
            mixed = draw_mixup(rng, size, settings.mixup, device)

        def augmented(frontend: Frontend) -> Tensor:
            waveform = _resampled(batch.waveform, self.frontend, frontend)
            log_mel = log_mel_with_edges(frontend, waveform, edges)
            if mixed is not None:
                return mixed.mix(log_mel)
            return log_mel if styles is None else mixstyle(log_mel, styles)

        log_mel, targets, teacher, taps = (
            augmented(self.frontend),
            batch.targets,
            batch.teacher,
            batch.taps,
        )
        frames = None
        if batch.lengths is not None:
            counts = [self.frontend.frames(length) for length in batch.lengths.tolist()]
            frames = torch.tensor(counts, device=device)
            if mixed is not None:
                frames = torch.maximum(frames, frames[mixed.partner])
        if mixed is not None:
            targets = mixed.mix_targets(targets)
            teacher = None if teacher is None else mixed.mix_targets(teacher)
        if self.teacher is not None:
            teacher, taps = self.teacher(
                lambda other: log_mel if _alike(other, self.frontend) else augmented(other)
            )
        if self.shuffle_teacher and teacher is not None:
            neighbours = torch.arange(size, device=device).roll(1)
            teacher = teacher[neighbours]
            taps = {name: tap[neighbours] for name, tap in taps.items()}
        log_mel = spec_augment(log_mel, rng, settings.freq_mask, settings.time_mask)
        return batch._replace(
            log_mel=log_mel, targets=targets, teacher=teacher, taps=taps, frames=frames
        )


class FramePreprocessing(nn.Module):
    """Computes what a detector gets from a batch of waveforms, and what its teacher predicts.

    A live teacher gets the same sound, augmented alike.

    Args:
        frontend: Front-end of the detector that is trained.
        augmentation: Augmentation of its log-mels and targets.
        seed: Seed of the augmentation.
        teacher: Live teacher; None if the batches have targets of a teacher already, or none.
        unlabelled: Augmentation of the clips without labels of their frames, if there are any.
        shuffle_teacher: Give every clip the predictions for its neighbour in the batch, as a
            control experiment.

    Shape:
        `Batch.waveform` (batch, samples) to `Batch.log_mel` (batch, n_mels, frames).
    """

    def __init__(
        self,
        frontend: Frontend,
        augmentation: FrameAugmentation,
        seed: int,
        teacher: NetworkTeacher | None = None,
        *,
        unlabelled: FrameAugmentation | None = None,
        shuffle_teacher: bool = False,
    ) -> None:
        super().__init__()
        self.frontend, self.teacher, self.seed = frontend, teacher, seed
        self.augmentation, self.unlabelled = augmentation, unlabelled
        self.shuffle_teacher = shuffle_teacher

    @torch.no_grad()
    def forward(self, batch: Batch) -> Batch:
        batch = self._augmented(batch, self.augmentation, 2)
        if batch.unlabelled is None or self.unlabelled is None:
            return batch
        return batch._replace(unlabelled=self._augmented(batch.unlabelled, self.unlabelled, 3))

    def _augmented(self, batch: Batch, settings: FrameAugmentation, stream: int) -> Batch:
        rng = np.random.default_rng((self.seed, stream, batch.step))
        size, device = len(batch.waveform), batch.waveform.device
        frames = self.frontend.frames(batch.waveform.shape[1])
        strong = batch.targets.strong
        target_frames = -(-frames // _FRAME_STRIDE) if strong is None else strong.shape[-1]
        draws = FrameDraws(settings, rng, size, frames, target_frames)

        def augmented(frontend: Frontend) -> Tensor:
            waveform = _resampled(batch.waveform, self.frontend, frontend)
            return draws.augment(log_mel_with_edges(frontend, waveform, draws.edges))

        log_mel = augmented(self.frontend)
        teacher = None if batch.teacher is None else draws.move(batch.teacher, device)
        if self.teacher is not None:
            teacher, _ = self.teacher(
                lambda other: log_mel if _alike(other, self.frontend) else augmented(other)
            )
        if self.shuffle_teacher and teacher is not None:
            teacher = teacher[torch.arange(size, device=device).roll(1)]
        targets = draws.move(batch.targets, device)
        return batch._replace(log_mel=log_mel, targets=targets, teacher=teacher)


def _alike(frontend: Frontend, other: Frontend) -> bool:
    """Return whether two front-ends compute the same: that of BEATs and that of ASiT do not."""

    def settings(each: Frontend) -> dict[str, Any]:
        simple = (bool, int, float, str)
        found = {key: value for key, value in vars(each).items() if isinstance(value, simple)}
        return found | {"training": False}

    if type(frontend) is not type(other):
        return False
    constants, others = dict(frontend.named_buffers()), dict(other.named_buffers())
    return (
        settings(frontend) == settings(other)
        and constants.keys() == others.keys()
        and all(torch.equal(value, others[key]) for key, value in constants.items())
    )


def _resampled(waveform: Tensor, own: Frontend, other: Frontend) -> Tensor:
    """Return waveforms at the sample rate of another front-end."""
    if own.sample_rate == other.sample_rate:
        return waveform
    rates = own.sample_rate, other.sample_rate
    resampled = [resample(samples, *rates) for samples in waveform.cpu().numpy()]
    return torch.from_numpy(np.stack(resampled)).to(waveform.device)
