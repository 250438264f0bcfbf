"""Mel filter banks and their application to power spectra."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_GROUPS = 4
# Where Slaney's mel axis stops being linear, and the log frequency per mel beyond.
_KNEE_HERTZ, _KNEE_MEL, _LOG_STEP = 1000.0, 15.0, math.log(6.4) / 27


def kaldi_mel_bank(n_mels: int, n_fft: int, sample_rate: int, fmin: float, fmax: float) -> Tensor:
    """Return Kaldi's triangular mel filters, without warping, as (n_mels, n_fft // 2 + 1) weights.

    Unlike in the banks of librosa, the triangles are linear on the mel axis, 1127 ln(1 + f / 700),
    their peak is about 1 whatever their width, and none of them includes the Nyquist bin. With
    many bands, the lowest can be narrower than one bin of the spectrum and stay empty.

    Computed in float32 step by step as Kaldi and `torchaudio.compliance.kaldi` do, so that it is
    equal to theirs to the bit.

    Args:
        n_mels: Number of filters.
        n_fft: Length of the Fourier transform whose power spectrum is filtered.
        sample_rate: Sample rate in Hz.
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


def htk_mel_bank(n_mels: int, n_fft: int, sample_rate: int, fmin: float, fmax: float) -> Tensor:
    """Return HTK's triangular mel filters, as (n_mels, n_fft // 2 + 1) weights.

    The band edges are equally spaced on the mel axis 2595 log10(1 + f / 700). The triangles are
    linear in frequency and have a peak of about 1 whatever their width, as in
    `torchaudio.functional.melscale_fbanks` with its default options.

    Args:
        n_mels: Number of filters.
        n_fft: Length of the Fourier transform whose power spectrum is filtered.
        sample_rate: Sample rate in Hz.
        fmin: Lower edge of the lowest filter in Hz.
        fmax: Upper edge of the highest filter in Hz.
    """
    mel = torch.linspace(_mel(fmin), _mel(fmax), n_mels + 2, dtype=torch.float64)
    return _triangles(700.0 * ((mel / 1127.0).exp() - 1.0), n_fft, sample_rate).float()


def slaney_mel_bank(n_mels: int, n_fft: int, sample_rate: int, fmin: float, fmax: float) -> Tensor:
    """Return Slaney's triangular mel filters, as (n_mels, n_fft // 2 + 1) weights.

    They are those of the Auditory Toolbox (Slaney, 1998), as used by librosa and PANNs. The mel
    axis is linear up to 1000 Hz and logarithmic above, the triangles are linear in frequency, and
    the area of each is 1.

    Args:
        n_mels: Number of filters.
        n_fft: Length of the Fourier transform whose power spectrum is filtered.
        sample_rate: Sample rate in Hz.
        fmin: Lower edge of the lowest filter in Hz.
        fmax: Upper edge of the highest filter in Hz.
    """
    low, high = _slaney_mel(fmin), _slaney_mel(fmax)
    edges = _slaney_hertz(torch.linspace(low, high, n_mels + 2, dtype=torch.float64))
    widths = (edges[2:] - edges[:-2]).unsqueeze(1)
    return (_triangles(edges, n_fft, sample_rate) * 2 / widths).float()


class MelFilters(nn.Module):
    """A bank of filters applied to power spectra, without most of the products that are zero.

    Every filter covers few bins, and neighbours cover about the same ones: the bank is applied in
    groups of neighbours, each to the part of the spectrum that it covers.

    Args:
        bank: Weights (n_mels, bins) of filters in the order of their frequencies.

    Shape:
        (..., bins) to (..., n_mels).
    """

    def __init__(self, bank: Tensor) -> None:
        super().__init__()
        self.stretches: list[slice] = []
        for index, group in enumerate(bank.chunk(_GROUPS)):
            seen = group.any(0).nonzero().flatten().tolist() or [0]
            self.stretches.append(slice(seen[0], seen[-1] + 1))
            weights = group[:, self.stretches[-1]].T.contiguous()
            self.register_buffer(f"weights{index}", weights, persistent=False)

    def forward(self, power: Tensor) -> Tensor:
        groups = zip(self.stretches, self.buffers(), strict=True)
        return torch.cat([power[..., stretch] @ weights for stretch, weights in groups], dim=-1)


def _triangles(edges: Tensor, n_fft: int, sample_rate: int) -> Tensor:
    """Return triangles of height 1 that are linear in frequency, float64.

    Args:
        edges: Frequencies in Hz where the triangles begin, peak and end, (n_mels + 2,).
        n_fft: Length of the Fourier transform.
        sample_rate: Sample rate in Hz.
    """
    left, centre, right = (edges[i : len(edges) - 2 + i].unsqueeze(1) for i in range(3))
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft)
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0.0)


def _mel(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)


def _slaney_mel(hertz: float) -> float:
    if hertz < _KNEE_HERTZ:
        return hertz * _KNEE_MEL / _KNEE_HERTZ
    return _KNEE_MEL + math.log(hertz / _KNEE_HERTZ) / _LOG_STEP


def _slaney_hertz(mel: Tensor) -> Tensor:
    straight = mel * _KNEE_HERTZ / _KNEE_MEL
    logarithmic = _KNEE_HERTZ * ((mel - _KNEE_MEL) * _LOG_STEP).exp()
    return torch.where(mel < _KNEE_MEL, straight, logarithmic)
