"""The exceptions of this project, and checks and messages that several packages share."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from numbers import Real
from typing import Any


class HearError(Exception):
    """Base class of every error that this project raises on purpose."""


class AudioError(HearError, ValueError):
    """Audio that cannot be processed, or a file that cannot be read as audio."""


class ConfigError(HearError, ValueError):
    """A name, an option or a configuration that is not valid."""


class FileError(HearError, OSError):
    """A file or folder that cannot be read or written, for example because the disk is full."""


class CheckpointError(HearError, RuntimeError):
    """Weights that are missing, damaged, or made for another network."""


def require_number(
    name: str, value: Any, low: float, high: float, *, integer: bool = False, unit: str = ""
) -> None:
    """Check that an option is a number in a range.

    >>> require_number("scene_hop", float("nan"), 0.001, 60, unit="seconds")
    Traceback (most recent call last):
    hear_core.errors.ConfigError: scene_hop must be a number from 0.001 to 60 seconds, not nan

    Args:
        name: Name of the option, for the message.
        value: Value that was given, of any type.
        low: Smallest valid value.
        high: Largest valid value.
        integer: Whether only whole numbers are valid.
        unit: Unit of the value, for the message.

    Raises:
        ConfigError: The value is not a number, is NaN, or is out of range.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if number and low <= value <= high and (not integer or float(value).is_integer()):
        return
    kind = "a whole number" if integer else "a number"
    shown = f"{value:g}" if isinstance(value, float) else shortened_repr(value)
    msg = f"{name} must be {kind} from {low:g} to {high:g} {unit}".rstrip() + f", not {shown}"
    raise ConfigError(msg)


def shortened_repr(value: Any, length: int = 80) -> str:
    """Return the representation of a value that a user gave, shortened for a message."""
    reprs = reprlib.Repr()
    reprs.maxstring = reprs.maxother = reprs.maxlong = length
    return reprs.repr(value)


def unknown(kind: str, name: str, known: Iterable[str], *, show: int = 20) -> str:
    """Return the message for an unknown name, with the nearest known names or a list of all.

    Args:
        kind: Kind of thing that is named, such as "tap".
        name: Name that was given.
        known: Names that are valid.
        show: Largest number of known names that are all listed.
    """
    known = sorted(set(known))
    message = f"unknown {kind} {name!r}"
    if near := difflib.get_close_matches(str(name), known, n=3, cutoff=0.5):
        message += f"; did you mean {' or '.join(repr(n) for n in near)}?"
    if len(known) <= show:
        message += f" Known: {', '.join(known)}." if near else f"; known: {', '.join(known)}"
    return message
