"""Journals: JSON Lines that record finished work, so that a killed run resumes after it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from hear_core.io.files import atomic_write, reading, writing

log = logging.getLogger(__name__)


class Append(Protocol):
    """Adds entries to a journal; they are in the file when the call returns."""

    def __call__(self, *entries: Any) -> None: ...


class Journal:
    """A file with a JSON object or list per line.

    A process that is killed while it appends leaves an incomplete last line. Reading leaves it
    out, as any damaged line, and appending begins a new one.

    Args:
        path: The file. It need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Any]:
        """Return the entries, without damaged ones.

        Raises:
            FileError: The file cannot be read.
        """
        entries: list[Any] = []
        with reading(self.path):
            content = self.path.read_bytes() if self.path.exists() else b""
        lines = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entries.append(json.loads(line))
            except (ValueError, RecursionError):
                if number < len(lines):
                    log.warning("%s, line %d, is damaged and left out", self.path, number)
        return entries

    def write(self, entries: Iterable[Any]) -> None:
        """Replace all entries.

        Raises:
            FileError: The file cannot be written.
        """
        with atomic_write(self.path) as part, part.open("w", encoding="utf-8") as file:
            file.writelines(map(_line, entries))

    @contextmanager
    def appending(self) -> Iterator[Append]:
        """Open the journal to add entries.

        Raises:
            FileError: The file cannot be written.
        """
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("ab+")
        with file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")

            def append(*entries: Any) -> None:
                with writing(self.path):
                    file.write("".join(map(_line, entries)).encode())
                    file.flush()

            yield append

    def append(self, *entries: Any) -> None:
        """Add entries to the file, which is opened for this only.

        Raises:
            FileError: The file cannot be written.
        """
        with self.appending() as append:
            append(*entries)

    def remove(self) -> None:
        """Delete the file, if it exists."""
        self.path.unlink(missing_ok=True)


def _line(entry: Any) -> str:
    return json.dumps(entry) + "\n"
