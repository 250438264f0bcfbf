"""Front-ends: from a waveform to the log-mel spectrogram that a backbone was trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.melbanks import kaldi_mel_bank


class Frontend(nn.Module):
    """Base of the front-ends: waveform (batch, samples) to log-mel (batch, n_mels, frames).

    Attributes:
        sample_rate: Of the waveform, in Hz.
        n_mels: Number of mel bands.
        min_samples: Shortest waveform there can be a log-mel of.
    """

    sample_rate: int
    n_mels: int
    min_samples: int


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

    window: Tensor
    mel_bank: Tensor

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
        self.sample_rate, self.n_mels, self.hop, self.n_fft = sample_rate, n_mels, hop, n_fft
        self.min_samples = window // 2 + 2
        bank = kaldi_mel_bank(n_mels, n_fft, sample_rate, fmin, fmax)
        self.register_buffer("window", torch.hann_window(window, periodic=False), persistent=False)
        self.register_buffer("mel_bank", bank.T.contiguous(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        emphasised = waveform[:, 1:] - 0.97 * waveform[:, :-1]
        half = len(self.window) // 2
        padded = F.pad(emphasised, (half, half), mode="reflect")
        frames = padded.unfold(-1, len(self.window), self.hop) * self.window
        # Where in the transform the window stands changes only the phase, which is dropped here.
        spectrum = torch.fft.rfft(frames, n=self.n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        log_mel = (power @ self.mel_bank + 1e-5).log()
        return ((log_mel + 4.5) / 5.0).transpose(1, 2)
