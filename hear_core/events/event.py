"""An event: a class with an onset and an offset."""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """An event, annotated or detected.

    Attributes:
        label: Name of the class.
        onset: Onset in seconds from the start of the recording.
        offset: Offset in seconds.
        score: Highest score in [0, 1] of a detected event; 1 for an annotated one.
    """

    label: str
    onset: float
    offset: float
    score: float = 1.0
