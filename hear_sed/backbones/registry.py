"""The backbones of detectors by name."""

from __future__ import annotations

from collections.abc import Mapping

from hear_core.errors import ConfigError, unknown
from hear_sed.backbones import asit, atst, beats, fpasst, frame_mobilenet, m2d
from hear_sed.backbones.base import BackboneRecord

BACKBONES: Mapping[str, BackboneRecord] = {
    **frame_mobilenet.BACKBONES,
    **beats.BACKBONES,
    **atst.BACKBONES,
    **fpasst.BACKBONES,
    **m2d.BACKBONES,
    **asit.BACKBONES,
}


def find_backbone(name: str) -> BackboneRecord:
    """Return the record of a backbone.

    Raises:
        ConfigError: The name is unknown.
    """
    if name not in BACKBONES:
        raise ConfigError(unknown("backbone", name, BACKBONES))
    return BACKBONES[name]
