"""Mel spectra in decibels within fixed bounds, as ATST-Frame was trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from hear_core.frontends.log_mel import MelFrontend
from hear_core.frontends.mel_banks import htk_mel_bank


class BoundedDecibelMel(MelFrontend):
    """The front-end of ATST-Frame: HTK mel bands in decibels, clipped and mapped to [-1, 1].

    A band is at most `dynamic_range` below the loudest band of its clip. The original takes the
    loudest band of the whole batch instead, so that a quiet clip changes with the clips beside it;
    `floor_by_batch` does the same.

    From Li et al., "Self-Supervised Audio Teacher-Student Transformer for Both Clip-Level and
    Frame-Level Tasks" (TASLP 2024).

    Args:
        sample_rate: Sample rate of the waveform in Hz.
        n_mels: Number of mel bands.
        hop: Number of samples from one frame to the next.
        window: Length in samples of the periodic Hann window and of the Fourier transform.
        fmin: Lower edge of the lowest band in Hz.
        fmax: Upper edge of the highest band in Hz.
        dynamic_range: Distance in dB from the loudest band to the floor.
        bounds: Lowest and highest level in dB; others are clipped to them.
        mapped: Levels in dB that become -1 and 1.
        floor_by_batch: Take the loudest band of the batch instead of that of the clip.

    Shape:
        Waveform (batch, samples) in [-1, 1], at least `min_samples` long, to log-mel (batch,
        n_mels, frames) with frames = 1 + samples // hop. Frame t is centred on sample t * hop, and
        the waveform is reflected at its ends.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_mels: int = 64,
        hop: int = 160,
        window: int = 1024,
        fmin: float = 60.0,
        fmax: float = 7800.0,
        *,
        dynamic_range: float = 80.0,
        bounds: tuple[float, float] = (-50.0, 80.0),
        mapped: tuple[float, float] = (-79.6482, 50.6842),
        floor_by_batch: bool = False,
    ) -> None:
        bank = htk_mel_bank(n_mels, window, sample_rate, fmin, fmax)
        super().__init__(sample_rate, torch.hann_window(window), hop, window, bank)
        self.dynamic_range, self.bounds, self.mapped = dynamic_range, bounds, mapped
        self.floor_by_batch = floor_by_batch

    def forward(self, waveform: Tensor) -> Tensor:
        decibels = self.mel(waveform).clamp_(min=1e-10).log10_().mul_(10.0)
        loudest = decibels.amax() if self.floor_by_batch else decibels.amax((1, 2), keepdim=True)
        decibels = torch.maximum(decibels, loudest - self.dynamic_range).clamp_(*self.bounds)
        low, high = self.mapped
        return decibels.sub_(low).mul_(2.0 / (high - low)).sub_(1.0).transpose(1, 2)
