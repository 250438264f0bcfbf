"""Events of clips: targets of frames, and their encoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hear_core.errors import ConfigError, unknown
from hear_core.events.event import Event
from hear_train.data.clips import Clip
from hear_train.data.sources import Part

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


def event_rows(events: Sequence[Event], labels: Mapping[str, int]) -> np.ndarray:
    """Return events as an array of class, onset and offset in seconds, (events, 3), float64.

    Overlapping and touching events of a class are merged. Events of other classes are left out.

    Args:
        events: The events.
        labels: Numbers of the classes by name.
    """
    rows: list[list[float]] = []
    known = (event for event in events if event.label in labels)
    for event in sorted(known, key=lambda e: (labels[e.label], e.onset)):
        number = labels[event.label]
        if rows and rows[-1][0] == number and event.onset <= rows[-1][2]:
            rows[-1][2] = max(rows[-1][2], event.offset)
        else:
            rows.append([number, event.onset, event.offset])
    return np.array(rows, np.float64).reshape(-1, 3)


@dataclass(frozen=True)
class FrameTargets:
    """Targets of the frames of drawn clips, see `hear_train.data.sources.DrawnBatches`.

    Args:
        classes: Number of classes.
        frames: Number of frames of a drawn clip.
        samples_per_frame: Samples from one frame to the next.
        sample_rate: Sample rate in Hz.
        encoding: A key of `ENCODINGS`.
    """

    classes: int
    frames: int
    samples_per_frame: int
    sample_rate: int
    encoding: str = "cover"

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ConfigError(unknown("encoding", self.encoding, ENCODINGS))

    def __call__(self, clip: Clip, part: Part) -> np.ndarray:
        """Return the targets of a clip as it was drawn, (classes, frames), float32."""
        if clip.events is None:
            return np.zeros((self.classes, self.frames), np.float32)
        active = encode_events(
            clip.events,
            self.classes,
            self.frames,
            self.samples_per_frame,
            self.sample_rate,
            start=part.start,
            encoding=self.encoding,
        )
        return np.roll(active, round(part.shift / self.samples_per_frame), axis=1)
