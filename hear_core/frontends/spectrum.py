"""Power spectra of overlapping frames, by a fast Fourier transform or by matrix products."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PowerSpectrum(nn.Module):
    """Power of windowed frames by the fast Fourier transform.

    Args:
        window: Window of a frame (length,).
        hop: Samples from one frame to the next, at most the length of the window.
        n_fft: Length of the transform; frames are padded to it with zeros.

    Shape:
        (batch, samples) to (batch, frames, bins), frames = 1 + (samples - length) // hop.
    """

    window: Tensor

    def __init__(self, window: Tensor, hop: int, n_fft: int) -> None:
        super().__init__()
        self.hop, self.n_fft = hop, n_fft
        self.register_buffer("window", window, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.power(self.frames(waveform))

    def frames(self, waveform: Tensor) -> Tensor:
        """Return the frames of a waveform before the window, (batch, frames, length)."""
        return waveform.unfold(-1, len(self.window), self.hop)

    def power(self, frames: Tensor) -> Tensor:
        """Return the power of frames (batch, frames, length), (batch, frames, bins)."""
        frames = frames * self.window
        # The position of the window in the transform changes only the phase, which is dropped.
        # A transform of rows is four times as fast as one of the same rows in a batch of blocks.
        spectrum = torch.fft.rfft(frames.flatten(0, 1), n=self.n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        return power.unflatten(0, frames.shape[:2])


class MatrixPowerSpectrum(nn.Module):
    """Power of windowed frames by two small matrix products, for runtimes without a fast transform.

    It is one step of the algorithm of Cooley and Tukey (1965). With n_fft = R C, sample n = C r + c
    of a frame, bin k = p + R q and e(t) = exp(-2 pi i t):

        X[p + R q] = sum over c of e(c (p + R q) / n_fft) * (sum over r of e(r p / R) x[C r + c])

    The inner sum is a product with one matrix, the outer one with a matrix for every p. As x is
    real, p from 0 to R / 2 gives all bins, some of them twice, and those above n_fft / 2 as the
    mirror images of those below. For 1024 bins over a window of 800 samples it takes 97,000
    multiplications a frame and 70,000 constants; one matrix over the window takes 821,000 of both.

    It does not need strided views: frames are gathered from blocks whose length divides hop and
    window.

    The shapes are those of `PowerSpectrum` except for the number and the order of the bins.

    Args:
        window: Window of a frame (length,).
        hop: Samples from one frame to the next, at most the length of the window.
        n_fft: Length of the transform; frames are padded to it with zeros.
        highest: Highest bin that is needed; most of those above are left out.

    Attributes:
        bins: Bin of the transform that each column of the result is.
        times_each_bin: Number of columns that have the same bin, for every column.
    """

    window: Tensor
    inner: Tensor
    outer_real: Tensor
    outer_imaginary: Tensor

    def __init__(self, window: Tensor, hop: int, n_fft: int, highest: int) -> None:
        super().__init__()
        self.hop, self.length = hop, len(window)
        self.columns = max(c for c in range(1, math.isqrt(n_fft) + 1) if n_fft % c == 0)
        rows = n_fft // self.columns
        self.planes = rows // 2 + 1
        used = -(-self.length // self.columns)  # rows that the window covers
        p, q = torch.arange(self.planes), torch.arange(self.columns)
        r, c = torch.arange(used), torch.arange(self.columns)
        k = p[:, None] + rows * q
        lowest = torch.minimum(k, n_fft - k).amin(0)
        k = k[:, lowest.argsort()[: (lowest <= highest).sum()]]
        self.bins = torch.minimum(k, n_fft - k).T.flatten()
        self.times_each_bin = self.bins.bincount()[self.bins]

        turn = 2 * math.pi * (p[:, None] * r).double() / rows
        inner = torch.stack([turn.cos(), -turn.sin()], dim=1).flatten(0, 1)
        turn = 2 * math.pi * (c[:, None] * k[:, None, :]).double() / n_fft
        cos, sin = turn.cos(), turn.sin()
        padded = nn.functional.pad(window, (0, used * self.columns - self.length))
        self.register_buffer("window", padded.unflatten(0, (used, -1)), persistent=False)
        self.register_buffer("inner", inner.float(), persistent=False)
        real, imaginary = torch.cat([cos, sin], dim=1), torch.cat([-sin, cos], dim=1)
        self.register_buffer("outer_real", real.float(), persistent=False)
        self.register_buffer("outer_imaginary", imaginary.float(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.power(self.frames(waveform))

    def power(self, frames: Tensor) -> Tensor:
        """Return the power of frames, (batch, frames, bins)."""
        x = frames.reshape(-1, *self.window.shape) * self.window
        inner = (self.inner @ x).reshape(-1, self.planes, 2 * self.columns).transpose(0, 1)
        # Two products: to split the result of one would take a runtime longer.
        real, imaginary = inner @ self.outer_real, inner @ self.outer_imaginary
        power = (real * real + imaginary * imaginary).permute(1, 2, 0)
        return power.reshape(frames.shape[0], -1, len(self.bins))

    def frames(self, waveform: Tensor) -> Tensor:
        """Return the frames of a waveform before the window, padded to whole rows of it."""
        length = self.window.numel()
        if length > self.length:
            waveform = nn.functional.pad(waveform, (0, length - self.length))
        count = (waveform.shape[1] - length) // self.hop + 1
        block = math.gcd(self.hop, length)
        used = waveform[:, : (count - 1) * self.hop + length]
        blocks = used.reshape(waveform.shape[0], -1, block)
        first = torch.arange(count, device=waveform.device) * (self.hop // block)
        following = torch.arange(length // block, device=waveform.device)
        return blocks[:, first[:, None] + following].flatten(2)
