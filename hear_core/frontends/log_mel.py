"""Front-ends: from waveforms to the log-mel spectrograms that backbones were trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.errors import ConfigError, require_number
from hear_core.frontends.mel_banks import MelFilters, kaldi_mel_bank, slaney_mel_bank
from hear_core.frontends.spectrum import MatrixPowerSpectrum, PowerSpectrum

_EMPHASIS = 0.97


class Frontend(nn.Module):
    """Base class of front-ends: waveform (batch, samples) to log-mel (batch, n_mels, frames).

    Attributes:
        sample_rate: Sample rate of the waveform in Hz.
        n_mels: Number of mel bands.
        hop: Samples from one frame to the next.
        window: Length of a frame in samples.
        min_samples: Length in samples of the shortest waveform that is accepted.
    """

    sample_rate: int
    n_mels: int
    hop: int
    window: int
    min_samples: int

    def frames(self, samples: int) -> int:
        """Return the number of frames of a waveform of `samples` samples."""
        raise NotImplementedError

    def samples_for(self, frames: int) -> int:
        """Return the length in samples of the shortest waveform with at least `frames` frames."""
        raise NotImplementedError

    def exportable(self) -> Self:
        """Return the same front-end, made of operations that every runtime supports."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device with the model, but stay in float32 whatever its data type.

        Small powers and their logarithm need the range and precision.
        """

        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keep_dtype, recurse)


class MelFrontend(Frontend):
    """Base class of front-ends with mel bands of centred frames and reflected ends.

    Args:
        sample_rate: Sample rate of the waveform in Hz.
        window: Window of a frame (length,).
        hop: Samples from one frame to the next.
        n_fft: Length of the Fourier transform; the window is padded to it with zeros.
        bank: Mel filters (n_mels, n_fft // 2 + 1).
        lost: Number of samples by which a filter before the framing shortens the waveform.
    """

    def __init__(
        self, sample_rate: int, window: Tensor, hop: int, n_fft: int, bank: Tensor, lost: int = 0
    ) -> None:
        super().__init__()
        require_number("sample_rate", sample_rate, 1, 1e6, unit="Hz")
        if len(window) > n_fft:
            msg = f"window must be at most n_fft, {n_fft} samples, not {len(window)}"
            raise ConfigError(msg)
        self.sample_rate, self.n_mels = sample_rate, len(bank)
        self.hop, self.window = hop, len(window)
        self.min_samples = len(window) // 2 + 1 + lost
        self._lost, self._bank, self._spectrum = lost, bank, (window, hop, n_fft)
        self.spectrum: PowerSpectrum | MatrixPowerSpectrum = PowerSpectrum(*self._spectrum)
        self.filters: nn.Module = MelFilters(bank)

    def mel(self, waveform: Tensor, filters: nn.Module | None = None) -> Tensor:
        """Return the power in every mel band, (batch, frames, n_mels).

        Args:
            waveform: Waveforms (batch, samples).
            filters: Mel filters to use instead of the front-end's own.
        """
        half = self.window // 2
        power = self.spectrum(F.pad(waveform, (half, half), mode="reflect"))
        return (self.filters if filters is None else filters)(power)

    def frames(self, samples: int) -> int:
        return 1 + (samples - self._lost) // self.hop

    def samples_for(self, frames: int) -> int:
        return max(self.min_samples, (frames - 1) * self.hop + self._lost)

    def exportable(self) -> Self:
        """Return the same front-end without a fast Fourier transform, which few runtimes have."""
        twin = copy.deepcopy(self)
        highest = int(self._bank.any(0).nonzero().max())
        twin.spectrum = spectrum = MatrixPowerSpectrum(*self._spectrum, highest)
        # A bin that occurs twice counts half each time.
        twin.filters = MelFilters(self._bank[:, spectrum.bins] / spectrum.times_each_bin)
        return twin


class LogMel(MelFrontend):
    """The front-end of EfficientAT: pre-emphasis, power spectrum, Kaldi mel bands, scaled log.

    Args:
        sample_rate: Sample rate of the waveform in Hz.
        n_mels: Number of mel bands.
        hop: Samples from one frame to the next.
        window: Length in samples of the Hann window.
        n_fft: Length of the Fourier transform; the window is padded to it with zeros.
        fmin: Lower edge of the lowest band in Hz.
        fmax: Upper edge of the highest band in Hz.
        floor: Smallest power; lower ones are raised to it. If None, 1e-5 is added to every power.
        periodic: Use a periodic Hann window instead of a symmetric one, as frame-wise PaSST does.

    Shape:
        Waveform (batch, samples) in [-1, 1], at least `min_samples` long, to log-mel
        (batch, n_mels, frames), with frames = 1 + (samples - 1) // hop. Frame t is centred on
        sample t * hop, with reflected ends. Digital silence gives
        -1.40, with a floor of 1e-7 -2.32.
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
        floor: float | None = None,
        *,
        periodic: bool = False,
    ) -> None:
        bank = kaldi_mel_bank(n_mels, n_fft, sample_rate, fmin, fmax)
        hann = torch.hann_window(window, periodic=periodic)
        super().__init__(sample_rate, hann, hop, n_fft, bank, lost=1)
        self.floor, self.fmax = floor, fmax
        self.emphasis: nn.Module = PreEmphasis()

    def exportable(self) -> Self:
        twin = super().exportable()
        twin.emphasis = PreEmphasisConvolution()
        return twin

    def forward(self, waveform: Tensor, edges: tuple[float, float] | None = None) -> Tensor:
        """Return the log-mel.

        Args:
            waveform: Waveforms (batch, samples).
            edges: Lower and upper edge of the mel bank in Hz, in place of `fmin` and `fmax`, for
                augmentation in training. An exportable front-end does not take any.
        """
        filters = None if edges is None else self._filters(*edges).to(waveform.device)
        mel = self.mel(self.emphasis(waveform), filters)
        above_zero = mel.add_(1e-5) if self.floor is None else mel.clamp_(min=self.floor)
        return above_zero.log().add_(4.5).div_(5.0).transpose(1, 2)

    def _filters(self, fmin: float, fmax: float) -> MelFilters:
        if not isinstance(self.spectrum, PowerSpectrum):
            msg = "an exportable front-end has one mel bank; compute other edges with the original"
            raise ConfigError(msg)
        n_fft = self.spectrum.n_fft
        return MelFilters(kaldi_mel_bank(self.n_mels, n_fft, self.sample_rate, fmin, fmax))


class PreEmphasis(nn.Module):
    """Pre-emphasis: every sample minus 0.97 times the one before, (batch, samples - 1)."""

    def forward(self, waveform: Tensor) -> Tensor:
        return torch.sub(waveform[:, 1:], waveform[:, :-1], alpha=_EMPHASIS)


class PreEmphasisConvolution(nn.Module):
    """Pre-emphasis as a convolution, for runtimes that would copy both terms of a difference."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor([[[-_EMPHASIS, 1.0]]]), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        return F.conv1d(waveform[:, None], self.kernel).squeeze(1)  # an index copies


class DecibelMel(MelFrontend):
    """The front-end of PANNs: power spectrum, Slaney mel bands, decibels.

    From Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern
    Recognition" (TASLP 2020).

    Args:
        sample_rate: Sample rate of the waveform in Hz.
        n_mels: Number of mel bands.
        hop: Samples from one frame to the next.
        window: Length in samples of the periodic Hann window and of the Fourier transform.
        fmin: Lower edge of the lowest band in Hz.
        fmax: Upper edge of the highest band in Hz.

    Shape:
        Waveform (batch, samples) in [-1, 1], at least `min_samples` long, to log-mel
        (batch, n_mels, frames) in dB, with frames = 1 + samples // hop. Frame t is centred on
        sample t * hop, with reflected ends. Digital silence gives -100.
    """

    def __init__(
        self,
        sample_rate: int = 32000,
        n_mels: int = 64,
        hop: int = 320,
        window: int = 1024,
        fmin: float = 50.0,
        fmax: float = 14000.0,
    ) -> None:
        bank = slaney_mel_bank(n_mels, window, sample_rate, fmin, fmax)
        super().__init__(sample_rate, torch.hann_window(window), hop, window, bank)

    def forward(self, waveform: Tensor) -> Tensor:
        decibels = self.mel(waveform).clamp_(min=1e-10).log10().mul_(10.0)
        return decibels.transpose(1, 2)


class DecibelMelAndWaveform(DecibelMel):
    """The input of the wavegrams of PANNs: the log-mel of `DecibelMel` and the waveform itself.

    Args:
        options: Arguments of `DecibelMel`.

    Attributes:
        n_mels: Number of rows, those of the waveform included.

    Shape:
        Waveform (batch, samples) to (batch, mel bands + hop, frames). The rows after the mel bands
        are the samples from one frame to the next; those of the last frame, which is centred on the
        end of the waveform, are 0.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.n_mels += self.hop

    def forward(self, waveform: Tensor) -> Tensor:
        decibels = super().forward(waveform)
        whole = waveform.shape[1] // self.hop
        samples = waveform[:, : whole * self.hop].unflatten(1, (whole, self.hop)).transpose(1, 2)
        return torch.cat([decibels, F.pad(samples, (0, 1))], dim=1)
