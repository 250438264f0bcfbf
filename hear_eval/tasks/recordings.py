"""Labelled recordings as people have them: a table, or a folder for every class."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from hear_core.audio.files import find_audio_files
from hear_core.errors import ConfigError
from hear_eval.tasks.description import FIXED_SPLITS, TaskError, read_rows
from hear_eval.tasks.folds import assign

# What the columns of a table may be called.
_COLUMNS = {
    "filename": ("filename", "file", "fname", "path"),
    "label": ("category", "label", "labels", "event_label"),
    "split": ("split", "fold"),
    "onset": ("onset",),
    "offset": ("offset",),
}
_REQUIRED = ("filename", "label")


class Event(NamedTuple):
    """Something that is heard for a while: its class, and from when to when, in seconds."""

    label: str
    onset: float
    offset: float


class Recording(NamedTuple):
    """An audio file with what is known of it.

    Args:
        path: Of the file.
        name: Which it is to be known by: a relative path with ``/``.
        labels: Its classes.
        events: What is heard in it and when, for a task of events.
        split: Which it belongs to; empty if that is to be chosen.
        group: Recordings of one group stay in one split; empty is a group of its own.
    """

    path: Path
    name: str
    labels: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    split: str = ""
    group: str = ""


def read_table(
    table: Path, audio: Path | None = None, *, separator: str = "", group: str = ""
) -> list[Recording]:
    """Read recordings from a table: CSV, or separated by tabs if it is called ``.tsv``.

    Its columns are called as in `_COLUMNS`. A recording may have several rows: one for each of its
    classes or events.

    Args:
        table: The file.
        audio: Folder that file names are relative to; None is that of the table.
        separator: What parts several classes in one cell; spaces around them do not count.
        group: A column, or a regular expression: what it finds in the file name, or its first
            group of that, is what the recording belongs to.

    Raises:
        TaskError: The file is no table or not UTF-8, a column or a cell is missing, a time is no
            time, or rows of a recording contradict one another.
        ConfigError: The group is neither.
    """
    rows = read_rows(table, "\t" if table.suffix == ".tsv" else ",")
    there = rows[0][1].keys() if rows else set[str]()
    column = _columns(table, there)
    grouped = _by_column(group) if group in there else by_pattern(group)
    folder, found = audio or table.parent, dict[str, Recording]()
    for number, row in rows:
        name, cell = row[column["filename"]], row[column["label"]]
        parts = cell.split(separator) if separator else [cell]
        labels = tuple(part.strip() for part in parts if part.strip())
        events = _events(table, number, row, column, labels)
        split = split_name(row[column["split"]]) if "split" in column else ""
        made = Recording(folder / name, name, labels, events, split, grouped(name, row))
        known = found.setdefault(name, made)
        if (known.split, known.group) != (made.split, made.group):
            msg = f"{table}, line {number}: {name} was in another split or group before"
            raise TaskError(msg)
        if known is not made:
            found[name] = known._replace(
                labels=tuple(dict.fromkeys(known.labels + labels)), events=known.events + events
            )
    return list(found.values())


def split_name(fold: str) -> str:
    """Return what the split is called that a table calls so: ``fold01``, where it says 1."""
    return f"fold{fold:0>2}" if fold.isdecimal() else fold


def read_folders(source: Path, *, group: str = "") -> list[Recording]:
    """Find recordings in a folder with a folder for every class, or such for every split.

    Args:
        source: It has folders ``train``, ``valid`` and ``test`` with classes, or classes.
        group: As in `read_table`; file names are paths below the folder of a class.

    Raises:
        TaskError: A file is in no folder of a class.
        ConfigError: The group is no regular expression.
    """
    grouped, found = by_pattern(group), []
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


def by_pattern(pattern: str) -> Callable[[str, Mapping[str, str]], str]:
    """Return what finds the group of a recording in its file name; without a pattern, none.

    Raises:
        ConfigError: The pattern is no regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        msg = f"{pattern!r} is neither a column of the table nor a regular expression: {error}"
        raise ConfigError(msg) from error

    def group(name: str, row: Mapping[str, str]) -> str:
        if not pattern:
            return ""
        if (match := compiled.search(name)) is None:
            msg = f"{pattern!r} is not a column of the table, and finds nothing in {name!r}"
            raise ConfigError(msg)
        return match[1] if compiled.groups else match[0]

    return group


def _by_column(column: str) -> Callable[[str, Mapping[str, str]], str]:
    return lambda name, row: row[column]


def with_splits(
    recordings: Sequence[Recording], shares: Mapping[str, float], seed: int = 0
) -> list[Recording]:
    """Return recordings with their splits, which are chosen where none has one.

    Args:
        recordings: All of a task.
        shares: How large each split is to be, relative to the others.
        seed: Another one gives other splits.

    Raises:
        ConfigError: A split would be empty.
        TaskError: Some have a split and some have none.
    """
    missing = [recording.name for recording in recordings if not recording.split]
    if not missing:
        return list(recordings)
    if len(missing) < len(recordings):
        msg = f"{missing[0]} has no split, nor have {len(missing) - 1} others, but the rest has"
        raise TaskError(msg)
    classes = [recording.labels or [e.label for e in recording.events] for recording in recordings]
    groups = [recording.group or (recording.name,) for recording in recordings]
    found = assign(classes, groups, shares, seed)
    return [r._replace(split=split) for r, split in zip(recordings, found, strict=True)]


def _columns(table: Path, there: Set[str]) -> dict[str, str]:
    """Return what the columns are called that are there."""
    found = {
        what: next(name for name in names if name in there)
        for what, names in _COLUMNS.items()
        if not there.isdisjoint(names)
    }
    wanted = [*_REQUIRED, *({"onset", "offset"} if {"onset", "offset"} & found.keys() else ())]
    if missing := [what for what in wanted if what not in found]:
        listed = ", and ".join(" or ".join(_COLUMNS[what]) for what in missing)
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
    """Return the event of a row, if the table is one of events and the row is not of silence."""
    if "onset" not in column or not labels:
        return ()
    try:
        onset, offset = (float(row[column[what]]) for what in ("onset", "offset"))
    except (TypeError, ValueError) as error:
        msg = f"{table}, line {number}: an onset or offset is no number of seconds"
        raise TaskError(msg) from error
    if not 0 <= onset <= offset:
        msg = f"{table}, line {number}: an event cannot last from {onset:g} to {offset:g} s"
        raise TaskError(msg)
    return tuple(Event(label, onset, offset) for label in labels)
