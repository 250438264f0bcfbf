"""Audio files in folders and tables, by name, and a stable way to divide them among machines."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hear_core.audio.reading import audio_suffixes
from hear_core.errors import ConfigError
from hear_core.io.tables import is_table, read_table

log = logging.getLogger(__name__)


_FILE_COLUMNS = ("file", "filename", "filepath", "path")


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
            msg = f"{given} does not exist"
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


def find_recordings(inputs: Iterable[Path]) -> FoundAudio:
    """Find audio files that keep the paths they are given by, so that no two have the same name.

    Args:
        inputs: Audio files; folders, which are searched with all folders below them; patterns
            such as ``site*/**/*.wav``; and tables (CSV, TSV) of files, relative to the table, in a
            column ``file``, ``filename``, ``filepath`` or ``path``.

    Returns:
        The files in the order of `inputs`, those of a folder or a pattern sorted by name; each
        once. A file in `inputs` or a table is taken whether or not it exists, so that the others
        are still processed. Those in folders are chosen as by `find_audio_files`.

    Raises:
        ConfigError: A pattern matches nothing, or a table cannot be read or lacks the column.
    """
    known, ignored = audio_suffixes(), Counter[str]()
    found: dict[Path, AudioFile] = {}
    for given in inputs:
        if given.is_dir():
            below = sorted(_below(given, None), key=lambda path: path.as_posix())
            audio = [path for path in below if _is_audio(path, known)]
            ignored.update(path.suffix.lower() for path in below if not _is_audio(path, known))
        elif given.exists():
            audio = _listed(given) if is_table(given) else [given]
        else:
            audio = _matching(given, known)
        for path in audio:
            found.setdefault(path.absolute(), AudioFile(path.absolute(), str(path)))
    return FoundAudio([*found.values()], ignored)


def _is_audio(path: Path, known: Container[str]) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in known


def _matching(pattern: Path, known: Container[str]) -> list[Path]:
    """Return the audio files that a pattern matches; a name that is not a pattern is taken."""
    text = str(pattern)
    if not glob.has_magic(text):
        return [pattern]
    matches = sorted(map(Path, glob.iglob(text, recursive=True)))  # noqa: PTH207  # may be absolute
    files = [path for path in matches if path.is_file() and _is_audio(path, known)]
    if not files:
        msg = f"no audio file matches {text}"
        raise ConfigError(msg)
    return files


def _listed(table: Path) -> list[Path]:
    """Return the files that a table names."""
    rows = read_table(table)
    columns = rows[0][1] if rows else {}
    column = next((name for name in _FILE_COLUMNS if name in columns), None)
    if column is None:
        msg = f"{table} does not list files: it needs a column {', '.join(_FILE_COLUMNS)}"
        raise ConfigError(msg)
    return [table.parent / cells[column] for _, cells in rows if cells[column].strip()]


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
