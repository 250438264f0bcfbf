"""Mel filter banks, as constants that a front-end makes once."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def kaldi_mel_bank(n_mels: int, n_fft: int, sample_rate: int, fmin: float, fmax: float) -> Tensor:
    """Return Kaldi's triangular mel filters, without warping, as (n_mels, n_fft // 2 + 1) weights.

    Unlike the banks of librosa, the triangles are straight on the mel axis, 1127 ln(1 + f / 700),
    their peak is about 1 whatever their width, and the Nyquist bin belongs to none of them. With
    many bands, the lowest can be narrower than one bin of the spectrum and stay empty.

    Computed in float32 step by step as Kaldi and `torchaudio.compliance.kaldi` do, so that it is
    equal to theirs to the bit.

    Args:
        n_mels: Number of filters.
        n_fft: Length of the Fourier transform whose power spectrum is filtered.
        sample_rate: In Hz.
        fmin: Lower edge of the lowest filter in Hz.
        fmax: Upper edge of the highest filter in Hz.
    """
    low, high = _mel(fmin), _mel(fmax)
    step = (high - low) / (n_mels + 1)
    band = torch.arange(n_mels).unsqueeze(1)
    left, centre, right = (low + (band + i) * step for i in range(3))
    bins = torch.arange(n_fft // 2) * (sample_rate / n_fft)
    mel = (1127.0 * (1.0 + bins / 700.0).log()).unsqueeze(0)
    rising = (mel - left) / (centre - left)
    falling = (right - mel) / (right - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0.0)
    return torch.nn.functional.pad(triangles, (0, 1))


def _mel(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)
