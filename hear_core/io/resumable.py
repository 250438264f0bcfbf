"""Results of items that are worked on one after the other, kept so that a killed run resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from hear_core.io.files import exclusive_lock, lock_path
from hear_core.io.journal import Append, Journal


class Resumable:
    """Results of a run by item, in a journal that is removed when the run is complete.

    The results of a former run are used if it had the same settings, for items whose files have not
    changed since.

    Args:
        path: File or folder that the run writes; the journal is a hidden file beside the file, or
            in the folder.
        settings: Settings that the results depend on, as JSON can hold them.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        hidden = (
            path / ".hear.journal" if path.is_dir() else path.with_name(f".{path.name}.journal")
        )
        self._path, self._journal = path, Journal(hidden)
        self._settings = json.loads(json.dumps(settings))
        self._known: dict[str, tuple[list[int], Any]] = {}
        self._append: Append | None = None

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Keep results of the run inside the context.

        Raises:
            ConfigError: Another process writes the same output.
            FileError: The journal cannot be read or written.
        """
        with exclusive_lock(self._journal.path, "wait for it, or give each its own output"):
            first, *entries = self._journal.read() or [None]
            if first == {"settings": self._settings}:
                self._known = {
                    entry["item"]: (entry["state"], entry["result"])
                    for entry in entries
                    if isinstance(entry, dict)
                    and entry.keys() == {"item", "state", "result"}
                    and isinstance(entry["item"], str)
                }
            else:
                self._journal.write([{"settings": self._settings}])
            with self._journal.appending() as self._append:
                yield self

    def result_of(self, file: Path) -> Any | None:
        """Return the stored result of a file, or None if it is new or has changed."""
        state, result = self._known.get(str(file.absolute()), (None, None))
        return result if state == _state(file) else None

    def keep(self, file: Path, result: Any) -> None:
        """Keep the result of a file, as JSON can hold it."""
        if self._append:
            entry = {"item": str(file.absolute()), "state": _state(file), "result": result}
            self._append(entry)

    def remove(self) -> None:
        """Remove the results, once the output is complete."""
        self._journal.remove()
        lock_path(self._journal.path).unlink(missing_ok=True)


def _state(file: Path) -> list[int]:
    try:
        found = file.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
