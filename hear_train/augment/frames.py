"""Augmentation for frame-wise training: it moves the targets of frames with the sound.

The augmentations, their order and their random draws are those of EfficientSED
(https://github.com/theMoro/EfficientSED) and PretrainedSED. Log-mels are (batch, n_mels, frames).
All draws come from a NumPy generator on the CPU, so that they are the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from hear_core.errors import ConfigError
from hear_train.augment.spectrograms import draw_mel_edges, draw_mixstyle, mixstyle
from hear_train.batch import Pairs, Targets, roll_rows

_NARROWEST_MASK = 0.05  # share of the frames
_FILTER_BANDS = (3, 5)
_NARROWEST_BAND = 6  # mel bins
_FILTER_DECIBELS = 6.0
_LOWEST_WARP = 0.6  # share of the mel bins


@dataclass(frozen=True)
class FrameAugmentation:
    """Settings of the augmentation for frame-wise training, in the order in which it is applied.

    Args:
        mel_edges: Draw the edges of the mel bank anew for every batch, as in EfficientAT: fmin from
            0 to 9 Hz, and fmax up to 1 kHz around that of the front-end. Front-ends other than
            `LogMel` keep theirs.
        frame_shift: Standard deviation of a shift in a circle, as a share of the frames.
        mixup: Probability that the clips of a batch are mixed in pairs.
        mixup_beta: Parameters of the beta distribution of a clip's own share.
        mixup_folded: Whether a clip's own share is always the larger one. EfficientSED does not
            fold it, PretrainedSED does.
        mixstyle: Probability that the statistics of the mel bands of clips are mixed.
        time_mask: Longest span that is masked in all clips of a batch, in sound and targets, as a
            share of the frames; 0 masks none.
        filter_augment: Probability that clips are filtered in random bands.
        freq_warp: Probability that the mel axis of a batch is cropped and stretched.
    """

    mel_edges: bool = True
    frame_shift: float = 0.0
    mixup: float = 0.0
    mixup_beta: tuple[float, float] = (0.2, 0.2)
    mixup_folded: bool = False
    mixstyle: float = 0.0
    time_mask: float = 0.0
    filter_augment: float = 0.0
    freq_warp: float = 0.0

    def __post_init__(self) -> None:
        shares = ("frame_shift", "mixup", "mixstyle", "time_mask", "filter_augment", "freq_warp")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                msg = f"frames.{name} must be from 0 to 1, not {getattr(self, name)}"
                raise ConfigError(msg)
        if 0 < self.time_mask < _NARROWEST_MASK or min(self.mixup_beta) <= 0:
            msg = (
                f"frames.time_mask must be 0 or at least {_NARROWEST_MASK}, and frames.mixup_beta "
                f"above 0, not {self.time_mask} and {list(self.mixup_beta)}"
            )
            raise ConfigError(msg)


class TimeMask(NamedTuple):
    """A masked span in frames of the targets."""

    start: int
    width: int


class FrequencyWarp(NamedTuple):
    """A crop of the mel axis in mel bins."""

    start: int
    height: int


class FilterCurves(NamedTuple):
    """Filters that are piecewise linear in decibels.

    Attributes:
        borders: Mel bins of the knots, from 0 to the number of bins, (knots,).
        decibels: Gains at the knots, (batch, knots), float32.
    """

    borders: np.ndarray
    decibels: np.ndarray


class FrameDraws:
    """Random draws of the augmentation of a batch.

    The log-mels of several front-ends, as of a student and its teacher, are augmented alike: shifts
    and masks are scaled to their frames, and filters and warps are drawn with the same seed.

    Args:
        settings: Settings.
        rng: Random generator.
        batch_size: Number of clips.
        frames: Frames of the log-mel of the network that is trained.
        target_frames: Frames of the targets.
    """

    def __init__(
        self,
        settings: FrameAugmentation,
        rng: Generator,
        batch_size: int,
        frames: int,
        target_frames: int,
    ) -> None:
        self.frames, self.target_frames = frames, target_frames
        self.edges = draw_mel_edges(rng) if settings.mel_edges else None
        self.shifts: Tensor | None = None
        if settings.frame_shift:
            scale = int(settings.frame_shift * frames)
            self.shifts = torch.from_numpy(np.trunc(rng.normal(0, scale, batch_size))).long()
        self.mixup: Pairs | None = None
        if rng.random() < settings.mixup:
            self.mixup = draw_frame_mixup(
                rng, batch_size, settings.mixup_beta, folded=settings.mixup_folded
            )
        self.mixstyle: Pairs | None = None
        if rng.random() < settings.mixstyle:
            pairs = draw_mixstyle(rng, batch_size, torch.device("cpu"))
            self.mixstyle = Pairs(pairs.partner, torch.maximum(pairs.share, 1 - pairs.share))
        self.time_mask: TimeMask | None = None
        if settings.time_mask:
            self.time_mask = draw_time_mask(rng, target_frames, settings.time_mask)
        self.filter_seed, self.warp_seed = (
            int(rng.integers(2**31)) if rng.random() < probability else None
            for probability in (settings.filter_augment, settings.freq_warp)
        )

    def augment(self, log_mel: Tensor) -> Tensor:
        """Return an augmented log-mel (batch, n_mels, frames), of any front-end."""
        device, (size, n_mels, frames) = log_mel.device, log_mel.shape
        if self.shifts is not None:
            log_mel = roll_rows(log_mel, self._scaled(self.shifts, frames).to(device))
        if self.mixup is not None:
            log_mel = self.mixup.to(device).mix(log_mel)
        if self.mixstyle is not None:
            log_mel = mixstyle(log_mel, self.mixstyle.to(device))
        if self.time_mask is not None:
            log_mel = mask_frames(log_mel, self.time_mask, frames / self.target_frames)
        if self.filter_seed is not None:
            curves = draw_filters(np.random.default_rng(self.filter_seed), size, n_mels)
            log_mel = filter_bands(log_mel, curves)
        if self.warp_seed is not None:
            warp = draw_warp(np.random.default_rng(self.warp_seed), n_mels)
            log_mel = warp_bands(log_mel, warp)
        return log_mel

    def move(self, targets: Targets, device: torch.device) -> Targets:
        """Return the targets of the augmented sounds."""
        if self.shifts is not None:
            scaled = (self.shifts * (self.target_frames / self.frames)).round().long()
            targets = targets.roll(scaled.to(device))
        if self.mixup is not None:
            targets = self.mixup.to(device).mix_targets(targets)
        if self.time_mask is not None and targets.strong is not None:
            strong = mask_frames(targets.strong, self.time_mask, 1)
            targets = Targets(targets.weak, strong, targets.known)
        return targets

    def _scaled(self, shifts: Tensor, frames: int) -> Tensor:
        """Return shifts in frames of another front-end."""
        if frames == self.frames:
            return shifts
        return (shifts * (frames / self.frames)).round().long()


def draw_frame_mixup(
    rng: Generator, batch_size: int, beta: tuple[float, float], *, folded: bool
) -> Pairs:
    """Return pairs for mixup: a random permutation, and shares from a beta distribution.

    Args:
        rng: Random generator.
        batch_size: Number of clips.
        beta: Parameters of the distribution.
        folded: Whether a clip's own share is the larger one.
    """
    share = rng.beta(*beta, size=batch_size).astype(np.float32)
    if folded:
        share = np.maximum(share, 1 - share)
    return Pairs(torch.from_numpy(rng.permutation(batch_size)), torch.from_numpy(share))


def draw_time_mask(rng: Generator, frames: int, longest: float) -> TimeMask:
    """Return a span of random length and place.

    Args:
        rng: Random generator.
        frames: Frames of the targets.
        longest: Longest span, as a share of the frames.
    """
    least = int(_NARROWEST_MASK * frames)
    width = int(rng.integers(least, max(least + 1, int(longest * frames))))
    return TimeMask(int(rng.integers(frames - width)), width)


def mask_frames(values: Tensor, mask: TimeMask, scale: float) -> Tensor:
    """Return values (batch, …, frames) that are 0 in a span.

    EfficientSED masks the labels twice and never the predictions of the teacher, so that its
    student is taught events in silence; here both are masked.

    Args:
        values: Log-mels or targets.
        mask: The span, in frames of the targets.
        scale: Frames of `values` in a frame of the targets.
    """
    places = torch.arange(values.shape[-1], device=values.device)
    begin, end = round(mask.start * scale), round((mask.start + mask.width) * scale)
    return values.masked_fill((places >= begin) & (places < end), 0)


def draw_filters(rng: Generator, batch_size: int, n_mels: int) -> FilterCurves:
    """Return filters of 3 to 5 bands of at least 6 mel bins; the clips share the borders."""
    bands = int(rng.integers(_FILTER_BANDS[0], _FILTER_BANDS[1] + 1))
    bands = min(bands, max(1, n_mels // _NARROWEST_BAND))
    free = rng.integers(0, max(1, n_mels - bands * _NARROWEST_BAND), size=bands - 1)
    inner = np.sort(free) + _NARROWEST_BAND * np.arange(1, bands)
    borders = np.concatenate([[0], inner, [n_mels]])
    decibels = rng.uniform(-_FILTER_DECIBELS, _FILTER_DECIBELS, (batch_size, bands + 1))
    return FilterCurves(borders, decibels.astype(np.float32))


def filter_bands(log_mel: Tensor, curves: FilterCurves) -> Tensor:
    """Filter log-mels in bands: FilterAugment with linear curves.

    From Nam, Kim and Park, "FilterAugment" (ICASSP 2022). As in EfficientSED, the gains multiply
    the scaled log-mel, and not the power. Both ends of a band have the gains of its borders.
    """
    factors = np.empty((len(curves.decibels), log_mel.shape[1]), np.float32)
    ends = zip(curves.borders[:-1], curves.borders[1:], strict=True)
    for band, (low, high) in enumerate(ends):
        rise = np.linspace(0, 1, high - low, dtype=np.float32)
        first, last = curves.decibels[:, band, None], curves.decibels[:, band + 1, None]
        factors[:, low:high] = first + (last - first) * rise
    gains = torch.from_numpy(10 ** (factors / 20)).to(log_mel)
    return log_mel * gains[:, :, None]


def draw_warp(rng: Generator, n_mels: int) -> FrequencyWarp:
    """Return a crop of 60 to 100 % of the mel bins at a random place."""
    height = int(rng.uniform(_LOWEST_WARP, 1.0) * n_mels)
    return FrequencyWarp(int(rng.integers(max(1, n_mels - height))), height)


def warp_bands(log_mel: Tensor, warp: FrequencyWarp) -> Tensor:
    """Crop the mel axis and stretch it to its size, by bicubic interpolation.

    From Li et al., "ATST-F" (TASLP 2024), where it is called frequency warping.
    """
    size = log_mel.shape[1:]
    cropped = log_mel[:, None, warp.start : warp.start + warp.height]
    resized = F.interpolate(cropped, size=tuple(size), mode="bicubic", align_corners=True)
    return resized[:, 0]
