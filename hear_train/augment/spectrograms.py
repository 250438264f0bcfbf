"""Augmentation of log-mel spectrograms (batch, n_mels, frames).

All draws come from a NumPy generator on the CPU, so that they are the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from hear_core.errors import ConfigError
from hear_core.frontends.log_mel import Frontend, LogMel
from hear_train.batch import Pairs

_MIXSTYLE_EPS = 1e-6


@dataclass(frozen=True)
class SpectrogramAugmentation:
    """Settings of the augmentation of log-mels.

    Args:
        mel_edges: Draw the edges of the mel bank anew for every batch, as EfficientAT does: fmin
            from 0 to 9 Hz, and fmax up to 1 kHz around that of the front-end, so that it is from
            14001 to 16000 Hz for a MobileNet. Front-ends other than `LogMel` keep theirs.
        mixup: Alpha of mixup: pairs of log-mels are mixed with a share from Beta(alpha, alpha), of
            which the larger part is the clip's own; 0 disables it. EfficientAT uses 0.3.
        mixstyle: Probability that the statistics of the mel bands of clips are mixed, which leaves
            the targets as they are; 0 disables it. In such batches there is no mixup.
        freq_mask: Largest number of mel bands that SpecAugment masks in the student's input.
        time_mask: Largest number of frames that SpecAugment masks.
    """

    mel_edges: bool = True
    mixup: float = 0.0
    mixstyle: float = 0.0
    freq_mask: int = 0
    time_mask: int = 0

    def __post_init__(self) -> None:
        wrong = [
            f"{name}={getattr(self, name):g}"
            for name in ("mixup", "mixstyle", "freq_mask", "time_mask")
            if getattr(self, name) < 0
        ]
        if wrong or self.mixstyle > 1:
            msg = (
                f"spectrogram augmentation cannot use {', '.join(wrong) or f'{self.mixstyle=:g}'}: "
                "nothing may be negative, and mixstyle is a probability"
            )
            raise ConfigError(msg)


def draw_mel_edges(rng: Generator) -> tuple[float, float]:
    """Return fmin in Hz, and what is added to fmax in Hz, as EfficientAT draws them for a batch."""
    return float(rng.integers(10)), float(rng.integers(2000) - 999)


def log_mel_with_edges(
    frontend: Frontend, waveform: Tensor, edges: tuple[float, float] | None
) -> Tensor:
    """Return the log-mel of waveforms, with other edges of the mel bank if they are given.

    Args:
        frontend: Front-end; only a `LogMel` can take other edges.
        waveform: Waveforms (batch, samples).
        edges: fmin in Hz, and what is added to fmax in Hz, see `draw_mel_edges`; None keeps those
            of the front-end.
    """
    if edges is not None and isinstance(frontend, LogMel):
        return frontend(waveform, edges=(edges[0], frontend.fmax + edges[1]))
    return frontend(waveform)


def draw_mixup(rng: Generator, batch_size: int, alpha: float, device: torch.device) -> Pairs:
    """Return pairs for mixup: a random permutation, and shares max(l, 1 - l), l ~ Beta(alpha)."""
    share = rng.beta(alpha, alpha, size=batch_size).astype(np.float32)
    partner = torch.from_numpy(rng.permutation(batch_size))
    own = torch.from_numpy(np.maximum(share, 1 - share))
    return Pairs(partner.to(device), own.to(device))


def draw_mixstyle(
    rng: Generator, batch_size: int, device: torch.device, alpha: float = 0.4
) -> Pairs:
    """Return pairs for `mixstyle`, with shares from Beta(alpha, alpha) that are not folded."""
    share = torch.from_numpy(rng.beta(alpha, alpha, size=batch_size).astype(np.float32))
    partner = torch.from_numpy(rng.permutation(batch_size))
    return Pairs(partner.to(device), share.to(device))


def mixstyle(log_mel: Tensor, pairs: Pairs) -> Tensor:
    """Mix the statistics of every mel band with those of another clip.

    From Zhou et al., "Domain Generalization with MixStyle" (ICLR 2021), per band as in Kim et al.,
    "Domain Generalization on Efficient Acoustic Scene Classification" (DCASE 2021). Mean and
    unbiased variance are over all axes but the batch and the bands.

    Args:
        log_mel: Log-mel spectrograms (batch, n_mels, frames), or (batch, channels, n_mels, frames).
        pairs: Partners of the clips, and the share of a clip's own statistics.
    """
    axes = [axis for axis in range(1, log_mel.ndim) if axis != log_mel.ndim - 2]
    mean = log_mel.mean(axes, keepdim=True)
    deviation = (log_mel.var(axes, keepdim=True) + _MIXSTYLE_EPS).sqrt()
    return (log_mel - mean) / deviation * pairs.mix(deviation) + pairs.mix(mean)


def spec_augment(log_mel: Tensor, rng: Generator, freq_mask: int, time_mask: int) -> Tensor:
    """Mask one range of mel bands and one of frames in every clip with the mean of the batch.

    From Park et al., "SpecAugment" (Interspeech 2019).

    Args:
        log_mel: Log-mel spectrograms (batch, n_mels, frames).
        rng: Random generator.
        freq_mask: Largest number of bands.
        time_mask: Largest number of frames.
    """
    for axis, widest in ((1, freq_mask), (2, time_mask)):
        if not widest:
            continue
        size = log_mel.shape[axis]
        width = torch.from_numpy(rng.integers(0, widest + 1, size=(len(log_mel), 1)))
        start = torch.from_numpy(rng.integers(0, np.maximum(1, size - width.numpy() + 1)))
        places = torch.arange(size)
        hidden = ((places >= start) & (places < start + width)).to(log_mel.device)
        hidden = hidden[:, :, None] if axis == 1 else hidden[:, None, :]
        log_mel = torch.where(hidden, log_mel.mean(), log_mel)
    return log_mel
