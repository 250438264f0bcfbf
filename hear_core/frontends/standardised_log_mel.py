"""Natural logarithms of Slaney mel spectra, standardised, as M2D was trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from hear_core.frontends.log_mel import MelFrontend
from hear_core.frontends.mel_banks import slaney_mel_bank

_OFFSET = torch.finfo(torch.float32).eps


class StandardisedLogMel(MelFrontend):
    """The front-end of Masked Modeling Duo: Slaney mel bands, natural logarithm, standardised.

    From Niizumi et al., "Masked Modeling Duo" (TASLP 2024).

    Args:
        sample_rate: Sample rate of the waveform in Hz.
        n_mels: Number of mel bands.
        hop: Number of samples from one frame to the next.
        window: Length in samples of the periodic Hann window and of the Fourier transform.
        fmin: Lower edge of the lowest band in Hz.
        fmax: Upper edge of the highest band in Hz.
        mean: Mean of the log-mels of the training data.
        deviation: Their standard deviation.

    Shape:
        Waveform (batch, samples) in [-1, 1], at least `min_samples` long, to log-mel (batch,
        n_mels, frames) with frames = 1 + samples // hop. Frame t is centred on sample t * hop, and
        the waveform is reflected at its ends.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_mels: int = 80,
        hop: int = 160,
        window: int = 400,
        fmin: float = 50.0,
        fmax: float = 8000.0,
        *,
        mean: float = -7.1,
        deviation: float = 4.2,
    ) -> None:
        bank = slaney_mel_bank(n_mels, window, sample_rate, fmin, fmax)
        super().__init__(sample_rate, torch.hann_window(window), hop, window, bank)
        self.mean, self.deviation = mean, deviation

    def forward(self, waveform: Tensor) -> Tensor:
        log_mel = self.mel(waveform).add_(_OFFSET).log_()
        return log_mel.sub_(self.mean).div_(self.deviation).transpose(1, 2)
