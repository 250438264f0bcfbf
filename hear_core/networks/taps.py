"""Embedding taps: named outputs inside a network, and their concatenation to one vector.

A backbone offers taps of two kinds. A *vector* tap, such as ``logits``, is (batch, channels). A
*map* tap, such as the output of block ``b5``, is (batch, channels, bands, frames) and is pooled to
a vector. An embedding is the concatenation of its taps in the order in which they are listed.

A frame-wise network has an embedding for every frame: each map is pooled over the stretch of time
that belongs to the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from hear_core.errors import ConfigError, unknown


def _mean_change(log_mel: Tensor) -> Tensor:
    changes = (log_mel[..., 1:] - log_mel[..., :-1]).abs().sum(-1)
    return changes / max(log_mel.shape[-1] - 1, 1)


LOG_MEL_TAPS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mel_avgs": lambda x: x.mean(-1),
    "mel_stds": lambda x: x.std(-1, correction=0),
    "mel_maxs": lambda x: x.amax(-1),
    "mel_changes": _mean_change,
}
"""Taps of the front-end: statistics over time of every band of a log-mel (..., n_mels, frames):
mean, standard deviation, maximum, and mean absolute change from frame to frame."""

LOG_FREQUENCY = "logf_avgs"
"""Tap of a spectrum on a logarithmic frequency axis, averaged over time, see
`hear_core.frontends.log_frequency`."""

FRONTEND_ALIASES: Mapping[str, tuple[str, ...]] = {"mels": ("mel_avgs",)}
"""Other names of the front-end's taps; a backbone declares those of its own taps."""


class TapShape(NamedTuple):
    """Size of the values of a tap: channels, and frequency bands if it is a map."""

    channels: int
    bands: int | None = None


class Pooling(NamedTuple):
    """A pooling of maps (batch, channels, bands, frames) to vectors (batch, size)."""

    size: Callable[[int, int], int]
    pool: Callable[[Tensor], Tensor]


def _over_time(name: str) -> Callable[[Tensor], Tensor]:
    """Return a pooling of the last axis, time, to one value, or two that are concatenated."""
    return {
        "avg": lambda x: x.mean(-1),
        "avg_max": lambda x: x.mean(-1) + x.amax(-1),
        "avg_std": lambda x: torch.cat([x.mean(-1), x.std(-1, correction=0)], dim=-1),
    }[name]


def _in_bands(count: int, values: int, over_time: Callable[[Tensor], Tensor]) -> Pooling:
    """Return a pooling of maps that keeps some bands of frequency.

    Args:
        count: Number of bands; a map with fewer keeps those that it has.
        values: Number of values that `over_time` gives.
        over_time: Pooling of the time axis.
    """

    def pool(x: Tensor) -> Tensor:
        bands = min(count, x.shape[2])
        edges = [x.shape[2] * i // bands for i in range(bands + 1)]
        merged = [x[:, :, low:high].mean(2) for low, high in pairwise(edges)]
        return over_time(torch.stack(merged, dim=2)).flatten(1)

    return Pooling(lambda c, f: values * c * min(count, f), pool)


def _in_segments(count: int) -> Pooling:
    """Return a pooling of maps that keeps some segments of time, each averaged.

    A segment has at least one frame: maps with fewer frames than segments repeat them.
    """

    def pool(x: Tensor) -> Tensor:
        over_frequency, frames = x.mean(2), x.shape[3]
        segment, frame = torch.arange(count, device=x.device), torch.arange(frames, device=x.device)
        first, stop = segment * frames // count, ((segment + 1) * frames + count - 1) // count
        inside = (frame[:, None] >= first) & (frame[:, None] < stop)
        weights = inside.to(x.dtype) / (stop - first)
        return (over_frequency @ weights).flatten(1)

    return Pooling(lambda c, f: count * c, pool)


POOLINGS: Mapping[str, Pooling] = {
    "avg": Pooling(lambda c, f: c, lambda x: x.mean((2, 3))),
    "max": Pooling(lambda c, f: c, lambda x: x.amax((2, 3))),
    "add_avg_max": Pooling(lambda c, f: c, lambda x: x.mean((2, 3)) + x.amax((2, 3))),
    "cat_avg_max": Pooling(
        lambda c, f: 2 * c, lambda x: torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
    ),
    "avg_time": Pooling(lambda c, f: c * f, lambda x: x.mean(3).flatten(1)),
    "avg_max_time": Pooling(lambda c, f: c * f, lambda x: (x.mean(3) + x.amax(3)).flatten(1)),
    # Some frequency or some time is kept: speech and music need it, and it costs no computation.
    **{
        f"{name}_bands{count}": _in_bands(count, values, _over_time(name))
        for name, values in (("avg", 1), ("avg_max", 1), ("avg_std", 2))
        for count in (2, 4, 8)
    },
    **{f"avg_segments{count}": _in_segments(count) for count in (2, 3, 5)},
}
"""Poolings of map taps by name. The first four average over frequency and time or take maxima;
``_time`` keeps every band of frequency; ``_bands4`` merges neighbours to four bands that each have
the mean over time, with the maximum added (``avg_max``) or the standard deviation appended
(``avg_std``); ``_segments3`` keeps three segments of time. Keeping several segments is from Niizumi
et al., "BYOL for Audio" and "Composing General Audio Representation" (2022)."""


def resolve(
    taps: Sequence[str], offered: Iterable[str], aliases: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Replace aliases and groups by the names of their taps, keeping the order.

    Args:
        taps: Names as a user writes them, such as ``["mels", "all_b"]``.
        offered: Names of the taps that exist.
        aliases: Names of taps by alias.

    Raises:
        ConfigError: A tap is unknown or listed twice, or the list is empty.
    """
    if isinstance(taps, str) or not taps:
        msg = f"taps must be a list of at least one tap name, not {taps!r}"
        raise ConfigError(msg)
    offered = list(offered)
    names = [name for tap in taps for name in aliases.get(tap, (tap,))]
    for name in names:
        if name not in offered:
            usable = [alias for alias, group in aliases.items() if set(group) <= set(offered)]
            raise ConfigError(unknown("tap", name, [*offered, *usable], show=60))
        if names.count(name) > 1:
            msg = f"tap {name!r} is listed more than once in {list(taps)}"
            raise ConfigError(msg)
    return tuple(names)


def layout(
    taps: Sequence[str], shapes: Mapping[str, TapShape], pooling: str = "avg"
) -> dict[str, slice]:
    """Return the columns of the embedding that each tap fills.

    Args:
        taps: Resolved tap names.
        shapes: Shapes by tap.
        pooling: Key of `POOLINGS`, applied to map taps.

    Raises:
        ConfigError: The pooling is unknown.
    """
    if pooling not in POOLINGS:
        raise ConfigError(unknown("pooling", pooling, POOLINGS))
    slices, stop = {}, 0
    for name in taps:
        channels, bands = shapes[name]
        start = stop
        stop += channels if bands is None else POOLINGS[pooling].size(channels, bands)
        slices[name] = slice(start, stop)
    return slices


def concatenate(values: Mapping[str, Tensor], taps: Sequence[str], pooling: str = "avg") -> Tensor:
    """Pool and join tapped values, in the order of `taps`, to (batch, size), float32."""
    pool = POOLINGS[pooling].pool
    vectors = [pool(values[t]) if values[t].ndim == 4 else values[t] for t in taps]
    return torch.cat([vector.float() for vector in vectors], dim=1)


def concatenate_frames(
    values: Mapping[str, Tensor], taps: Sequence[str], frames: int, pooling: str = "avg"
) -> Tensor:
    """Pool and join tapped values frame by frame to (batch, frames, size), float32.

    Args:
        values: Values by tap: maps whose number of frames is a multiple of `frames`; vectors,
            which are repeated in every frame; and vectors of every frame (batch, channels, frames).
        taps: Names of the taps in the order of their columns.
        frames: Number of frames.
        pooling: Key of `POOLINGS`, applied to the part of a map that belongs to a frame.
    """
    parts = []
    for value in (values[tap].float() for tap in taps):
        if value.ndim == 4:
            batch, channels, bands, _ = value.shape
            by_frame = value.reshape(batch, channels, bands, frames, -1).permute(0, 3, 1, 2, 4)
            pooled = POOLINGS[pooling].pool(by_frame.flatten(0, 1))
            parts.append(pooled.reshape(batch, frames, pooled.shape[1]))
        elif value.ndim == 3:
            parts.append(value.transpose(1, 2))
        else:
            parts.append(value.unsqueeze(1).expand(-1, frames, -1))
    return torch.cat(parts, dim=2)
