"""Outputs of commands: checked before the work starts, and written recording by recording."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import typer

from hear_core import __version__
from hear_core.errors import unknown
from hear_core.events.formats import (
    CLOCK_FORMATS,
    FORMATS,
    Add,
    EventFormat,
    EventRow,
    event_file,
    event_writer,
    find_format,
)
from hear_core.io.files import writing
from hear_core.io.resumable import Resumable


def check_output_file(path: Path | None) -> Path | None:
    """Check that a file can be written, and return it; a callback of Typer.

    Raises:
        BadParameter: It is an address, or cannot be written; the message says why.
    """
    if path is not None:
        _check_place(path)
    return path


def check_output_folder(path: Path | None) -> Path | None:
    """Check that files can be written into a folder, and return it; a callback of Typer.

    Raises:
        BadParameter: It is an address or a file, or cannot be written to; the message says why.
    """
    if path is not None:
        _check_place(path)
        if path.exists() and not path.is_dir():
            msg = f"{path} is a file, and a folder is needed."
            raise typer.BadParameter(msg)
    return path


def check_plot_folder(path: Path | None) -> Path | None:
    """Check that pictures can be drawn and written into a folder; a callback of Typer.

    Raises:
        BadParameter: matplotlib is not installed, or see `check_output_folder`.
    """
    if path is not None and importlib.util.find_spec("matplotlib") is None:
        msg = "Pictures need matplotlib; install it with: pip install 'efficient-hear[plot]'"
        raise typer.BadParameter(msg)
    return check_output_folder(path)


def _check_place(path: Path) -> None:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", path.as_posix()):
        msg = f"{path} is an address; only local files can be written."
        raise typer.BadParameter(msg)
    there = path if path.exists() else next(p for p in path.absolute().parents if p.exists())
    if there != path and not there.is_dir():
        msg = f"{path} cannot be made: {there} is not a folder."
        raise typer.BadParameter(msg)
    if not os.access(there, os.W_OK):
        msg = f"{path} cannot be written: there is no permission to write {there}."
        raise typer.BadParameter(msg)


def names_of_recordings(files: Sequence[Path], suffix: str) -> dict[Path, Path]:
    """Return a path for the output of every recording, relative to a folder of outputs.

    It is the name of the recording, as far as no other has it; else the folders that tell both
    apart, and the suffix of the audio, come with it.

    >>> names_of_recordings([Path("a/1.wav"), Path("b/1.wav"), Path("a/2.wav")], ".png")
    {Path('a/1.wav'): Path('a/1.wav.png'), Path('b/1.wav'): Path('b/1.wav.png'), ...}
    """
    absolute = {file: file.absolute() for file in files}
    stems = [file.stem.casefold() for file in set(absolute.values())]
    common = Path(os.path.commonpath([path.parent for path in absolute.values()]))
    return {
        file: Path(f"{file.stem}{suffix}")
        if stems.count(file.stem.casefold()) == 1
        else path.relative_to(common).with_name(f"{file.name}{suffix}")
        for file, path in absolute.items()
    }


def is_same(one: Path, other: Path) -> bool:
    """Return whether two paths lead to one file or folder."""
    try:
        return one.samefile(other)
    except OSError:
        return False


class Results:
    """Writes the rows of recordings as they come, so that nothing found is lost.

    Args:
        format_: ``table``, or a name of `hear_core.events.formats.FORMATS`.
        output: File to write; standard output if None. The rows go into a file with ``.part`` after
            its name, which is renamed when all are written, and stays after an interruption. A
            format that holds one recording per file takes a folder if there are several
            recordings; without one, each file is written beside its recording.
        files: All recordings.
        clock: Whether rows also have the date and the time of day.

    Raises:
        BadParameter: The format is unknown, or does not fit the output.
    """

    def __init__(
        self, format_: str, output: Path | None, files: Sequence[Path], *, clock: bool = False
    ) -> None:
        known = ["table", *FORMATS]
        if format_ not in known:
            raise typer.BadParameter(unknown("format", format_, known), param_hint="--format")
        if clock and format_ not in CLOCK_FORMATS:
            others = ", ".join(CLOCK_FORMATS)
            msg = f"The format {format_} has no columns for date and time; those of {others} do."
            raise typer.BadParameter(msg, param_hint="--clock")
        self._format = None if format_ == "table" else find_format(format_, clock=clock)
        self._output = output
        self._width = max(map(len, map(str, files)), default=0)
        self._places: dict[Path, Path] = {}
        self._add: Add | None = None
        self._header = True
        if output and not self._format:
            others = ", ".join(FORMATS)
            msg = f"A table is for reading. To write {output}, add --format with one of {others}."
            raise typer.BadParameter(msg, param_hint="--output")
        if not output and self._format and self._format.opened:
            msg = f"The format {format_} cannot be printed: add --output with a file."
            raise typer.BadParameter(msg, param_hint="--format")
        if output and (own := next((file for file in files if is_same(file, output)), None)):
            msg = f"{output} is the recording {own}, and would be replaced: give another file."
            raise typer.BadParameter(msg, param_hint="--output")
        several = len(set(files)) > 1
        if (
            self._format
            and not self._format.names_file
            and (several or (output and output.is_dir()))
        ):
            if output and output.is_file():
                msg = (
                    f"The format {format_} has one file per recording, and there are "
                    f"{len(set(files))}: give a folder to write them to."
                )
                raise typer.BadParameter(msg, param_hint="--output")
            self._places = self._separate(files, self._format.suffix)
            there = [place for place in self._places.values() if not output and place.exists()]
            if there:
                msg = (
                    f"{there[0]} exists beside its recording, and may hold labels of your own: "
                    "give a folder to write to, or remove it."
                )
                raise typer.BadParameter(msg, param_hint="--output")
        elif output and output.is_dir():
            msg = f"{output} is a folder, and a file is needed."
            raise typer.BadParameter(msg, param_hint="--output")

    @property
    def folder(self) -> Path | None:
        """Folder of the outputs, if every recording has an output of its own there."""
        return self._output if self._places else None

    @property
    def separate(self) -> bool:
        """Whether every recording has an output of its own."""
        return bool(self._places)

    def _separate(self, files: Sequence[Path], suffix: str) -> dict[Path, Path]:
        """Return the output of every recording: in the folder of outputs, or beside it."""
        if self._output:
            return {
                file: self._output / name
                for file, name in names_of_recordings(files, suffix).items()
            }
        twins = Counter(file.with_suffix("").absolute() for file in set(files))
        return {
            file: file.with_name(f"{file.stem}{suffix}")
            if twins[file.with_suffix("").absolute()] == 1
            else file.with_name(f"{file.name}{suffix}")
            for file in files
        }

    @contextlib.contextmanager
    def opened(self) -> Iterator[Self]:
        """Open the output before the work, and finish it after."""
        if self._format is None or self._places:
            yield self
        elif self._output is None:
            with event_writer(self._format, sys.stdout) as self._add:
                yield self
        else:
            with _growing(self._output, self._format) as self._add:
                yield self

    def add(self, file: Path, rows: Iterable[EventRow]) -> None:
        """Write what was found in a recording."""
        if self._add:
            self._add(rows)
        elif self._format and self._places:
            with _growing(self._places[file], self._format) as add:
                add(rows)
        else:
            self._print(rows)

    def _print(self, rows: Iterable[EventRow]) -> None:
        if self._header:
            typer.echo(f"{'file':{self._width}}     onset    offset  score  label")
            self._header = False
        for row in rows:
            times = f"{row.onset:9.2f} {row.offset:9.2f}"
            typer.echo(f"{row.file:{self._width}} {times}  {row.score:.3f}  {row.label}")
        sys.stdout.flush()


@contextlib.contextmanager
def _growing(path: Path, event_format: EventFormat) -> Iterator[Add]:
    """Open a file that replaces an older one when it is complete, and stays if it is not."""
    part = path.with_name(f"{path.name}.part")  # not hidden: the user may need what is in it
    with writing(path, part):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Bytes of a name that are not UTF-8 are written as \udcXX, the escape of JSON.
            with event_file(event_format, part, "backslashreplace") as add:
                yield add
        except BaseException:
            if part.exists():
                typer.echo(f"hear: the results so far are in {part}", err=True)
            raise
        part.replace(path)


def resumable(context: typer.Context, results: Results, output: Path | None) -> Resumable | None:
    """Return the place for results of a run that is interrupted, if it writes to files.

    Args:
        context: Context of the command, whose options decide which results can be used again.
        results: Outputs of the command.
        output: File or folder of the outputs.
    """
    if output is None:
        return None
    if results.folder:
        with writing(results.folder):
            results.folder.mkdir(parents=True, exist_ok=True)
    settings = {
        name: _setting(value)
        for name, value in context.params.items()
        if name not in _WITHOUT_EFFECT
    }
    return Resumable(output, {"command": context.command.name, "version": __version__, **settings})


_WITHOUT_EFFECT = ("files", "format_", "output", "plot", "jobs", "device", "clock")


def _setting(value: object) -> object:
    """Return an option as JSON can hold it; of a file, what tells that it was changed."""
    if isinstance(value, Path):
        found = value.stat() if value.exists() else None
        return [str(value.absolute()), found and [found.st_size, found.st_mtime_ns]]
    if isinstance(value, list | tuple):
        return [_setting(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
