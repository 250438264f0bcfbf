"""Encoding of events as frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

_INCLUDED = 2.5e-6  # frames of 40 ms, or 0.1 microseconds, that HEAR's events last beyond their end


def covered_frames(onset: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first frame of events, and the one after the last: all that they touch.

    This is the encoding of EfficientSED: the onset is rounded down, the offset up.

    Args:
        onset: Onsets in frames, (events,).
        offset: Offsets in frames, (events,).
    """
    return np.floor(onset), np.ceil(offset)


def centred_frames(onset: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first frame of events, and the one after the last, of those with centres in them.

    This is the encoding of HEAR's tasks, in which an event includes its end.

    Args:
        onset: Onsets in frames, (events,).
        offset: Offsets in frames, (events,).
    """
    return np.ceil(onset - 0.5), np.floor(offset - 0.5 + _INCLUDED) + 1


ENCODINGS: Mapping[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "cover": covered_frames,
    "centre": centred_frames,
}
"""Encodings of events as frames by name."""


def encode_events(
    events: np.ndarray,
    classes: int,
    frames: int,
    samples_per_frame: float,
    sample_rate: int,
    *,
    start: int = 0,
    encoding: str = "cover",
) -> np.ndarray:
    """Return which classes are active in which frames, (classes, frames), float32.

    Args:
        events: Class, onset and offset in seconds of every event, (events, 3).
        classes: Number of classes.
        frames: Number of frames.
        samples_per_frame: Samples from one frame to the next.
        sample_rate: Sample rate in Hz.
        start: Sample at which the first frame begins.
        encoding: A key of `ENCODINGS`.
    """
    active = np.zeros((classes, frames), np.float32)
    times = (events[:, 1:] * sample_rate - start) / samples_per_frame
    borders = (edge.clip(0, frames).astype(int) for edge in ENCODINGS[encoding](*times.T))
    for label, first, end in zip(events[:, 0].astype(int), *borders, strict=True):
        active[label, first:end] = 1
    return active
