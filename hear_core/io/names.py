"""Names that become paths: one check, so that nothing is written outside its folder."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import PureWindowsPath

from hear_core.errors import ConfigError, HearError

_LONGEST = 255  # bytes of a file name, on every common file system
_LONGEST_PATH = 4096 - 256  # bytes of a relative path; Linux takes 4096 for the whole path
_DIGEST = 16


def check_name(
    name: object,
    what: str = "name",
    *,
    folders: bool = False,
    room: int = 0,
    error: type[HearError] = ConfigError,
) -> str:
    """Return a name unchanged if it is safe as the name of a file or folder, else raise.

    A safe name is relative, stays below the folder that it is joined to, and can be created on
    Linux, macOS and Windows as far as separators, drives and lengths go.

    Args:
        name: The name, as it comes from a table, a JSON file or an option.
        what: Kind of thing that is named, for error messages.
        folders: Whether the name may be a path with ``/``.
        room: Number of bytes that will be appended to the last part, such as a suffix.
        error: Class of the errors that are raised.

    Raises:
        HearError: The name is not safe. It is an instance of `error`.
    """
    if problem := _problem(name, folders=folders, room=room):
        shown = repr(name) if len(repr(name)) <= 200 else f"{repr(name)[:200]}..."
        msg = f"{what} {shown} cannot be used as a file name: {problem}"
        raise error(msg)
    return str(name)


def _problem(name: object, *, folders: bool, room: int) -> str | None:
    if not isinstance(name, str):
        return "it is not a string"
    if not name.strip():
        return "it is empty"
    if re.search(r"[\x00-\x1f]", name):
        return "it contains a control character"
    parts = name.split("/")
    if not folders and len(parts) > 1:
        return "it contains '/'"
    if name.startswith("/") or PureWindowsPath(name).drive or PureWindowsPath(name).root:
        return "it is an absolute path"
    if "\\" in name:
        return "it contains a backslash"
    if any(part in ("", ".", "..") for part in parts):
        return "it contains an empty part, '.' or '..'"
    try:
        sizes = [len(os.fsencode(part)) for part in parts]
    except UnicodeEncodeError:  # of half a surrogate pair, which JSON can hold
        return "it contains a character that cannot be encoded"
    if max(sizes) > _LONGEST or sizes[-1] + room > _LONGEST or sum(sizes) > _LONGEST_PATH:
        return f"it is too long: a file name has at most {_LONGEST - room} bytes"
    return None


def shortened(name: str, room: int = 0) -> str:
    """Return a file name that fits a file system: one that is too long ends in a checksum.

    Different names stay different, and the same name always gives the same result. The suffix is
    kept.

    Args:
        name: A file name without folders.
        room: Number of bytes that will be appended to the name.
    """
    content = os.fsencode(name)
    if len(content) + room <= _LONGEST:
        return name
    stem, dot, suffix = name.rpartition(".")
    end = f"{dot}{suffix}" if stem and len(os.fsencode(suffix)) <= 16 else ""
    digest = hashlib.sha256(content).hexdigest()[:_DIGEST]
    kept = content[: _LONGEST - room - len(os.fsencode(end)) - _DIGEST - 1]
    return f"{kept.decode(errors='ignore')}-{digest}{end}"
