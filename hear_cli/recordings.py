"""Recordings that a command is given: each is processed on its own, and none stops the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import typer

from hear_cli.failures import describe_failure

T = TypeVar("T")


class Recordings:
    """Audio files to process one after the other.

    Args:
        files: Paths of the files; one that is given twice is processed once.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(dict.fromkeys(files))
        self._failures: dict[Path, str] = {}

    def process(self, work: Callable[[Path], T]) -> Iterator[tuple[Path, T]]:
        """Yield files and what `work` returns for each; those for which it raises are left out."""
        for file in self._files:
            try:
                found = work(file)
            except Exception as error:  # whatever it is, the other files are not to blame
                self._failures[file] = describe_failure(error)
            else:
                yield file, found

    def finish(self) -> None:
        """List the files that were left out, and exit with code 1 if there are any."""
        if self._failures:
            count = f"{len(self._failures)} of {len(self._files)} files"
            typer.echo(f"hear: {count} could not be processed:", err=True)
            for file, reason in self._failures.items():
                named = reason if str(file) in reason else f"{file}: {reason}"
                typer.echo(f"  {named}", err=True)
            raise typer.Exit(1)
