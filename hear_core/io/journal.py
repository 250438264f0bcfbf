"""Journals: JSON Lines that record finished work, so that a killed run resumes after it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from hear_core.io.files import atomic_write, writing

log = logging.getLogger(__name__)


class Append(Protocol):
    """Adds entries to a journal; they are in the file when the call returns."""

    def __call__(self, *entries: Any) -> None: ...


class Journal:
    """A file with one JSON value per line.

    A process that is killed while it appends leaves an incomplete last line. Reading ends before
    it, and appending replaces it.

    Args:
        path: The file. It need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Any]:
        """Return the entries up to the first line that is damaged, if any.

        Raises:
            FileError: The file exists and cannot be read.
        """
        return [entry for entry, _ in self._lines()]

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
            end = max((stop for _, stop in self._lines()), default=0)
            with self.path.open("ab") as file:
                file.truncate(end)

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

    def _lines(self) -> Iterator[tuple[Any, int]]:
        """Yield the undamaged entries and where each ends in the file, in bytes."""
        if not self.path.is_file():
            return
        content, stop = self.path.read_bytes(), 0
        for line in content.splitlines(keepends=True):
            try:
                entry = json.loads(line)
                if not line.endswith(b"\n"):
                    return  # even if what is there is JSON, such as the first digits of a number
            except (ValueError, RecursionError):
                if stop + len(line) < len(content):
                    log.warning(
                        "%s is damaged after %d bytes; what follows is done again", self.path, stop
                    )
                return
            stop += len(line)
            yield entry, stop


def _line(entry: Any) -> str:
    return json.dumps(entry) + "\n"
