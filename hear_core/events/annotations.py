"""Reading of annotated events: tables, Audacity label tracks and Raven selection tables.

Tables are those of DESED and DCASE (``filename``, ``onset``, ``offset``, ``event_label``), of
AudioSet Strong (``segment_id``, ``start_time_seconds``, ``end_time_seconds``, ``label``), and the
CSV files of ``hear detect``. Label tracks are described at
https://manual.audacityteam.org/man/importing_and_exporting_labels.html, selection tables at
https://ravensoundsoftware.com.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hear_core.errors import ConfigError
from hear_core.events.columns import (
    check_columns,
    event_cells,
    parse_event,
    without_repeated_views,
)
from hear_core.events.event import Event
from hear_core.io.tables import read_table


def read_event_table(path: Path) -> dict[str, list[Event]]:
    """Read the events of recordings from a table, see `hear_core.io.tables.read_table`.

    Columns are found by name, in upper or lower case. A row without onset, offset and label is a
    recording without events; several such rows, or events besides, make no difference.

    Args:
        path: Table with one row for each event.

    Returns:
        Events by the name of the recording, in the order of the table.

    Raises:
        ConfigError: The file is not a table, a column is missing, or a row is not an event.
    """
    found: dict[str, list[Event]] = {}
    for line, cells in _rows(path, "file", "onset", "offset", "label"):
        if "file" not in cells:
            msg = f"{path}, line {line}, does not name a recording"
            raise ConfigError(msg)
        events = found.setdefault(str(cells["file"]), [])
        if cells.keys() & {"onset", "offset", "label"}:
            events.append(parse_event(f"{path}, line {line}", cells))
    return found


def read_audacity_labels(path: Path) -> list[Event]:
    """Read a label track of Audacity: start, end and label, separated by tabs.

    Lines with frequencies, which begin with a backslash, are ignored.

    Raises:
        ConfigError: The file cannot be read, or a line is not a label.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as a label track of Audacity: {error}"
        raise ConfigError(msg) from error
    events = []
    for line, row in enumerate(text.splitlines(), 1):
        if not row.strip() or row.startswith("\\"):
            continue
        cells = row.split("\t")
        if len(cells) != 3:
            msg = (
                f"{path}, line {line}, must have a start, an end and a label, separated by tabs, "
                f"but is {row[:60]!r}"
            )
            raise ConfigError(msg)
        named = dict(zip(("onset", "offset", "label"), cells, strict=True))
        events.append(parse_event(f"{path}, line {line}", event_cells(named)))
    return events


def read_raven_selections(path: Path) -> list[Event]:
    """Read a selection table of Raven.

    A selection is in the table once for every view, such as waveform and spectrogram; it is one
    event. The class is the first column of `Annotation`, `Species`, `Label` or similar names.

    Raises:
        ConfigError: The file is not such a table, or a row is not an event.
    """
    rows = _rows(path, "onset", "offset", "label")
    return [parse_event(f"{path}, line {line}", cells) for line, cells in rows]


def read_events_beside(audio: Path) -> list[Event] | None:
    """Read the annotations next to a recording, or return None if there are none.

    For ``bird.wav`` these are ``bird.txt`` (Audacity, or Raven if its first line says so),
    ``bird.Table.1.selections.txt`` (Raven), or ``bird.tsv`` and ``bird.csv`` with the columns
    ``onset``, ``offset`` and ``event_label``.

    Raises:
        ConfigError: A file of annotations cannot be read.
    """
    selections = sorted(audio.parent.glob(f"{_escaped(audio.stem)}.Table.*.selections.txt"))
    if selections:
        return [event for path in selections for event in read_raven_selections(path)]
    for path in (audio.with_suffix(".txt"), audio.with_suffix(f"{audio.suffix}.txt")):
        if path.is_file():
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                raven = "begin time (s)" in file.readline().lower()
            return read_raven_selections(path) if raven else read_audacity_labels(path)
    for path in (audio.with_suffix(".tsv"), audio.with_suffix(".csv")):
        if path.is_file():
            return read_raven_selections(path)
    return None


def _escaped(stem: str) -> str:
    """Return a file name for `Path.glob` that matches itself only."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in stem)


def _rows(path: Path, *wanted: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines of a table and their cells by field; `wanted` fields must have columns."""
    rows = read_table(path)
    if rows or "file" in wanted:
        check_columns(path, rows[0][1] if rows else (), wanted)
    for line, row in without_repeated_views(rows):
        yield line, event_cells(row)
