"""``hear summary``: numbers of events by class, recording and hour of the day."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hear_cli.outputs import check_output_file
from hear_cli.tables import print_table
from hear_core.audio.recording_time import recorded_at
from hear_core.events.formats import EventRow
from hear_core.events.found_events import read_event_rows
from hear_core.io.files import atomic_write

_COLUMNS = ("events", "seconds", "highest score", "recordings")


class CountedBy(StrEnum):
    """Properties of events that they are counted by."""

    label = "label"
    file = "file"
    hour = "hour"
    date = "date"


def _clock(row: EventRow, part: slice) -> str:
    return " ".join(row.clock())[part] if recorded_at(row.file) else "unknown"


_KEYS: dict[CountedBy, Callable[[EventRow], str]] = {
    CountedBy.label: lambda row: row.label,
    CountedBy.file: lambda row: row.file,
    CountedBy.hour: lambda row: _clock(row, slice(11, 13)),
    CountedBy.date: lambda row: _clock(row, slice(10)),
}


def summary(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS",
            help="Files of events that hear tag or hear detect wrote, or tables of Raven or DCASE.",
        ),
    ],
    by: Annotated[
        list[CountedBy],
        typer.Option(
            help="Property to count by; repeat it for combinations. The hour and the date are "
            "those of the recorder, from file names such as 20260501_050000."
        ),
    ] = [CountedBy.label],  # noqa: B006  # Typer does not change it
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="CSV file to write.",
            show_default="a table on standard output",
            callback=check_output_file,
        ),
    ] = None,
) -> None:
    """Count events by class, recording, date and hour of the day."""
    rows = summarised([row for path in results for row in read_event_rows(path)], by)
    columns = [*by, *_COLUMNS]
    if output is None:
        print_table(columns, rows)
        sys.stdout.flush()
        return
    with (
        atomic_write(output) as part,
        part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.replace(" ", "_") for column in columns])
        writer.writerows(rows)


def summarised(rows: Iterable[EventRow], by: Iterable[CountedBy]) -> list[list[str]]:
    """Return the rows of a summary, sorted by what is counted by.

    Args:
        rows: Events of any recordings.
        by: Properties to count by.

    Returns:
        The values of `by`, number of events, their seconds, the highest score, and the number of
        recordings with such events.
    """
    groups: dict[tuple[str, ...], list[EventRow]] = {}
    keys = [_KEYS[part] for part in by]
    for row in rows:
        groups.setdefault(tuple(key(row) for key in keys), []).append(row)
    return [
        [
            *group,
            str(len(events)),
            f"{sum(event.offset - event.onset for event in events):.1f}",
            f"{max(event.score for event in events):.3f}",
            str(len({event.file for event in events})),
        ]
        for group, events in sorted(groups.items())
    ]
