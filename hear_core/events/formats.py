"""File formats of events: JSON, CSV, Parquet, tracks of Audacity, tables of Raven and of DCASE."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from hear_core.audio.recording_time import recorded_at
from hear_core.errors import ConfigError, unknown
from hear_core.events.event import Event
from hear_core.io.files import atomic_write


class EventRow(NamedTuple):
    """One row of a file of events.

    Attributes:
        file: Name of the recording.
        onset: Onset, or start of a window, in seconds.
        offset: Offset, or end of a window, in seconds.
        label: Name of the class.
        score: Score in [0, 1].
    """

    file: str
    onset: float
    offset: float
    label: str
    score: float

    @classmethod
    def from_event(cls, file: str | Path, event: Event) -> EventRow:
        """Return the row of an event; its score is rounded to six digits."""
        return cls(str(file), event.onset, event.offset, event.label, round(event.score, 6))

    def clock(self) -> tuple[str, str]:
        """Return date and time of the onset, if the name of the recording tells when it began.

        >>> EventRow("siteA/20260501_235950.wav", 15.5, 16.0, "Owl", 0.9).clock()
        ('2026-05-02', '00:00:05.500')
        """
        began = recorded_at(self.file)
        if began is None:
            return "", ""
        moment = began + timedelta(milliseconds=round(1000 * self.onset))
        return moment.date().isoformat(), moment.time().isoformat("milliseconds")


Add = Callable[[Iterable[EventRow]], None]
"""A function that adds rows to an output."""


class EventFormat(NamedTuple):
    """A format of rows of events.

    A text file is `begin`, the rows with `between` between them, and `end`, so that rows can be
    written as they come.

    Args:
        suffix: Suffix of the names of such files.
        row: Returns the text of a row, given its number in the file, from 1.
        begin: Text before the first row.
        between: Text between two rows.
        end: Text after the last row.
        names_file: Whether a row names its recording. If not, each recording needs a file of its
            own.
        opened: Opens a file that is not text, and provides a function that adds rows; None for
            text.
    """

    suffix: str
    row: Callable[[EventRow, int], str] = lambda row, number: ""
    begin: str = ""
    between: str = ""
    end: str = ""
    names_file: bool = True
    opened: Callable[[Path], AbstractContextManager[Add]] | None = None


_CLOCK = ("date", "time")


def _entries(row: EventRow, *, clock: bool) -> dict[str, Any]:
    return row._asdict() | (dict(zip(_CLOCK, row.clock(), strict=True)) if clock else {})


def _csv(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _audacity(row: EventRow, number: int) -> str:
    return f"{row.onset:.6f}\t{row.offset:.6f}\t{_one_line(row.label)}\n"


def _dcase(row: EventRow, number: int) -> str:
    return f"{_one_line(row.file)}\t{row.onset:.3f}\t{row.offset:.3f}\t{_one_line(row.label)}\n"


_RAVEN = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)", "Begin Path", "Annotation", "Score"),
)
_RAVEN_TOP = 15_000  # Hz; an event has no band, and Raven needs one


def _raven(row: EventRow, number: int) -> str:
    place = f"{row.onset:.6f}", f"{row.offset:.6f}", "0", str(_RAVEN_TOP)
    texts = _one_line(row.file), _one_line(row.label)
    return "\t".join([str(number), "Spectrogram 1", "1", *place, *texts, f"{row.score:g}"]) + "\n"


def _one_line(text: str) -> str:
    """Return text without the characters that separate cells and rows."""
    return " ".join(text.split())


def _combined(*, clock: bool) -> dict[str, EventFormat]:
    """Return the formats that hold all recordings and every value.

    Args:
        clock: Whether rows have the date and the time of day of their onset.
    """

    def text_of(row: EventRow, number: int) -> str:
        return json.dumps(_entries(row, clock=clock), ensure_ascii=False)

    columns = (*EventRow._fields, *(_CLOCK if clock else ()))
    return {
        "json": EventFormat(".json", text_of, "[\n ", ",\n ", "\n]\n"),
        "jsonl": EventFormat(".jsonl", lambda row, number: text_of(row, number) + "\n"),
        "csv": EventFormat(
            ".csv", lambda row, _: _csv(_entries(row, clock=clock).values()), _csv(columns)
        ),
        "parquet": EventFormat(".parquet", opened=partial(_parquet, clock=clock)),
    }


@contextmanager
def _parquet(path: Path, *, clock: bool) -> Iterator[Add]:
    """Open a Parquet file, and provide a function that adds rows, each call a row group."""
    import pyarrow as pa
    from pyarrow import parquet

    numbers = ("onset", "offset", "score")
    names = (*EventRow._fields, *(_CLOCK if clock else ()))
    schema = pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in names])
    waiting: list[dict[str, Any]] = []
    with parquet.ParquetWriter(path, schema) as writer:

        def flush() -> None:
            if waiting:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting.clear()

        def add(rows: Iterable[EventRow]) -> None:
            for row in rows:
                entries = _entries(row, clock=clock)
                # A name that is not UTF-8 has no other form there.
                entries["file"] = os.fsencode(row.file).decode("utf-8", "backslashreplace")
                waiting.append(
                    {name: value if value != "" else None for name, value in entries.items()}
                )
            if len(waiting) >= _ROW_GROUP:
                flush()

        yield add
        flush()


_ROW_GROUP = 65_536  # rows

FORMATS = {
    **_combined(clock=False),
    # https://manual.audacityteam.org/man/importing_and_exporting_labels.html
    "audacity": EventFormat(".txt", _audacity, names_file=False),
    # https://www.ravensoundsoftware.com/knowledge-base/selection-tables/
    "raven": EventFormat(
        ".Table.1.selections.txt", _raven, "\t".join(_RAVEN) + "\n", names_file=False
    ),
    "dcase": EventFormat(".tsv", _dcase, "filename\tonset\toffset\tevent_label\n"),
}
"""Formats by name."""
CLOCK_FORMATS = _combined(clock=True)
"""Formats by name whose rows also have the date and the time of day."""


def find_format(name: str, *, clock: bool = False) -> EventFormat:
    """Return a format by name.

    Args:
        name: A key of `FORMATS`.
        clock: Whether rows also have the date and the time of day.

    Raises:
        ConfigError: There is no such format, or it has no place for the time of day.
    """
    if name not in FORMATS:
        raise ConfigError(unknown("format", name, FORMATS))
    if clock and name not in CLOCK_FORMATS:
        msg = (
            f"the format {name} has no columns for date and time; those of "
            f"{', '.join(CLOCK_FORMATS)} do"
        )
        raise ConfigError(msg)
    return CLOCK_FORMATS[name] if clock else FORMATS[name]


def format_events(rows: Iterable[EventRow], format_: str) -> str:
    """Return rows as the text of a file.

    Raises:
        ConfigError: There is no such format, or it is not text.
    """
    found = find_format(format_)
    if found.opened:
        msg = f"the format {format_} is not text; write it to a file"
        raise ConfigError(msg)
    text = io.StringIO()
    with event_writer(found, text) as add:
        add(rows)
    return text.getvalue()


@contextmanager
def writing_events(path: Path, format_: str, *, clock: bool = False) -> Iterator[Add]:
    """Open a file of events that appears whole when the block ends, or not at all.

    Args:
        path: File to write.
        format_: Name of the format.
        clock: Whether rows also have the date and the time of day.

    Yields:
        A function that adds rows.

    Raises:
        ConfigError: There is no such format, or it has no place for the time of day.
        FileError: The file cannot be written.
    """
    found = find_format(format_, clock=clock)
    with atomic_write(path) as part, event_file(found, part, "surrogateescape") as add:
        yield add


@contextmanager
def event_file(format_: EventFormat, path: Path, errors: str) -> Iterator[Add]:
    """Open a file of events, and provide a function that adds rows.

    Args:
        format_: Format of the rows.
        path: File to write.
        errors: Treatment of a character that is not UTF-8, as of `open`.
    """
    if format_.opened:
        with format_.opened(path) as add:
            yield add
        return
    with (
        path.open("w", encoding="utf-8", errors=errors, newline="") as file,
        event_writer(format_, file) as add,
    ):
        yield add


def write_events(
    rows: Iterable[EventRow], path: Path, format_: str, *, clock: bool = False
) -> None:
    """Write rows to a file; see `writing_events`."""
    with writing_events(path, format_, clock=clock) as add:
        add(rows)


@contextmanager
def event_writer(format_: EventFormat, stream: TextIO) -> Iterator[Add]:
    """Write events to a stream as they come.

    Args:
        format_: Format of the rows, which is text.
        stream: Text stream to write to.

    Yields:
        A function that adds rows; they have left Python's buffer when it returns.
    """
    between, number = "", 0

    def add(rows: Iterable[EventRow]) -> None:
        nonlocal between, number
        for row in rows:
            number += 1
            stream.write(between + format_.row(row, number))
            between = format_.between
        stream.flush()

    stream.write(format_.begin)
    yield add
    stream.write(format_.end)
    stream.flush()
