"""What a HEAR task says of itself: its kind, its classes, its splits, and the labels of its files.

A folder of embeddings holds the same files as the task it was made of, so that both are read here
(https://hearbenchmark.com/hear-tasks.html).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hear_core.errors import HearError

METADATA, VOCABULARY = "task_metadata.json", "labelvocabulary.csv"
# Event post-processing that is searched by default: that of DCASE 2016 task 2 in HEAR.
EVENT_POSTPROCESSING = {"median_filter_ms": (250,), "min_duration": (125, 250)}
FIXED_SPLITS = ("train", "valid", "test")  # of a task that is not cut into folds

# What the field may hold. HEAR's events are all multi-label.
_KINDS = {
    "embedding_type": ("scene", "event"),
    "prediction_type": ("multiclass", "multilabel"),
    "split_mode": ("trainvaltest", "new_split_kfold", "presplit_kfold"),
}
_REQUIRED = ("task_name", *_KINDS, "splits", "evaluation")


class TaskError(HearError, ValueError):
    """A task that is incomplete or contradicts itself."""


class Fold(NamedTuple):
    """The splits that one predictor is trained, validated and tested on."""

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """What a task is.

    Args:
        name: Of the task.
        embedding_type: ``scene`` if clips are labelled, ``event`` if points in time are.
        prediction_type: ``multiclass`` if there is always one label, else ``multilabel``.
        splits: Names of its splits, in the order of the task.
        vocabulary: Its classes, by their index.
        evaluation: Names of its scores; the first chooses the predictor.
        seconds: Length of all its clips; None if they differ.
        folds: What is trained, validated and tested on: one fold if the task says so itself, else
            one for every split, which tests on it and validates on the next.
        metadata: All of its ``task_metadata.json``.
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


def read_description(folder: Path) -> Description:
    """Read what a task, or a folder of its embeddings, says of itself.

    Raises:
        TaskError: A file is missing or damaged, a field is missing or holds what it cannot hold,
            or there are too few splits.
    """
    path = folder / METADATA
    metadata = read_json(path)
    for problem in problems(metadata):
        msg = f"{path} {problem}"
        raise TaskError(msg)
    seconds = metadata.get("sample_duration")
    return Description(
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


def read_labels(folder: Path, split: str, description: Description) -> dict[str, list[Any]]:
    """Read what is known of the files of a split.

    Returns:
        By file name: the classes of a scene as strings, or the events in it, which are
        ``{"label": …, "start": …, "end": …}`` with times in milliseconds.

    Raises:
        TaskError: The file is missing, damaged or empty, a class is not in the vocabulary, a scene
            of a multi-class task has not one class, or an event lacks a time or ends before it
            starts.
    """
    path = folder / f"{split}.json"
    by_file = read_json(path)
    for file, problem in label_problems(by_file, description):
        msg = f"{path}: {file} {problem}" if file else f"{path} {problem}"
        raise TaskError(msg)
    if description.embedding_type == "event":
        return {file: [_event(event) for event in events] for file, events in by_file.items()}
    return {file: [str(label) for label in labels] for file, labels in by_file.items()}


def problems(metadata: Mapping[str, Any]) -> list[str]:
    """Return all that is wrong with a ``task_metadata.json``, as ends of sentences."""
    found = []
    if missing := [field for field in _REQUIRED if field not in metadata]:
        found.append(f"lacks {', '.join(missing)}")
    for field, known in _KINDS.items():
        if field in metadata and metadata[field] not in known:
            found.append(f"says {field} {metadata[field]!r}; known: {', '.join(known)}")
    found += [
        f"says {field} {metadata[field]!r}, which is no list of different names"
        for field in ("splits", "evaluation")
        if field in metadata and not are_names(metadata[field])
    ]
    seconds = metadata.get("sample_duration")
    if not (seconds is None or (isinstance(seconds, int | float) and seconds > 0)):
        found.append(f"says sample_duration {seconds!r}, which is no number of seconds, nor null")
    return found or _split_problems(metadata["split_mode"], metadata["splits"])


def _split_problems(split_mode: str, splits: list[str]) -> list[str]:
    if split_mode == "trainvaltest":
        missing = [split for split in FIXED_SPLITS if split not in splits]
        said = f"says split_mode trainvaltest, but has no split {', '.join(missing)}"
        return [said] if missing else []
    listed = ", ".join(sorted(splits))
    few = f"has the folds {listed}; training, validation and test take three"
    return [few] if len(splits) < 3 else []


def label_problems(
    by_file: Mapping[str, Any], description: Description
) -> Iterator[tuple[str, str]]:
    """Yield all that is wrong with a ``<split>.json``: files, and ends of sentences.

    What is wrong with no file in particular has the file "".
    """
    if not by_file:
        yield "", "names no file: a split without audio cannot be trained or tested on"
    known = set(description.vocabulary)
    single = (description.embedding_type, description.prediction_type) == ("scene", "multiclass")
    for file, labels in by_file.items():
        if not isinstance(labels, list):
            yield file, f"has the labels {labels!r}, and no list"
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
            yield file, f"has {len(labels)} classes; in a multi-class task it has one"


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a file.

    Raises:
        TaskError: The file is missing, or no JSON, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{path.parent} is no HEAR task, or not a whole one: it has no {path.name}"
        raise TaskError(msg) from error
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise TaskError(msg) from error
    if not isinstance(found, dict):
        msg = f"{path} holds a {type(found).__name__} where an object is wanted"
        raise TaskError(msg)
    return found


def read_rows(path: Path, delimiter: str = ",") -> list[tuple[int, dict[str, str]]]:
    """Read a table whose first row names its columns.

    Args:
        path: Of the file.
        delimiter: Between its cells.

    Returns:
        The line of the file that each row ends on, and its cells by their columns.

    Raises:
        TaskError: The file is not UTF-8, or no table, or a row is shorter than the first.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        try:
            rows = [(reader.line_num, row) for row in reader]
        except UnicodeDecodeError as error:
            msg = f"{path} is not UTF-8; it must be saved as such: {error}"
            raise TaskError(msg) from error
        except csv.Error as error:
            msg = f"{path} is no table after line {reader.line_num}: {error}"
            raise TaskError(msg) from error
    for number, row in rows:
        if None in row.values():
            msg = f"{path} has in line {number} fewer cells than columns"
            raise TaskError(msg)
    return rows


def are_names(value: Any) -> bool:
    """Say whether this is a list of different names."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(name, str) and name for name in value)
        and len(set(value)) == len(value)
    )


def read_vocabulary(folder: Path) -> tuple[str, ...]:
    """Read the classes of a task by their index.

    Raises:
        TaskError: The file is missing or no table, or does not number classes.
    """
    path = folder / VOCABULARY
    if not path.is_file():
        msg = f"{path.parent} is no HEAR task, or not a whole one: it has no {path.name}"
        raise TaskError(msg)
    rows = [row for _, row in read_rows(path)]
    if not rows or not {"idx", "label"} <= rows[0].keys():
        msg = f"{path} must have rows, and the columns idx and label"
        raise TaskError(msg)
    labels = {row["idx"]: row["label"] for row in rows}
    wanted = [str(index) for index in range(len(rows))]
    if sorted(labels) != sorted(wanted) or len(set(labels.values())) != len(rows):
        msg = f"{path} must number its {len(rows)} classes from 0 on, each once"
        raise TaskError(msg)
    return tuple(labels[index] for index in wanted)


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
    except (TypeError, KeyError, ValueError):
        return f"has the event {event!r}, which lacks a label, a start or an end"
    if not 0 <= found["start"] <= found["end"]:
        return f"has an event from {found['start']:g} to {found['end']:g} ms"
    return None


def _event(event: Any) -> dict[str, Any]:
    return {
        "label": str(event["label"]),
        "start": float(event["start"]),
        "end": float(event["end"]),
    }
