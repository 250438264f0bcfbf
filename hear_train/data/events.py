"""Events of clips as arrays, and the targets of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hear_core.errors import ConfigError, unknown
from hear_core.events.event import Event
from hear_train.data.clips import Clip
from hear_train.data.encoding import ENCODINGS, encode_events
from hear_train.data.sources import Part


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
