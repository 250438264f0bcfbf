"""What can go wrong, as one family of exceptions whose messages are sentences a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HearError(Exception):
    """Root of every error this project raises on purpose."""


class AudioError(HearError, ValueError):
    """Audio that cannot be embedded, or a file that cannot be read as audio."""


class ConfigError(HearError, ValueError):
    """A name, option or configuration that means nothing here."""


class FileError(HearError, OSError):
    """A file or folder that cannot be read or written, for example because the disk is full."""


class CheckpointError(HearError, RuntimeError):
    """Weights that are missing, damaged, or made for another network."""


def unknown(kind: str, name: str, known: Iterable[str], *, show: int = 20) -> str:
    """Compose the message for a name that is not known: the nearest matches, or all there are.

    Args:
        kind: What is being named, such as "tap".
        name: The name that was given.
        known: The names that would have been right.
        show: List all known names only when there are at most this many.
    """
    known = sorted(set(known))
    message = f"unknown {kind} {name!r}"
    if near := difflib.get_close_matches(str(name), known, n=3, cutoff=0.5):
        message += f"; did you mean {' or '.join(repr(n) for n in near)}?"
    if len(known) <= show:
        message += f" Known: {', '.join(known)}." if near else f"; known: {', '.join(known)}"
    return message
