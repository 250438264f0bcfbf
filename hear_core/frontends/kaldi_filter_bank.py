"""The Kaldi filter bank: log-mels of frames that are conditioned one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hear_core.errors import ConfigError, unknown
from hear_core.frontends.log_mel import MelFrontend
from hear_core.frontends.mel_banks import kaldi_mel_bank

_EMPHASIS = 0.97
_FLOOR = torch.finfo(torch.float32).eps


def _hann(length: int) -> Tensor:
    return torch.hann_window(length, periodic=False)


def _povey(length: int) -> Tensor:
    return _hann(length).pow(0.85)


WINDOWS: Mapping[str, Callable[[int], Tensor]] = {"povey": _povey, "hann": _hann}
"""Symmetric windows by name. Povey's is a Hann window to the power of 0.85."""


class KaldiFilterBank(MelFrontend):
    """The filter bank features of Kaldi, as BEATs and ASiT use them.

    From every frame its mean is removed, then it is pre-emphasised, windowed and transformed. All
    of this belongs to the frame alone, so that nothing depends on the rest of the clip. There is
    no dither and no padding: the first frame starts at the first sample, and a rest at the end
    that does not fill a frame is dropped.

    From Povey et al., "The Kaldi Speech Recognition Toolkit" (ASRU 2011).

    Args:
        sample_rate: Sample rate of the waveform in Hz.
        n_mels: Number of mel bands.
        hop: Number of samples from one frame to the next.
        window: Length of a frame in samples.
        n_fft: Length of the Fourier transform; frames are padded to it with zeros.
        fmin: Lower edge of the lowest band in Hz.
        fmax: Upper edge of the highest band in Hz.
        window_type: Shape of the window, a key of `WINDOWS`.
        gain: Factor on the waveform. Kaldi expects the range of 16-bit integers, 32768.
        mean: Value that is subtracted from the log-mel.
        scale: Value that it is divided by afterwards.

    Shape:
        Waveform (batch, samples) in [-1, 1], at least `window` samples, to log-mel (batch, n_mels,
        frames) with frames = 1 + (samples - window) // hop. Frame t starts at sample t * hop.

    Raises:
        ConfigError: The window type is unknown.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_mels: int = 128,
        hop: int = 160,
        window: int = 400,
        n_fft: int = 512,
        fmin: float = 20.0,
        fmax: float = 8000.0,
        *,
        window_type: str = "povey",
        gain: float = 32768.0,
        mean: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        if window_type not in WINDOWS:
            raise ConfigError(unknown("window type", window_type, WINDOWS))
        bank = kaldi_mel_bank(n_mels, n_fft, sample_rate, fmin, fmax)
        super().__init__(sample_rate, WINDOWS[window_type](window), hop, n_fft, bank)
        self.min_samples = window
        self.gain, self.mean, self.scale = gain, mean, scale

    def frames(self, samples: int) -> int:
        return 1 + (samples - self.window) // self.hop

    def samples_for(self, frames: int) -> int:
        return (frames - 1) * self.hop + self.window

    def forward(self, waveform: Tensor) -> Tensor:
        frames = self.spectrum.frames(waveform * self.gain)
        # The exportable spectrum has frames that reach beyond the window.
        frames = frames - frames[..., : self.window].mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        power = self.spectrum.power(torch.sub(frames, before, alpha=_EMPHASIS))
        log_mel = self.filters(power).clamp_(min=_FLOOR).log_()
        return log_mel.sub_(self.mean).div_(self.scale).transpose(1, 2)
