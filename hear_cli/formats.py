"""What is heard in files, as lines in the formats that people use."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hear_cli.tables import print_table
from hear_core.errors import ConfigError, unknown
from hear_core.events.event import Event


class Tag(NamedTuple):
    """A line of the output; times in seconds."""

    file: str
    start: float
    end: float
    label: str
    score: float

    @classmethod
    def of(cls, file: Path, event: Event) -> Tag:
        """Make a line of an event."""
        return cls(str(file), event.onset, event.offset, event.label, round(event.score, 6))


def _table(tags: Sequence[Tag]) -> None:
    rows = [[t.file, f"{t.start:.2f}", f"{t.end:.2f}", t.label, f"{t.score:.3f}"] for t in tags]
    print_table(Tag._fields, rows)


def _json(tags: Sequence[Tag]) -> str:
    return json.dumps([tag._asdict() for tag in tags], indent=1, ensure_ascii=False) + "\n"


def _csv(tags: Sequence[Tag]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([Tag._fields, *tags])
    return text.getvalue()


def _audacity(tags: Sequence[Tag]) -> str:
    """Return a label track: https://manual.audacityteam.org/man/importing_and_exporting_labels.html."""
    return "".join(f"{t.start:.6f}\t{t.end:.6f}\t{t.label}\n" for t in tags)


def _dcase(tags: Sequence[Tag]) -> str:
    """Return a table as DCASE challenges exchange it."""
    lines = [f"{t.file}\t{t.start:.3f}\t{t.end:.3f}\t{t.label}" for t in tags]
    return "\n".join(["filename\tonset\toffset\tevent_label", *lines]) + "\n"


FORMATS: Mapping[str, Callable[[Sequence[Tag]], str]] = {
    "json": _json,
    "csv": _csv,
    "audacity": _audacity,
    "dcase": _dcase,
}


def check_format(format_: str, output: Path | None) -> None:
    """Make sure that a format is known, and can be written where it is wanted.

    Raises:
        ConfigError: It is not, or cannot.
    """
    if format_ not in ("table", *FORMATS):
        raise ConfigError(unknown("format", format_, ["table", *FORMATS]))
    if output and format_ == "table":
        msg = f"a table is for reading; write {output} with --format {', '.join(FORMATS)}"
        raise ConfigError(msg)


def write(tags: Sequence[Tag], format_: str, output: Path | None) -> None:
    """Write lines to a file, or print them."""
    if format_ == "table":
        _table(tags)
    elif output:
        output.write_text(FORMATS[format_](tags), encoding="utf-8")
    else:
        sys.stdout.write(FORMATS[format_](tags))
