"""Columns of tables of events, under the names that programs and data sets give them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hear_core.errors import ConfigError
from hear_core.events.event import Event

# Names of columns in lower case; of those that a row has a value for, the first is taken.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "file": (
        *("file", "filename", "fname", "begin path", "begin file"),
        *("filepath", "path", "segment_id"),
    ),
    "onset": ("onset", "start_time_seconds", "start", "begin time (s)", "start (s)"),
    "offset": ("offset", "end_time_seconds", "end", "end time (s)", "end (s)"),
    "label": (
        *("label", "event_label", "labels", "category", "class", "annotation"),
        *("common name", "species", "tags", "sound type", "call type"),
    ),
    "score": ("score", "confidence"),
    "file offset": ("file offset (s)",),
    "selection": ("selection",),
    "view": ("view",),
}
_NOTHING = frozenset({"", "nan", "none"})
_LONGEST = 366 * 86400  # seconds; later times are mistakes


def event_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row of a table says about an event, by field, without what it leaves empty.

    Args:
        row: Cells by column, whose names may be in upper or lower case.
    """
    given = {
        str(column).strip().lower(): cell.strip() if isinstance(cell, str) else cell
        for column, cell in row.items()
        if str("" if cell is None else cell).strip().lower() not in _NOTHING
    }
    chosen = {
        field: next((name for name in names if name in given), None)
        for field, names in _NAMES.items()
    }
    return {field: given[name] for field, name in chosen.items() if name is not None}


def check_columns(path: Path, columns: Iterable[str], wanted: Iterable[str]) -> None:
    """Check that a table has a column for each of some fields.

    Raises:
        ConfigError: A column is missing.
    """
    there = [column.strip().lower() for column in columns]
    for field in wanted:
        if not set(_NAMES[field]) & set(there):
            msg = (
                f"{path} needs a column for the {field} of every event, such as "
                f"{name_columns(field)}; it has {', '.join(there) or 'no rows'}"
            )
            raise ConfigError(msg)


def name_columns(field: str) -> str:
    """Return the usual names of the column of a field, as part of a message."""
    return " or ".join(_NAMES[field][:3])


def without_repeated_views(
    rows: Iterable[tuple[int, Mapping[str, Any]]],
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield numbered rows, but each selection of Raven only once.

    Raven writes a row for every view of a selection, such as waveform and spectrogram.
    """
    seen = set()
    for number, row in rows:
        cells = event_cells(row) if isinstance(row, Mapping) else {}
        if {"view", "selection"} <= cells.keys():
            selection = tuple((field, str(cells[field])) for field in cells if field != "view")
            if selection in seen:
                continue
            seen.add(selection)
        yield number, row


def parse_event(place: str, cells: Mapping[str, Any]) -> Event:
    """Return the event of the cells of a row.

    Args:
        place: Path and line of the row, for messages.
        cells: Cells that `event_cells` returned.

    Raises:
        ConfigError: The onset, the offset or the label is missing or is not valid.
    """
    for field in ("onset", "offset", "label"):
        if field not in cells:
            msg = f"{place}: the event needs a value for {name_columns(field)}"
            raise ConfigError(msg)
    onset, offset = (parse_number(place, cells[field]) for field in ("onset", "offset"))
    if "file offset" in cells:
        # The times of several recordings that Raven opens at once run on from one to the next.
        start = parse_number(place, cells["file offset"])
        onset, offset = start, start + offset - onset
    if not 0 <= onset <= offset <= _LONGEST:
        msg = f"{place}: an event cannot last from {onset:g} to {offset:g} s"
        raise ConfigError(msg)
    return Event(str(cells["label"]), onset, offset)


def parse_number(place: str, cell: Any) -> float:
    """Return a cell as a finite number; a comma may separate its decimals.

    Raises:
        ConfigError: The cell is not a finite number.
    """
    try:
        found = float(cell.replace(",", ".") if isinstance(cell, str) else cell)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        msg = f"{place}: {cell!r:.80} is not a number"
        raise ConfigError(msg)
    return found
