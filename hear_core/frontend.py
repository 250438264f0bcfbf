"""Front-ends: from a waveform to the log-mel spectrogram that a backbone was trained on."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.melbanks import MelFilters, kaldi_mel_bank
from hear_core.spectrum import MatrixPowerSpectrum, PowerSpectrum


class Frontend(nn.Module):
    """Base of the front-ends: waveform (batch, samples) to log-mel (batch, n_mels, frames).

    Attributes:
        sample_rate: Of the waveform, in Hz.
        n_mels: Number of mel bands.
        hop: Samples from one frame to the next.
        window: Samples that one frame sees.
        min_samples: Shortest waveform there can be a log-mel of.
    """

    sample_rate: int
    n_mels: int
    hop: int
    window: int
    min_samples: int

    def frames(self, samples: int) -> int:
        """Return the number of frames of a waveform of so many samples."""
        raise NotImplementedError

    def exportable(self) -> Frontend:
        """Return the same front-end, of operations that every runtime has."""
        raise NotImplementedError


class LogMel(Frontend):
    """The front-end of EfficientAT: pre-emphasis, power spectrum, Kaldi mel bands, scaled log.

    Args:
        sample_rate: Of the waveform, in Hz.
        n_mels: Number of mel bands.
        hop: Samples from one frame to the next.
        window: Length in samples of the symmetric Hann window.
        n_fft: Length of the Fourier transform; the window is padded to it with zeros.
        fmin: Lower edge of the lowest band in Hz.
        fmax: Upper edge of the highest band in Hz.

    Shape:
        Waveform (batch, samples) in [-1, 1], at least `min_samples` long, to log-mel
        (batch, n_mels, frames), with frames = 1 + (samples - 1) // hop. Frame t is centred on
        sample t * hop, the ends mirrored. Digital silence gives -1.40.
    """

    def __init__(
        self,
        sample_rate: int = 32000,
        n_mels: int = 128,
        hop: int = 320,
        window: int = 800,
        n_fft: int = 1024,
        fmin: float = 0.0,
        fmax: float = 15000.0,
    ) -> None:
        super().__init__()
        self.sample_rate, self.n_mels, self.hop, self.window = sample_rate, n_mels, hop, window
        self.min_samples = window // 2 + 2
        self._bank = kaldi_mel_bank(n_mels, n_fft, sample_rate, fmin, fmax)
        self._spectrum = torch.hann_window(window, periodic=False), hop, n_fft
        self.spectrum: nn.Module = PowerSpectrum(*self._spectrum)
        self.filters: nn.Module = MelFilters(self._bank)

    def forward(self, waveform: Tensor) -> Tensor:
        emphasised = torch.sub(waveform[:, 1:], waveform[:, :-1], alpha=0.97)
        half = self.window // 2
        power = self.spectrum(F.pad(emphasised, (half, half), mode="reflect"))
        log_mel = self.filters(power).add_(1e-5).log().add_(4.5).div_(5.0)
        return log_mel.transpose(1, 2)

    def frames(self, samples: int) -> int:
        return 1 + (samples - 1) // self.hop

    def exportable(self) -> LogMel:
        """Return the same front-end without a fast Fourier transform, which few runtimes have."""
        twin = copy.deepcopy(self)
        highest = int(self._bank.any(0).nonzero().max())
        twin.spectrum = spectrum = MatrixPowerSpectrum(*self._spectrum, highest)
        # A bin that comes twice counts half each time.
        twin.filters = MelFilters(self._bank[:, spectrum.bins] / spectrum.times_each_bin)
        return twin
