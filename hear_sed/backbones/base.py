"""The contract of the backbones of detectors: networks that give a vector for every frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hear_core.frontends.log_mel import Frontend
from hear_core.networks.backbone import Backbone


class FrameBackbone(Backbone):
    """Base class of the backbones of detectors.

    A subclass offers the tap ``frames``, a map (batch, channels, 1, frames) with one frame for
    every `frame_stride` frames of the log-mel, rounded up. It has no classes of its own.

    Attributes:
        kind: Name of the backbone in the keys of a detector's weights, ``model.<kind>.``
        channels: Channels of ``frames``.
        n_mels: Mel bands of the input.
        sequence_tap: Tap with the sequence at the rate that the network itself has. If that is
            not the rate of the frames, it is a tap besides ``frames``.
    """

    kind: str
    channels: int
    n_mels: int
    class_layers = ()
    sequence_tap: str = "frames"


@dataclass(frozen=True)
class BackboneRecord:
    """Description of a backbone: how to build it, and how to read its released weights.

    Args:
        make: Constructor of the network with fresh weights.
        frontend: Constructor of its front-end: a class, or a `functools.partial` of one with
            keyword arguments.
        rename: Function from a key of a released file to the key in a detector,
            ``model.<kind>.…``; other keys are returned as they are. Heads and sequence models
            are renamed elsewhere.
        constants: Shapes of tensors of the front-end that released files may hold as well, by
            their renamed keys; they are compared, and not loaded.
    """

    make: Callable[[], FrameBackbone]
    frontend: Callable[[], Frontend]
    rename: Callable[[str], str] = str
    constants: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
