"""Labelled recordings to make tasks from: a table of files, or a folder per class."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from hear_core.audio.files import find_audio_files
from hear_core.errors import ConfigError
from hear_core.events.event import Event
from hear_core.io.tables import read_table
from hear_eval.tasks.description import FIXED_SPLITS, TaskError
from hear_eval.tasks.split_assignment import assign_splits

# Names that the columns of a table may have.
_COLUMNS = {
    "filename": ("filename", "file", "fname", "path"),
    "label": ("category", "label", "labels", "event_label"),
    "split": ("split", "fold"),
    "onset": ("onset",),
    "offset": ("offset",),
}
_REQUIRED = ("filename", "label")


class Recording(NamedTuple):
    """An audio file and its labels.

    Args:
        path: Path of the file.
        name: Name of the recording, a relative path with ``/``.
        labels: Classes of the recording.
        events: Events in the recording, for an event task.
        split: Split of the recording; empty if it is still to be assigned.
        group: Recordings of one group stay in one split; empty for a group of its own.
    """

    path: Path
    name: str
    labels: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    split: str = ""
    group: str = ""


def read_recording_table(
    table: Path, audio: Path | None = None, *, separator: str = "", group: str = ""
) -> list[Recording]:
    """Read recordings from a table, see `hear_core.io.tables.read_table`.

    The columns have the names in `_COLUMNS`. A recording may have several rows: one for each of its
    classes or events.

    Args:
        table: Path of the table.
        audio: Folder that file names are relative to; None is the folder of the table.
        separator: Separator of several classes in one cell; spaces around it are ignored.
        group: Name of a column, or a regular expression that is searched in the file name. The
            group of a recording is the cell, the first group of the match, or else the match.

    Raises:
        TaskError: The file is not a table, a column or a cell is missing, a time is not valid, or
            the rows of a recording contradict each other.
        ConfigError: `group` is neither a column nor a regular expression.
    """
    rows = read_table(table, error=TaskError)
    there = rows[0][1].keys() if rows else set[str]()
    column = _columns(table, there)
    grouped = _by_column(group) if group in there else _by_pattern(group)
    folder, found = audio or table.parent, dict[str, Recording]()
    for number, row in rows:
        name, cell = row[column["filename"]], row[column["label"]]
        if not name.strip() or "\0" in name:
            msg = f"{table}, line {number}: {name!r} is not the name of a file"
            raise TaskError(msg)
        parts = cell.split(separator) if separator else [cell]
        labels = tuple(part.strip() for part in parts if part.strip())
        events = _events(table, number, row, column, labels)
        split = split_name(row[column["split"]]) if "split" in column else ""
        made = Recording(folder / name, name, labels, events, split, grouped(name, row))
        known = found.setdefault(name, made)
        if (known.split, known.group) != (made.split, made.group):
            msg = f"{table}, line {number}: {name} has another split or group in an earlier line"
            raise TaskError(msg)
        if known is not made:
            found[name] = known._replace(
                labels=tuple(dict.fromkeys(known.labels + labels)), events=known.events + events
            )
    return list(found.values())


def split_name(fold: str) -> str:
    """Return the name of the split for a cell of a table: ``fold01`` for 1, else the cell."""
    return f"fold{fold:0>2}" if fold.isdecimal() else fold


def read_recording_folders(source: Path, *, group: str = "") -> list[Recording]:
    """Find recordings in a folder that has one folder per class, or one per split with those in it.

    Args:
        source: Folder with the folders ``train``, ``valid`` and ``test`` of class folders, or with
            class folders.
        group: Regular expression, as in `read_recording_table`, that is searched in the path below
            the class folder.

    Raises:
        TaskError: A file is not in a class folder, or there is no audio.
        ConfigError: `group` is not a regular expression.
    """
    grouped, found = _by_pattern(group), []
    fixed = {path.name for path in source.iterdir() if path.is_dir()} == set(FIXED_SPLITS)
    for path, name in find_audio_files([source]).sources:
        split, rest = name.split("/", 1) if fixed and "/" in name else ("", name)
        label, slash, file = rest.partition("/")
        if not slash:
            msg = f"{path} is not in a folder of a class"
            raise TaskError(msg)
        found.append(Recording(path, name, (label,), (), split, grouped(file, {})))
    if not found:
        msg = f"there is no audio in {source}"
        raise TaskError(msg)
    return found


def with_splits(
    recordings: Sequence[Recording], shares: Mapping[str, float], seed: int = 0
) -> list[Recording]:
    """Return recordings with a split each; splits are assigned if no recording has one.

    Args:
        recordings: All recordings of a task.
        shares: Relative size of each split to assign.
        seed: Seed of the assignment.

    Raises:
        ConfigError: A split would be empty, a share is not positive, or the seed is negative.
        TaskError: Some recordings have a split and some do not.
    """
    missing = [recording.name for recording in recordings if not recording.split]
    if not missing:
        return list(recordings)
    if len(missing) < len(recordings):
        msg = (
            f"{len(missing)} of {len(recordings)} recordings have no split, such as {missing[0]}; "
            "all of them must have one, or none"
        )
        raise TaskError(msg)
    classes = [recording.labels or [e.label for e in recording.events] for recording in recordings]
    groups = [recording.group or (recording.name,) for recording in recordings]
    found = assign_splits(classes, groups, shares, seed)
    return [r._replace(split=split) for r, split in zip(recordings, found, strict=True)]


def _by_pattern(pattern: str) -> Callable[[str, Mapping[str, str]], str]:
    """Return a function that finds the group of a recording in its file name, "" by no pattern."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        msg = f"{pattern!r} is neither a column of the table nor a regular expression: {error}"
        raise ConfigError(msg) from error

    def group(name: str, row: Mapping[str, str]) -> str:
        if not pattern:
            return ""
        if (match := compiled.search(name)) is None:
            msg = f"{pattern!r} is not a column of the table, and does not match {name!r}"
            raise ConfigError(msg)
        return (match[1] or "") if compiled.groups else match[0]

    return group


def _by_column(column: str) -> Callable[[str, Mapping[str, str]], str]:
    return lambda name, row: row[column]


def _columns(table: Path, there: Set[str]) -> dict[str, str]:
    """Return the names of the columns of a table, by the keys of `_COLUMNS`."""
    found = {
        key: next(name for name in names if name in there)
        for key, names in _COLUMNS.items()
        if not there.isdisjoint(names)
    }
    wanted = [*_REQUIRED, *({"onset", "offset"} if {"onset", "offset"} & found.keys() else ())]
    if missing := [key for key in wanted if key not in found]:
        listed = ", and ".join(" or ".join(_COLUMNS[key]) for key in missing)
        msg = f"{table} must have rows, and a column {listed}"
        raise TaskError(msg)
    return found


def _events(
    table: Path,
    number: int,
    row: Mapping[str, str],
    column: Mapping[str, str],
    labels: Iterable[str],
) -> tuple[Event, ...]:
    """Return the events of a row; a row without a label is a recording without events."""
    if "onset" not in column or not labels:
        return ()
    try:
        onset, offset = (float(row[column[key]]) for key in ("onset", "offset"))
    except (TypeError, ValueError) as error:
        msg = f"{table}, line {number}: the onset or the offset is not a number of seconds"
        raise TaskError(msg) from error
    if not 0 <= onset <= offset < math.inf:
        msg = f"{table}, line {number}: an event cannot last from {onset:g} to {offset:g} s"
        raise TaskError(msg)
    return tuple(Event(label, onset, offset) for label in labels)
