"""Samplers: which clip comes at which place of a training, from a seed.

The order of an epoch depends on the seed and the number of the epoch only, never on the number of
workers or processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch

from hear_core.errors import ConfigError
from hear_train.data.clips import Clip
from hear_train.data.encoding import encode_events

_BLOCK = 4096  # places that are generated at a time
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
    def batch_size(self) -> int:
        """Number of clips of a batch."""

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


class ClassQueueSampler:
    """The balanced sampler of PANNs: the classes take turns, and each walks through its own clips.

    The classes are in a queue in random order, which is refilled when it is empty. Each class has
    its clips in random order, which is drawn anew when all were used. The order is that of the
    original with the same seed.

    Args:
        by_class: Clips of every class in ascending order, see `clips_by_class`. Classes without
            clips are left out.
        seed: Seed of all orders.
        excluded: Clips that are drawn but passed over.

    Raises:
        ConfigError: No clip has a class.
    """

    def __init__(
        self, by_class: Sequence[np.ndarray], seed: int, excluded: Iterable[int] = ()
    ) -> None:
        self._clips = [clips for clips in by_class if len(clips)]
        self._excluded, self._seed = frozenset(excluded), seed
        if not self._clips:
            msg = "a sampler by class needs labels, but no clip has any: use sampler: uniform"
            raise ConfigError(msg)
        self._count = len(np.unique(np.concatenate(self._clips)))
        self._draws = _Sequence(self._generate)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> int:
        return self._draws[place]

    def _generate(self) -> Iterator[int]:
        rng = np.random.RandomState(self._seed)
        orders = [clips.copy() for clips in self._clips]
        for order in orders:
            rng.shuffle(order)
        used = [0] * len(orders)
        while True:
            queue = list(range(len(orders)))
            rng.shuffle(queue)
            for number in queue:
                order = orders[number]
                clip = int(order[used[number]])
                used[number] += 1
                if used[number] == len(order):
                    used[number] = 0
                    rng.shuffle(order)
                if clip not in self._excluded:
                    yield clip


class ShuffledSampler:
    """The plain sampler of PANNs: all clips in random order, which is drawn anew after the last.

    Args:
        count: Number of clips.
        seed: Seed of the orders.
        excluded: Clips that are drawn but passed over.
    """

    def __init__(self, count: int, seed: int, excluded: Iterable[int] = ()) -> None:
        self._count, self._seed, self._excluded = count, seed, frozenset(excluded)
        self._draws = _Sequence(self._generate)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> int:
        return self._draws[place]

    def _generate(self) -> Iterator[int]:
        rng = np.random.RandomState(self._seed)
        order = np.arange(self._count)
        rng.shuffle(order)
        while True:
            before = order.tolist()
            # The original shuffles before it passes over an excluded clip at the end.
            rng.shuffle(order)
            yield from (clip for clip in before if clip not in self._excluded)


class AlternatingSampler:
    """A sampler whose batches come in turn from two others, as ``alternate`` of PANNs.

    Args:
        first: Sampler of the first batch, the third and so on.
        second: Sampler of the others.
        batch_size: Number of clips of a batch.
    """

    def __init__(self, first: Sampler, second: Sampler, batch_size: int) -> None:
        self._samplers, self._batch_size = (first, second), batch_size

    def __len__(self) -> int:
        return len(self._samplers[0])

    def __getitem__(self, place: int) -> int:
        batch, within = divmod(place, self._batch_size)
        turn, which = divmod(batch, 2)
        return self._samplers[which][turn * self._batch_size + within]


class _Sequence:
    """Values of an endless generator by their place; going back starts the generator again."""

    def __init__(self, generate: Callable[[], Iterator[int]]) -> None:
        self._generate, self._values = generate, generate()
        self._first, self._block = 0, list[int]()

    def __getitem__(self, place: int) -> int:
        if place < self._first:
            self._values, self._first, self._block = self._generate(), 0, []
        while place >= self._first + len(self._block):
            self._first += len(self._block)
            self._block = list(islice(self._values, _BLOCK))
        return self._block[place - self._first]

    def __getstate__(self) -> dict[str, Any]:
        # A generator cannot be pickled for the workers; it starts again there.
        return {"_generate": self._generate, "_values": iter(()), "_first": 1 << 62, "_block": []}


def clips_by_class(clips: Sequence[Clip], classes: int) -> list[np.ndarray]:
    """Return the numbers of the clips of every class, in ascending order, int32.

    Args:
        clips: Clips with labels; those without are in no class.
        classes: Number of classes.
    """
    none = np.zeros(-(-classes // 8), np.uint8)
    found: list[list[np.ndarray]] = [[] for _ in range(classes)]
    for start in range(0, len(clips), _BLOCK):  # as bools, all targets of AudioSet take a gigabyte
        rows = [
            none if clip.labels is None else clip.labels for clip in clips[start : start + _BLOCK]
        ]
        targets = np.unpackbits(np.stack(rows), axis=1, count=classes)
        for number, column in enumerate(targets.T):
            found[number].append((np.flatnonzero(column) + start).astype(np.int32))
    return [np.concatenate(parts) for parts in found]


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


def _class_queue(clips: Sequence[Clip], classes: int, seed: int, config: SamplerConfig) -> Sampler:
    return ClassQueueSampler(clips_by_class(clips, classes), seed)


def _alternate(clips: Sequence[Clip], classes: int, seed: int, config: SamplerConfig) -> Sampler:
    balanced = _class_queue(clips, classes, seed, config)
    return AlternatingSampler(balanced, ShuffledSampler(len(clips), seed), config.batch_size)


SAMPLERS: Mapping[str, Callable[[Sequence[Clip], int, int, SamplerConfig], Sampler]] = {
    "uniform": _uniform,
    "balanced": _balanced,
    "frames": _frames,
    "windows": _windows,
    "class_queue": _class_queue,
    "alternate": _alternate,
}
"""Makers of samplers, of clips, number of classes, seed, and settings. ``uniform`` draws all clips,
``balanced`` the rare classes of clips more often, ``frames`` those of frames, and ``windows`` long
recordings as often as they have windows."""
