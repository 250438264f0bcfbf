"""Index of embedded audio files: JSON Lines, one `FileEntry` each, sorted by file name.

While a run is under way, its entries are added to a journal, ``.index.jsonl.journal``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from hear_core.errors import ConfigError
from hear_core.io.journal import Journal
from hear_eval.embeddings.formats import FORMATS
from hear_eval.embeddings.units import FileEntry

# Types of the fields of an entry; all but the first may be None.
_TYPES: tuple[type | tuple[type, ...], ...] = (str, int, str, (int, float), str, str)


def index_path(folder: Path, format_: str = "npy", shard: tuple[int, int] = (1, 1)) -> Path:
    """Return the path of the index of a shard.

    Args:
        folder: Output folder.
        format_: Format of the embeddings.
        shard: Number of the shard, from 1, and the number of shards.
    """
    number, of = shard
    name = "index.jsonl" if of == 1 else f"index.{number}-of-{of}.jsonl"
    return folder / f"{FORMATS[format_].prefix}{name}"


def journal_path(index: Path) -> Path:
    """Return the path of the journal of an index."""
    return index.with_name(f".{index.name}.journal")


def read_entries(path: Path) -> dict[str, FileEntry]:
    """Return the entries of an index or a journal, by file name.

    An entry after a damaged line is not known; its file is embedded again.

    Raises:
        ConfigError: An entry is not valid, or its embedding is outside the folder.
    """
    return {entry.file: entry for entry in _entries(path)}


def read_all_entries(folder: Path, format_: str) -> dict[str, FileEntry]:
    """Return the entries of the indexes and journals of all shards, by file name."""
    prefix = FORMATS[format_].prefix
    indexes = sorted(folder.glob(f"{prefix}index*.jsonl"))
    journals = sorted(folder.glob(f".{prefix}index*.jsonl.journal"))
    return {e.file: e for path in (*indexes, *journals) for e in _entries(path)}


def write_index(path: Path, entries: Iterable[FileEntry]) -> None:
    """Write an index, sorted by file name.

    Raises:
        FileError: The file cannot be written.
    """
    Journal(path).write(e._asdict() for e in sorted(entries, key=lambda entry: entry.file))


def _entries(path: Path) -> Iterator[FileEntry]:
    for number, found in enumerate(Journal(path).read(), start=1):
        try:
            yield _entry(found)
        except TypeError as error:
            msg = (
                f"{path}, line {number}: {error}. Delete this file to embed its audio files again."
            )
            raise ConfigError(msg) from error


def _entry(found: Any) -> FileEntry:
    """Return an entry.

    Raises:
        TypeError: It is not an entry, or its embedding is outside the folder.
    """
    if not isinstance(found, dict):
        msg = f"a {type(found).__name__} is not the entry of an audio file"
        raise TypeError(msg)
    entry = FileEntry(**found)
    for value, kind, field in zip(entry, _TYPES, entry._fields, strict=True):
        if not (isinstance(value, kind) or (value is None and field != "file")):
            msg = f"the entry has {field} {value!r}"
            raise TypeError(msg)
    if entry.embedding is not None and not _is_inside(entry.embedding):
        msg = f"the embedding {entry.embedding!r} is outside the folder"
        raise TypeError(msg)
    return entry


def _is_inside(path: str) -> bool:
    """Return whether a relative path stays in its folder; unlike `check_name`, for any name."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\0" not in path
