"""Samplers: which clip comes at which place of a training, from a seed.

The order of an epoch depends on the seed and the number of the epoch only, never on the number of
workers or processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from hear_core.errors import ConfigError
from hear_train.data.clips import Clip
from hear_train.data.encoding import encode_events

_BALANCED_OFFSET, _BALANCED_SCALE = 100.0, 1000.0
_FRAMES_OFFSET, _FRAMES_SCALE, _FRAMES = 30.0, 1000.0, 250


class Sampler(Protocol):
    """Indices of clips by their place in the training."""

    def __len__(self) -> int:
        """Return the number of places of an epoch."""

    def __getitem__(self, place: int) -> int:
        """Return the index of the clip at a place, counted through all epochs."""


class SamplerConfig(Protocol):
    """Settings that samplers use; `hear_train.data.datasets.DataConfig` has them."""

    @property
    def epoch_length(self) -> int:
        """Number of places of an epoch; 0 is all clips."""

    @property
    def seconds(self) -> float:
        """Length of a clip in training."""

    @property
    def replacement(self) -> bool:
        """Whether a clip can be drawn several times in an epoch."""


class UniformSampler:
    """A sampler that draws every clip once per epoch, in random order.

    Args:
        count: Number of clips.
        seed: Seed of the orders.
        epoch_length: Length of an epoch, at most `count`; 0 is all clips.
    """

    def __init__(self, count: int, seed: int, epoch_length: int = 0) -> None:
        self._count, self._seed = count, seed
        self._length = min(epoch_length or count, count)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> int:
        epoch, index = divmod(place, self._length)
        if self._order[0] != epoch:
            order = np.random.default_rng((self._seed, 1, epoch)).permutation(self._count)
            self._order = (epoch, order[: self._length])
        return int(self._order[1][index])


class WeightedSampler:
    """A sampler that draws clips with weights.

    Args:
        weights: Weight of every clip, (clips,); clips of weight 0 are never drawn.
        seed: Seed; the epochs have the seeds ``seed``, ``seed + 1`` and so on.
        epoch_length: Length of an epoch; 0 is the number of clips with a weight, which is also the
            largest length without replacement.
        replacement: Whether a clip can be drawn several times in an epoch.

    Raises:
        ConfigError: No clip has a weight.
    """

    def __init__(
        self,
        weights: np.ndarray,
        seed: int,
        epoch_length: int = 0,
        *,
        replacement: bool = False,
    ) -> None:
        possible = int((weights > 0).sum())
        if not possible:
            msg = "a balanced sampler needs labels, but no clip has any: use sampler: uniform"
            raise ConfigError(msg)
        self._weights, self._seed = torch.from_numpy(np.asarray(weights, np.float64)), seed
        self._replacement = replacement
        self._length = epoch_length or possible
        if not replacement:
            self._length = min(self._length, possible)
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> int:
        epoch, index = divmod(place, self._length)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self._seed + epoch)
            order = torch.multinomial(
                self._weights, self._length, self._replacement, generator=generator
            )
            self._order = (epoch, order.numpy())
        return int(self._order[1][index])


def balanced_weights(clips: Iterable[Clip], classes: int) -> np.ndarray:
    """Return the weights of EfficientAT's balanced sampling, (clips,), float32.

    A clip's weight is the sum over its classes of 1000 / (100 + number of clips of the class).

    Args:
        clips: Clips with labels; those without get weight 0.
        classes: Number of classes.
    """
    listed = list(clips)
    counts = np.zeros(classes)
    for clip in listed:
        if clip.labels is not None:
            counts += np.unpackbits(clip.labels, count=classes)
    per_class = _BALANCED_SCALE / (_BALANCED_OFFSET + counts)
    weights = np.zeros(len(listed), np.float32)
    for index, clip in enumerate(listed):
        if clip.labels is not None:
            weights[index] = per_class[np.unpackbits(clip.labels, count=classes) > 0].sum()
    return weights


def frame_weights(clips: Iterable[Clip], classes: int) -> np.ndarray:
    """Return the weights of EfficientSED's sampling by active frames, (clips,), float64.

    A clip's weight is the sum over classes of its active frames, in frames of 40 ms and at most
    10 s, times 1000 / (30 + all active frames of the class).

    Args:
        clips: Clips with events; those without get weight 0.
        classes: Number of classes.
    """
    rows = [_active_frames(clip, classes) for clip in clips]
    counts = np.stack(rows) if rows else np.zeros((0, classes))
    return counts @ (_FRAMES_SCALE / (_FRAMES_OFFSET + counts.sum(0)))


def _active_frames(clip: Clip, classes: int) -> np.ndarray:
    if clip.events is None:
        return np.zeros(classes)
    return encode_events(clip.events, classes, _FRAMES, 640, 16000).sum(1, dtype=np.float64)


def window_counts(clips: Iterable[Clip], seconds: float) -> np.ndarray:
    """Return the number of windows of a length that every clip has, at least 1, (clips,)."""
    return np.array([max(1, round(clip.seconds / seconds)) for clip in clips], np.float64)


def _frames(clips: Sequence[Clip], classes: int, seed: int, config: SamplerConfig) -> Sampler:
    weights = frame_weights(clips, classes)
    return WeightedSampler(weights, seed, config.epoch_length, replacement=config.replacement)


def _windows(clips: Sequence[Clip], classes: int, seed: int, config: SamplerConfig) -> Sampler:
    counts = window_counts(clips, config.seconds)
    if counts.max() == 1:
        return _uniform(clips, classes, seed, config)
    length = config.epoch_length or int(counts.sum())
    return WeightedSampler(counts, seed, length, replacement=True)


def _uniform(clips: Sequence[Clip], classes: int, seed: int, config: SamplerConfig) -> Sampler:
    if config.replacement:
        weights = np.ones(len(clips))
        return WeightedSampler(weights, seed, config.epoch_length, replacement=True)
    return UniformSampler(len(clips), seed, config.epoch_length)


def _balanced(clips: Sequence[Clip], classes: int, seed: int, config: SamplerConfig) -> Sampler:
    weights = balanced_weights(clips, classes)
    return WeightedSampler(weights, seed, config.epoch_length, replacement=config.replacement)


SAMPLERS: Mapping[str, Callable[[Sequence[Clip], int, int, SamplerConfig], Sampler]] = {
    "uniform": _uniform,
    "balanced": _balanced,
    "frames": _frames,
    "windows": _windows,
}
"""Makers of samplers, of clips, number of classes, seed, and settings. ``uniform`` draws all clips,
``balanced`` the rare classes of clips more often, ``frames`` those of frames, and ``windows`` long
recordings as often as they have windows."""
