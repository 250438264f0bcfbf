"""Reading of events that a command has found: combined files, tables of Raven and of DCASE."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hear_core.errors import ConfigError, FileError
from hear_core.events.columns import (
    event_cells,
    name_columns,
    parse_event,
    parse_number,
    without_repeated_views,
)
from hear_core.events.formats import EventRow
from hear_core.io.files import reading
from hear_core.io.json_files import parse_json
from hear_core.io.tables import read_table


def read_event_rows(path: Path) -> list[EventRow]:
    """Read a file of events that names the recording of each.

    It is CSV, TSV, JSON, JSON Lines or Parquet, as ``hear tag`` and ``hear detect`` write them, a
    selection table of Raven or BirdNET-Analyzer, or a table of a DCASE challenge.

    Args:
        path: File to read; its suffix tells the format.

    Returns:
        The events in the order of the file. Those without a score have 1.

    Raises:
        ConfigError: The file is not such a file, lacks a column, or has a value that is not valid.
        FileError: The file cannot be read.
    """
    if not path.is_file():
        msg = f"{path} does not exist"
        raise FileError(msg)
    suffix = path.suffix.lower()
    rows: Iterable[tuple[int, Mapping[str, Any]]]
    if suffix == ".parquet":
        rows = enumerate(_parquet(path), 1)
    elif suffix == ".json":
        with reading(path):
            found = parse_json(path.read_bytes(), str(path))
        if not isinstance(found, list):
            msg = f"{path} is not a list of events"
            raise ConfigError(msg)
        rows = enumerate(found, 1)
    elif suffix == ".jsonl":
        rows = _json_lines(path)
    else:
        rows = read_table(path)
    unit = "row" if suffix in (".json", ".parquet") else "line"
    numbered = without_repeated_views(rows)
    return [_event(f"{path}, {unit} {number}", row) for number, row in numbered]


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        msg = f"{path} cannot be read as Parquet: {error}"
        raise ConfigError(msg) from error
    return rows


def _json_lines(path: Path) -> list[tuple[int, Any]]:
    rows = []
    with reading(path):
        lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except (ValueError, RecursionError) as error:
                msg = f"{path}, line {number}, is not JSON: {error}"
                raise ConfigError(msg) from error
    return rows


def _event(place: str, row: Any) -> EventRow:
    if not isinstance(row, Mapping):
        msg = f"{place}: {row!r:.80} is not an event"
        raise ConfigError(msg)
    cells = event_cells(row)
    if "file" not in cells:
        msg = f"{place}: the event needs a value for {name_columns('file')}"
        raise ConfigError(msg)
    file, event = str(cells["file"]), parse_event(place, cells)
    if "\0" in file:
        msg = f"{place}: {file!r:.200} is not the name of a recording"
        raise ConfigError(msg)
    score = parse_number(place, cells.get("score", 1.0))
    return EventRow(file, event.onset, event.offset, event.label, score)
