"""File formats of events: JSON, CSV, Audacity label tracks, DCASE tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from hear_core.errors import ConfigError, unknown
from hear_core.events.event import Event
from hear_core.io.files import atomic_write


class EventRow(NamedTuple):
    """One row of a file of events.

    Attributes:
        file: Name of the recording.
        start: Onset, or start of a window, in seconds.
        end: Offset, or end of a window, in seconds.
        label: Name of the class.
        score: Score in [0, 1].
    """

    file: str
    start: float
    end: float
    label: str
    score: float

    @classmethod
    def from_event(cls, file: str | Path, event: Event) -> EventRow:
        """Return the row of an event; its score is rounded to six digits."""
        return cls(str(file), event.onset, event.offset, event.label, round(event.score, 6))


class EventFormat(NamedTuple):
    """A text format of rows of events.

    A file is `begin`, the rows with `between` between them, and `end`, so that rows can be written
    as they come.

    Args:
        suffix: Suffix of the names of such files.
        row: Returns the text of a row.
        begin: Text before the first row.
        between: Text between two rows.
        end: Text after the last row.
        names_file: Whether a row names its recording. If not, each recording needs a file of its
            own.
    """

    suffix: str
    row: Callable[[EventRow], str]
    begin: str = ""
    between: str = ""
    end: str = ""
    names_file: bool = True


def _json(row: EventRow) -> str:
    return json.dumps(row._asdict(), ensure_ascii=False)


def _csv(row: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def _audacity(row: EventRow) -> str:
    return f"{row.start:.6f}\t{row.end:.6f}\t{_one_line(row.label)}\n"


def _dcase(row: EventRow) -> str:
    return f"{_one_line(row.file)}\t{row.start:.3f}\t{row.end:.3f}\t{_one_line(row.label)}\n"


def _one_line(text: str) -> str:
    """Return text without the characters that separate cells and rows."""
    return " ".join(text.split())


FORMATS = {
    "json": EventFormat(".json", _json, "[\n ", ",\n ", "\n]\n"),
    "csv": EventFormat(".csv", _csv, _csv(EventRow._fields)),
    # https://manual.audacityteam.org/man/importing_and_exporting_labels.html
    "audacity": EventFormat(".txt", _audacity, names_file=False),
    "dcase": EventFormat(".tsv", _dcase, "filename\tonset\toffset\tevent_label\n"),
}
"""Formats by name."""


def find_format(name: str) -> EventFormat:
    """Return a format by name.

    Raises:
        ConfigError: There is no such format.
    """
    if name not in FORMATS:
        raise ConfigError(unknown("format", name, FORMATS))
    return FORMATS[name]


def format_events(rows: Iterable[EventRow], format_: str) -> str:
    """Return rows as the text of a file.

    Raises:
        ConfigError: There is no such format.
    """
    text = io.StringIO()
    with event_writer(find_format(format_), text) as add:
        add(rows)
    return text.getvalue()


@contextmanager
def writing_events(path: Path, format_: str) -> Iterator[Callable[[Iterable[EventRow]], None]]:
    """Open a file of events that appears whole when the block ends, or not at all.

    Args:
        path: File to write.
        format_: Name of the format.

    Yields:
        A function that adds rows.

    Raises:
        ConfigError: There is no such format.
        FileError: The file cannot be written.
    """
    found = find_format(format_)
    with (
        atomic_write(path) as part,
        part.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
        event_writer(found, file) as add,
    ):
        yield add


def write_events(rows: Iterable[EventRow], path: Path, format_: str) -> None:
    """Write rows to a file; see `writing_events`."""
    with writing_events(path, format_) as add:
        add(rows)


@contextmanager
def event_writer(
    format_: EventFormat, stream: TextIO
) -> Iterator[Callable[[Iterable[EventRow]], None]]:
    """Write events to a stream as they come.

    Args:
        format_: Format of the rows.
        stream: Text stream to write to.

    Yields:
        A function that adds rows; they have left Python's buffer when it returns.
    """
    between = ""

    def add(rows: Iterable[EventRow]) -> None:
        nonlocal between
        for row in rows:
            stream.write(between + format_.row(row))
            between = format_.between
        stream.flush()

    stream.write(format_.begin)
    yield add
    stream.write(format_.end)
    stream.flush()
