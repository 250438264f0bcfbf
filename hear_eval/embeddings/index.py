"""What is written beside embeddings: how they were made, and what became of every audio file.

An index is a file of JSON Lines, an `Entry` each, in the order of their names. While a run is
under way its entries go into a journal, ``.index.jsonl.journal``, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from hear_core.io.files import atomic_write


class Entry(NamedTuple):
    """What became of an audio file.

    Args:
        file: Its name.
        bytes: Its size, by which another one that takes its name later is known; None if it
            could not be told.
        seconds: Its length; None if it could not be embedded.
        embedding: The file that its embedding is in, relative to the folder; None if it has none.
        reason: Why it could not be embedded; None if it could.
    """

    file: str
    bytes: int | None
    seconds: float | None = None
    embedding: str | None = None
    reason: str | None = None


def line(entry: Entry) -> str:
    """Return an entry as a line of an index."""
    return json.dumps(entry._asdict()) + "\n"


def read(path: Path) -> dict[str, Entry]:
    """Return the entries of an index or a journal by file; of lines that are cut off, none."""
    entries = {}
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = Entry(**json.loads(text))
            except (ValueError, TypeError):
                continue
            entries[entry.file] = entry
    return entries


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write entries, in the order of their files."""
    with atomic_write(path) as part:
        ordered = sorted(entries, key=lambda entry: entry.file)
        part.write_text("".join(map(line, ordered)), encoding="utf-8")


def index_of(folder: Path, number: int = 1, of: int = 1) -> Path:
    """Return the path of the index of a shard."""
    return folder / ("index.jsonl" if of == 1 else f"index.{number}-of-{of}.jsonl")


def journal_of(index: Path) -> Path:
    """Return the path of the journal of an index."""
    return index.with_name(f".{index.name}.journal")


def read_all(folder: Path) -> dict[str, Entry]:
    """Return the entries of all indexes and journals in a folder, of all shards."""
    paths = [*sorted(folder.glob("index*.jsonl")), *sorted(folder.glob(".index*.jsonl.journal"))]
    return {name: entry for path in paths for name, entry in read(path).items()}
