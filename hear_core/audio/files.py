"""Audio files in folders, by name, and a stable way to divide them among machines."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hear_core.audio.reading import audio_suffixes
from hear_core.errors import ConfigError

log = logging.getLogger(__name__)


class AudioFile(NamedTuple):
    """An audio file.

    Attributes:
        path: Absolute path.
        name: Relative path with ``/``, by which the file is known in results.
    """

    path: Path
    name: str


class FoundAudio(NamedTuple):
    """Audio files that were found.

    Attributes:
        sources: The files.
        ignored: Number of other files by suffix.
    """

    sources: list[AudioFile]
    ignored: Counter[str]


def find_audio_files(inputs: Iterable[Path], except_in: Path | None = None) -> FoundAudio:
    """Find audio files.

    Folders that are symbolic links are followed, but not into a folder that they are in.

    Args:
        inputs: Folders, which are searched with all folders below them, and files. The name of a
            file is its file name, that of a file in a folder its path below that folder.
        except_in: A folder that is not searched.

    Returns:
        The files, sorted by name. Files in folders are ignored if they are hidden or do not have
        the suffix of an audio file, in lower or upper case; a file in `inputs` is taken whatever
        its suffix.

    Raises:
        ConfigError: An input does not exist, or two files have the same name.
    """
    known, ignored = audio_suffixes(), Counter[str]()
    found: dict[str, AudioFile] = {}
    for given in inputs:
        if not given.exists():
            msg = f"there is no file or folder {given}"
            raise ConfigError(msg)
        paths = _below(given, except_in) if given.is_dir() else iter([given])
        for path in paths:
            suffix = path.suffix.lower()
            if path != given and (path.name.startswith(".") or suffix not in known):
                ignored[suffix] += 1
                continue
            name = path.name if path == given else path.relative_to(given).as_posix()
            source = AudioFile(path.absolute(), name)
            other = found.setdefault(name, source)
            if other != source and other.path.resolve() != path.resolve():
                msg = (
                    f"{path} and {other.path} would both be called {name}: "
                    f"give the folder that holds both, or embed them into two folders"
                )
                raise ConfigError(msg)
    _warn_of_case(found)
    return FoundAudio(sorted(found.values(), key=lambda source: source.name), ignored)


def _below(folder: Path, except_in: Path | None) -> Iterator[Path]:
    """Yield the files below a folder, also in folders that are linked."""
    left_out = None if except_in is None else except_in.resolve()
    for parent, folders, files in os.walk(folder, followlinks=True):
        own = Path(parent).resolve()
        folders[:] = [
            name
            for name in folders
            if not _is_above(Path(parent, name), own) and Path(parent, name).resolve() != left_out
        ]
        yield from (Path(parent, name) for name in files)


def _is_above(folder: Path, other: Path) -> bool:
    """Return whether a folder is a link to another folder or to one above it."""
    if not folder.is_symlink():
        return False
    real = folder.resolve()
    return real == other or real in other.parents


def _warn_of_case(names: Iterable[str]) -> None:
    kept: dict[str, str] = {}
    for name in names:
        if (other := kept.setdefault(name.casefold(), name)) != name:
            log.warning(
                "%s and %s differ in case only; write results to a file system that tells them "
                "apart",
                other,
                name,
            )


def shard(sources: Iterable[AudioFile], number: int, count: int) -> list[AudioFile]:
    """Return one of several shards of some files.

    The shard of a file depends on its name only, so that machines need not agree on anything else,
    and files that are added later do not move others.

    Args:
        sources: All files.
        number: Number of the shard, from 1.
        count: Number of shards.
    """
    return [source for source in sources if _hash(source.name) % count == number - 1]


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big")
