"""Reading of events that a command has found: combined files, tables of Raven and of DCASE."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hear_core.errors import ConfigError, FileError
from hear_core.events.formats import EventRow
from hear_core.io.files import reading
from hear_core.io.json_files import parse_json
from hear_core.io.tables import read_table

# Names that programs give to the columns of an event; the first that a table has is taken.
_COLUMNS = {
    "file": ("file", "filename", "Begin Path", "Begin File", "filepath", "path"),
    "onset": ("onset", "start", "Begin Time (s)", "Start (s)"),
    "offset": ("offset", "end", "End Time (s)", "End (s)"),
    "label": ("label", "event_label", "Annotation", "Common Name", "Species", "class"),
    "score": ("score", "Score", "Confidence", "confidence"),
}
_FILE_OFFSET = "File Offset (s)"


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
        msg = f"there is no file {path}"
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
    events, seen = list[EventRow](), set[tuple[str, EventRow]]()
    for number, row in rows:
        event = _event(path, number, row)
        # A table of Raven has a row for every view of a selection.
        selection = (
            (str(row["Selection"]), event) if row.get("View") and "Selection" in row else None
        )
        if selection is None or selection not in seen:
            events.append(event)
        if selection is not None:
            seen.add(selection)
    return events


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


def _event(path: Path, number: int, row: Any) -> EventRow:
    if not isinstance(row, Mapping):
        msg = f"{path}, row {number}: {row!r:.80} is not an event"
        raise ConfigError(msg)
    values: dict[str, Any] = {"score": 1.0}
    for field, names in _COLUMNS.items():
        name = next((name for name in names if row.get(name) not in (None, "")), None)
        if name is not None:
            values[field] = row[name]
        elif field != "score":
            msg = f"{path}, row {number}, has no {field}: it needs a column {' or '.join(names)}"
            raise ConfigError(msg)
    onset, offset, score = (
        _number(path, number, values[field]) for field in ("onset", "offset", "score")
    )
    if offset < onset:
        msg = f"{path}, row {number}: an event ends at {offset} s, before it begins"
        raise ConfigError(msg)
    file = str(values["file"])
    if "\0" in file:
        msg = f"{path}, row {number}: {file!r:.200} is not the name of a recording"
        raise ConfigError(msg)
    if row.get(_FILE_OFFSET) not in (None, ""):
        # The times of several recordings that Raven opens at once run on from one to the next.
        start = _number(path, number, row[_FILE_OFFSET])
        onset, offset = start, start + offset - onset
    return EventRow(file, onset, offset, str(values["label"]), score)


def _number(path: Path, row: int, value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        msg = f"{path}, row {row}: {value!r} is not a number"
        raise ConfigError(msg)
    return found
