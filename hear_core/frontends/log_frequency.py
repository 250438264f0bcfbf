"""A spectrum on a logarithmic frequency axis, in which pitch is a position."""

from __future__ import annotations

import copy
import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.frontends.log_mel import Frontend
from hear_core.frontends.mel_banks import MelFilters
from hear_core.frontends.spectrum import MatrixPowerSpectrum, PowerSpectrum

_SECONDS = 0.256
_BINS_PER_OCTAVE = 36
_LOWEST, _HIGHEST = 65.41, 5920.0  # Hz: C2, and six octaves and a half above


class LogFrequency(Frontend):
    """Log power in three bins per semitone, as in constant-Q transforms (Brown, 1991).

    Mel bands are wider than a semitone below 1 kHz and cannot tell notes apart. Frames are long,
    0.256 s, to resolve low notes, and half a frame apart.

    Args:
        sample_rate: Sample rate of the waveform in Hz.
        hop: Samples from one frame to the next; half a frame by default.

    Shape:
        Waveform (batch, samples) of any length in [-1, 1] to (batch, n_mels, frames), with frames =
        1 + samples // hop. Frame t is centred on sample t * hop, with silence beyond the ends. The
        values are on the scale of `hear_core.frontends.log_mel.LogMel`: silence is -1.40.
    """

    def __init__(self, sample_rate: int, hop: int | None = None) -> None:
        super().__init__()
        self.window = 2 ** round(math.log2(_SECONDS * sample_rate))
        self.sample_rate, self.hop = sample_rate, hop or self.window // 2
        self.min_samples = 1
        bank = log_frequency_bank(self.window, sample_rate)
        self.n_mels, self._bank = len(bank), bank
        hann = torch.hann_window(self.window)
        self._spectrum = hann, self.hop, self.window
        self.spectrum: PowerSpectrum | MatrixPowerSpectrum = PowerSpectrum(*self._spectrum)
        self.filters: nn.Module = MelFilters(bank)

    def forward(self, waveform: Tensor) -> Tensor:
        half = self.window // 2
        power = self.filters(self.spectrum(F.pad(waveform, (half, half))))
        return power.add(1e-5).log().add(4.5).div(5.0).transpose(1, 2)

    def frames(self, samples: int) -> int:
        return 1 + samples // self.hop

    def samples_for(self, frames: int) -> int:
        return max(1, (frames - 1) * self.hop)

    def exportable(self) -> Self:
        """Return the same front-end without a fast Fourier transform, which few runtimes have."""
        twin = copy.deepcopy(self)
        highest = int(self._bank.any(0).nonzero().max())
        twin.spectrum = spectrum = MatrixPowerSpectrum(*self._spectrum, highest)
        twin.filters = MelFilters(self._bank[:, spectrum.bins] / spectrum.times_each_bin)
        return twin


def log_frequency_centres(sample_rate: int) -> Tensor:
    """Return the centres in Hz of the bins, (bins,), float64, as far as a sample rate has them."""
    octaves = math.log2(min(_HIGHEST, 0.45 * sample_rate) / _LOWEST)
    steps = torch.arange(int(octaves * _BINS_PER_OCTAVE), dtype=torch.float64)
    return _LOWEST * 2 ** (steps / _BINS_PER_OCTAVE)


def log_frequency_bank(n_fft: int, sample_rate: int) -> Tensor:
    """Return triangular filters at `log_frequency_centres`, (bins, n_fft // 2 + 1) weights.

    A triangle is as wide as one step on each side, or one bin of the spectrum where that is more.

    Args:
        n_fft: Length of the Fourier transform whose power spectrum is filtered.
        sample_rate: Sample rate in Hz.
    """
    centres = log_frequency_centres(sample_rate)[:, None]
    resolution = sample_rate / n_fft
    widths = (centres * (2 ** (1 / _BINS_PER_OCTAVE) - 1)).clamp(min=resolution)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * resolution
    return (1 - (bins - centres).abs() / widths).clamp(min=0.0).float()
