"""The inference of PretrainedSED in plain PyTorch, as the reference for the speed of transformers.

It computes the same numbers by the same steps as the original: pieces of ten seconds, one forward
pass for each; attention as two products with a softmax between them, except where the original
fuses them; the filter bank of Kaldi clip by clip, with mel filters that are computed again in every
call; spectra of M2D as convolutions; biases of BEATs for every pair of tokens in every call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.frontends.mel_banks import htk_mel_bank, kaldi_mel_bank, slaney_mel_bank
from hear_sed import ZOO
from hear_sed.backbones.beats import GatedRelativeAttention, bucket
from hear_sed.backbones.transformer import MultiHeadAttention

SAMPLE_RATE, PIECE, FRAMES = 16000, 160000, 250


class OriginalTransformer:
    """A transformer of PretrainedSED with random weights.

    Args:
        name: Name of a detector in the zoo.
    """

    def __init__(self, name: str) -> None:
        kind = name.partition("_")[0]
        self.network = ZOO.random_init(name).eval()
        backbone = self.network.backbone
        for module in [*backbone.modules()]:
            for child, attention in module.named_children():
                if isinstance(attention, MultiHeadAttention) and kind in ("ATST-F", "ASIT"):
                    setattr(module, child, _Attention(attention))
                if isinstance(attention, GatedRelativeAttention):
                    setattr(module, child, _RelativeAttention(attention))
        if kind == "BEATs":
            encoder = backbone.encoder
            encoder._bias = lambda tokens: _bias(encoder.relative_attention_bias, tokens)
        backbone.resize_sequence = _resized
        self._log_mel = LOG_MELS[kind]

    @torch.no_grad()
    def frames(self, waveform: Tensor) -> Tensor:
        """Return the probability of every class in every frame, (classes, frames).

        Args:
            waveform: Waveform (samples,) at 16 kHz.
        """
        pieces = []
        for start in range(0, len(waveform), PIECE):
            piece = waveform[start : start + PIECE]
            piece = F.pad(piece, (0, PIECE - len(piece)))
            found = self.network(self._log_mel(piece[None]), ("logits", "weak"))
            pieces.append(found["logits"][0, :, 0])
        return torch.cat(pieces, dim=1).sigmoid()


class _Attention(nn.Module):
    """Attention of a vision transformer, as two products with a softmax between them."""

    def __init__(self, fused: MultiHeadAttention) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = fused.heads, fused.qkv, fused.proj

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        size = dim // self.heads
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        query, key, value = qkv[0], qkv[1], qkv[2]
        weights = (query @ key.transpose(2, 3) * size**-0.5).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(batch, tokens, dim))


class _RelativeAttention(nn.Module):
    """Attention of BEATs, scaled down before its softmax, with gates for every query."""

    def __init__(self, fused: GatedRelativeAttention) -> None:
        super().__init__()
        self.fused, self.heads = fused, fused.heads

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        fused, scale = self.fused, 32
        batch, tokens, dim = x.shape
        size = dim // self.heads
        query = fused.q_proj(x) * (size**-0.5 / scale)
        query, key, value = (
            y.transpose(0, 1).reshape(tokens, batch * self.heads, size).transpose(0, 1)
            for y in (query, fused.k_proj(x), fused.v_proj(x))
        )
        scores = torch.bmm(query, key.transpose(1, 2))
        scores = (scores - scores.max(dim=-1, keepdim=True)[0]) * scale
        unscaled = query.view(batch, self.heads, tokens, size) * scale / size**-0.5
        gates = fused.grep_linear(unscaled).view(batch, self.heads, tokens, 2, 4).sum(-1)
        update, reset = gates.sigmoid().chunk(2, dim=-1)
        gate = update * (reset * fused.grep_a - 1.0) + 2.0
        repeated = bias.unsqueeze(0).repeat(batch, 1, 1, 1).view(-1, tokens, tokens)
        scores = scores + gate.view(-1, tokens, 1) * repeated
        y = torch.bmm(scores.softmax(dim=-1), value)
        return fused.out_proj(y.transpose(0, 1).reshape(tokens, batch, dim).transpose(0, 1))


def _bias(table: nn.Embedding, tokens: int) -> Tensor:
    token = torch.arange(tokens)
    return table(bucket(token[None, :] - token[:, None])).permute(2, 0, 1)


def _resized(x: Tensor, frames: int) -> Tensor:
    sequence = x.squeeze(2)
    if sequence.shape[2] > FRAMES:
        return F.adaptive_avg_pool1d(sequence, FRAMES).unsqueeze(2)
    return F.interpolate(sequence, FRAMES, mode="linear").unsqueeze(2)


def _kaldi(waveforms: Tensor, window: Tensor, mean: float, scale: float) -> Tensor:
    found = []
    for waveform in waveforms:
        frames = waveform.unfold(0, 400, 160)
        frames = frames - frames.mean(dim=1, keepdim=True)
        before = F.pad(frames.unsqueeze(0), (1, 0), mode="replicate").squeeze(0)
        frames = (frames - 0.97 * before[:, :-1]) * window
        power = torch.fft.rfft(F.pad(frames, (0, 112))).abs().pow(2.0)
        bank = kaldi_mel_bank(128, 512, SAMPLE_RATE, 20.0, 8000.0)
        found.append((power @ bank.T).clamp(min=torch.finfo(torch.float32).eps).log())
    return ((torch.stack(found) - mean) / scale).transpose(1, 2)


def _beats(waveform: Tensor) -> Tensor:
    window = torch.hann_window(400, periodic=False).pow(0.85)
    return _kaldi(waveform * 2**15, window, 15.41663, 2 * 6.55582)


def _asit(waveform: Tensor) -> Tensor:
    window = torch.hann_window(400, periodic=False)
    return _kaldi(waveform - waveform.mean(), window, -4.2677393, 2 * 4.5689974)


@cache
def _htk_bank() -> Tensor:
    return htk_mel_bank(64, 1024, SAMPLE_RATE, 60.0, 7800.0)


@cache
def _slaney_bank() -> Tensor:
    return slaney_mel_bank(80, 400, SAMPLE_RATE, 50.0, 8000.0)


def _atst(waveform: Tensor) -> Tensor:
    window = torch.hann_window(1024)
    spectrum = torch.stft(waveform, 1024, 160, 1024, window, return_complex=True)
    mel = _htk_bank() @ spectrum.abs().pow(2.0)
    decibels = 10.0 * mel.clamp(min=1e-10).log10()
    decibels = torch.maximum(decibels, decibels.amax() - 80.0).clamp(-50.0, 80.0)
    return (decibels + 79.6482) / (50.6842 + 79.6482) * 2.0 - 1.0


@cache
def _fourier_kernels() -> Tensor:
    phase = torch.arange(201).unsqueeze(1) * torch.arange(400) * (2 * torch.pi / 400)
    return torch.stack([phase.cos(), phase.sin()]).unsqueeze(2) * torch.hann_window(400)


def _m2d(waveform: Tensor) -> Tensor:
    padded = F.pad(waveform.unsqueeze(1), (200, 200), mode="reflect")
    real, imaginary = (F.conv1d(padded, kernel, stride=160) for kernel in _fourier_kernels())
    magnitude = (real.pow(2) + imaginary.pow(2)).sqrt()
    log_mel = (_slaney_bank() @ magnitude**2 + torch.finfo(torch.float32).eps).log()
    return (log_mel + 7.1) / 4.2


def _fpasst(waveform: Tensor) -> Tensor:
    x = F.conv1d(waveform[:, None], torch.tensor([[[-0.97, 1.0]]])).squeeze(1)
    spectrum = torch.stft(x, 512, 160, 400, torch.hann_window(400), return_complex=True)
    power = torch.view_as_real(spectrum).square().sum(-1)
    bank = kaldi_mel_bank(128, 512, SAMPLE_RATE, 0.0, 7000.0)
    return ((bank @ power).clamp(min=1e-7).log() + 4.5) / 5


LOG_MELS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "BEATs": _beats,
    "ATST-F": _atst,
    "fpasst": _fpasst,
    "M2D": _m2d,
    "ASIT": _asit,
}
"""Functions from waveforms (batch, samples) to log-mels (batch, n_mels, frames), by network."""
