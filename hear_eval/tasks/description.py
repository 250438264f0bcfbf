"""Descriptions of HEAR tasks: their type, classes, splits, folds, and the labels of their files.

A folder of embeddings has the same files as the task that was embedded, so both are read here
(https://hearbenchmark.com/hear-tasks.html).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hear_core.errors import ConfigError, HearError, unknown
from hear_core.io.json_files import read_json
from hear_core.io.names import check_name
from hear_core.io.tables import read_table

METADATA, VOCABULARY = "task_metadata.json", "labelvocabulary.csv"
# The event post-processing that HEAR searches for DCASE 2016 task 2; the default of every task.
EVENT_POSTPROCESSING = {"median_filter_ms": (250,), "min_duration": (125, 250)}
FIXED_SPLITS = ("train", "valid", "test")  # of a task without cross-validation

# Allowed values by field. All event tasks of HEAR are multi-label.
_VALUES = {
    "embedding_type": ("scene", "event"),
    "prediction_type": ("multiclass", "multilabel"),
    "split_mode": ("trainvaltest", "new_split_kfold", "presplit_kfold"),
}
_REQUIRED = ("task_name", *_VALUES, "splits", "evaluation")
_LONGEST = 1e9  # seconds
_TOLERANCE = 0.1  # seconds that an event may end after its clip: label files round
_SUFFIXES = 32  # bytes that the names of files of embeddings append to the name of a split


class TaskError(HearError, ValueError):
    """A task is incomplete, damaged or contradicts itself."""


class Fold(NamedTuple):
    """The splits that one predictor is trained, validated and tested on."""

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class TaskDescription:
    """Description of a task.

    Args:
        name: Name of the task.
        embedding_type: ``scene`` if clips are labelled, ``event`` if points in time are.
        prediction_type: ``multiclass`` if every clip has exactly one label, else ``multilabel``.
        splits: Names of the splits, in the order of the task.
        vocabulary: Class names, by class index.
        evaluation: Names of the metrics; the first one selects the predictor.
        seconds: Length of every clip in seconds; None if lengths differ.
        folds: The folds to train and test on: one if the task has the splits ``train``, ``valid``
            and ``test``, else one per split, which is tested on while the next split validates.
        metadata: The content of ``task_metadata.json``.
    """

    name: str
    embedding_type: str
    prediction_type: str
    splits: tuple[str, ...]
    vocabulary: tuple[str, ...]
    evaluation: tuple[str, ...]
    seconds: float | None
    folds: tuple[Fold, ...]
    metadata: Mapping[str, Any]


def task_folders_below(folder: Path) -> list[Path]:
    """Return the folders of all tasks in a folder, at any depth, sorted by path.

    Symbolic links are followed. Hidden folders are left out: they are tasks that are being made,
    or whose making was interrupted.
    """
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if METADATA in files:
            found.append(Path(parent))
    return sorted(found)


def find_tasks(folder: Path, names: Sequence[str] = ("all",)) -> list[Path]:
    """Return the folders of tasks directly in a folder.

    Args:
        folder: Folder of tasks.
        names: Names of the tasks to return; ``all`` returns every task.

    Raises:
        ConfigError: There is no task, or no task of a given name.
    """
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    tasks = [p for p in paths if not p.name.startswith(".") and (p / METADATA).is_file()]
    if not tasks:
        msg = f"there is no HEAR task in {folder}: no folder in it has a {METADATA}"
        raise ConfigError(msg)
    if "all" in names:
        return tasks
    known = {task.name: task for task in tasks}
    for name in names:
        if name not in known:
            raise ConfigError(unknown("task", name, known))
    return [known[name] for name in dict.fromkeys(names)]


def read_description(folder: Path) -> TaskDescription:
    """Read the description of a task from its folder, or from a folder of its embeddings.

    Raises:
        TaskError: A file is missing or damaged, a field is missing or has a wrong value, a split
            has a name that leads out of the folder, or there are too few splits.
    """
    path = folder / METADATA
    metadata = read_task_json(path)
    for problem in metadata_problems(metadata):
        msg = f"{path} {problem}"
        raise TaskError(msg)
    seconds = metadata.get("sample_duration")
    return TaskDescription(
        name=metadata["task_name"],
        embedding_type=metadata["embedding_type"],
        prediction_type=metadata["prediction_type"],
        splits=tuple(metadata["splits"]),
        vocabulary=read_vocabulary(folder),
        evaluation=tuple(metadata["evaluation"]),
        seconds=None if seconds is None else float(seconds),
        folds=_folds(metadata["split_mode"], metadata["splits"]),
        metadata=metadata,
    )


def read_labels(folder: Path, split: str, description: TaskDescription) -> dict[str, list[Any]]:
    """Read the labels of the files of a split.

    Args:
        folder: Folder of the task or of its embeddings.
        split: Name of the split.
        description: Description of the task.

    Returns:
        By file name: the classes of a scene as strings, or the events, each of the form
        ``{"label": ..., "start": ..., "end": ...}`` with times in milliseconds.

    Raises:
        TaskError: The file is missing, damaged or empty, a clip has a name that leads out of the
            folder, a class is not in the vocabulary, a scene of a multi-class task does not have
            exactly one class, or an event has no valid times.
    """
    path = folder / f"{split}.json"
    by_file = read_task_json(path)
    for file, problem in label_problems(by_file, description):
        msg = f"{path}: {file} {problem}" if file else f"{path} {problem}"
        raise TaskError(msg)
    if description.embedding_type == "event":
        return {file: [_event(event) for event in events] for file, events in by_file.items()}
    return {file: [str(label) for label in labels] for file, labels in by_file.items()}


def read_task_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of a task.

    Raises:
        TaskError: The file is missing, is not JSON, or does not hold an object.
    """
    if not path.is_file():
        msg = f"{path.parent} is not a HEAR task, or is incomplete: it has no {path.name}"
        raise TaskError(msg)
    return read_json(path, error=TaskError)


def metadata_problems(metadata: Mapping[str, Any]) -> list[str]:
    """Return everything that is wrong with a ``task_metadata.json``, as ends of sentences."""
    found = []
    if missing := [field for field in _REQUIRED if field not in metadata]:
        found.append(f"lacks {', '.join(missing)}")
    for field, known in _VALUES.items():
        if field in metadata and metadata[field] not in known:
            found.append(f"has {field} {metadata[field]!r}; known: {', '.join(known)}")
    found += [
        f"has {field} {metadata[field]!r}, which is not a list of different names"
        for field in ("splits", "evaluation")
        if field in metadata and not are_names(metadata[field])
    ]
    if not isinstance(metadata.get("task_name", ""), str):
        found.append(f"has task_name {metadata['task_name']!r}, which is not a string")
    if not isinstance(params := metadata.get("evaluation_params", {}), dict):
        found.append(f"has evaluation_params {params!r}, which is not an object")
    if are_names(metadata.get("splits")):
        found += filter(None, (_name_problem(name, "split") for name in metadata["splits"]))
    seconds = metadata.get("sample_duration")
    if seconds is not None and not is_length(seconds):
        found.append(
            f"has sample_duration {seconds!r}, which is neither a number of seconds nor null"
        )
    return found or _split_problems(metadata["split_mode"], metadata["splits"])


def label_problems(
    by_file: Mapping[str, Any], description: TaskDescription
) -> Iterator[tuple[str, str]]:
    """Yield everything that is wrong with a ``<split>.json``: file names and ends of sentences.

    The file name is "" for what is wrong with the whole.
    """
    if not by_file:
        yield "", "names no file: a split without audio cannot be trained or tested on"
    known = set(description.vocabulary)
    single = (description.embedding_type, description.prediction_type) == ("scene", "multiclass")
    for file, labels in by_file.items():
        if problem := _name_problem(file, "clip"):
            yield "", problem
        if not isinstance(labels, list):
            yield file, f"has the labels {labels!r}, which are not a list"
            continue
        names = []
        for label in labels:
            if description.embedding_type != "event":
                names.append(str(label))
            elif problem := _event_problem(label):
                yield file, problem
            else:
                names.append(str(label["label"]))
        for name in sorted({name for name in names if name not in known}):
            yield file, f"has the class {name!r}, which is not in {VOCABULARY}"
        if single and len(labels) != 1:
            yield file, f"has {len(labels)} classes; in a multi-class task it must have one"


def events_past_end(
    events: Iterable[tuple[float, float]], seconds: float
) -> list[tuple[float, float]]:
    """Return the events that are not within a clip.

    Args:
        events: Onset and offset of each event in seconds.
        seconds: Length of the clip in seconds. An event may end up to 0.1 s later, since many
            label files are rounded to that.
    """
    return [
        (onset, offset)
        for onset, offset in events
        if offset > seconds + _TOLERANCE or (onset >= seconds and offset > onset)
    ]


def are_names(value: Any) -> bool:
    """Return whether a value is a non-empty list of different, non-empty strings."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(name, str) and name for name in value)
        and len(set(value)) == len(value)
    )


def safe_names(names: Any) -> list[str]:
    """Return the names of a list that are safe as names of files in a folder."""
    return [name for name in names if not _name_problem(name, "")] if are_names(names) else []


def read_vocabulary(folder: Path) -> tuple[str, ...]:
    """Read the class names of a task, by class index.

    Raises:
        TaskError: The file is missing, is not a table, or does not number its classes from 0.
    """
    path = folder / VOCABULARY
    if not path.is_file():
        msg = f"{path.parent} is not a HEAR task, or is incomplete: it has no {path.name}"
        raise TaskError(msg)
    rows = [row for _, row in read_table(path, error=TaskError)]
    if not rows or not {"idx", "label"} <= rows[0].keys():
        msg = f"{path} must have rows, and the columns idx and label"
        raise TaskError(msg)
    labels = {row["idx"]: row["label"] for row in rows}
    wanted = [str(index) for index in range(len(rows))]
    if sorted(labels) != sorted(wanted) or len(set(labels.values())) != len(rows):
        msg = f"{path} must number its {len(rows)} classes from 0, each once"
        raise TaskError(msg)
    return tuple(labels[index] for index in wanted)


def _name_problem(name: Any, what: str) -> str | None:
    try:
        check_name(name, f"the {what}", room=_SUFFIXES if what == "split" else 0, error=TaskError)
    except TaskError as error:
        return f"has a name that is refused: {error}"
    if name.startswith("."):
        return f"has the {what} {name!r}; names must not begin with a dot"
    return None


def _split_problems(split_mode: str, splits: list[str]) -> list[str]:
    if split_mode == "trainvaltest":
        missing = [split for split in FIXED_SPLITS if split not in splits]
        found = f"has split_mode trainvaltest, but no split {', '.join(missing)}"
        return [found] if missing else []
    listed = ", ".join(sorted(splits))
    few = f"has the folds {listed}; training, validation and test need three"
    return [few] if len(splits) < 3 else []


def _folds(split_mode: str, splits: list[str]) -> tuple[Fold, ...]:
    if split_mode == "trainvaltest":
        return (Fold(("train",), ("valid",), ("test",)),)
    ordered = sorted(splits)
    folds = []
    for i, test in enumerate(ordered):
        valid = ordered[(i + 1) % len(ordered)]
        train = tuple(split for split in ordered if split not in (test, valid))
        folds.append(Fold(train, (valid,), (test,)))
    return tuple(folds)


def _event_problem(event: Any) -> str | None:
    try:
        found = _event(event)
    except (TypeError, KeyError, ValueError, OverflowError):
        return f"has the event {event!r}, which lacks a label, a start or an end"
    if not 0 <= found["start"] <= found["end"] < math.inf:
        return f"has an event from {found['start']:g} to {found['end']:g} ms"
    return None


def _event(event: Any) -> dict[str, Any]:
    return {
        "label": str(event["label"]),
        "start": float(event["start"]),
        "end": float(event["end"]),
    }


def is_length(value: Any) -> bool:
    """Return whether a value of a ``task_metadata.json`` is a length of clips in seconds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value <= _LONGEST
