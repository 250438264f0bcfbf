"""What a HEAR task says of itself: its kind, its classes, its splits, and the labels of its files.

A folder of embeddings holds the same files as the task it was made of, so that both are read here
(https://hearbenchmark.com/hear-tasks.html).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hear_core.errors import HearError

METADATA, VOCABULARY = "task_metadata.json", "labelvocabulary.csv"

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
    metadata = _json(path)
    if missing := [field for field in _REQUIRED if field not in metadata]:
        msg = f"{path} lacks {', '.join(missing)}"
        raise TaskError(msg)
    for field, known in _KINDS.items():
        if metadata[field] not in known:
            msg = f"{path} says {field} {metadata[field]!r}; known: {', '.join(known)}"
            raise TaskError(msg)
    for field in ("splits", "evaluation"):
        names = metadata[field]
        if not _are_names(names):
            msg = f"{path} says {field} {names!r}, which is no list of different names"
            raise TaskError(msg)
    seconds = metadata.get("sample_duration")
    return Description(
        name=metadata["task_name"],
        embedding_type=metadata["embedding_type"],
        prediction_type=metadata["prediction_type"],
        splits=tuple(metadata["splits"]),
        vocabulary=_vocabulary(folder / VOCABULARY),
        evaluation=tuple(metadata["evaluation"]),
        seconds=None if seconds is None else float(seconds),
        folds=_folds(path, metadata["split_mode"], metadata["splits"]),
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
    by_file = _json(path)
    if not by_file:
        msg = f"{path} names no file: a split without audio cannot be trained or tested on"
        raise TaskError(msg)
    known = set(description.vocabulary)
    single = (description.embedding_type, description.prediction_type) == ("scene", "multiclass")
    for file, labels in by_file.items():
        if not isinstance(labels, list):
            msg = f"{path}: the labels of {file} are {labels!r}, and no list"
            raise TaskError(msg)
        if description.embedding_type == "event":
            labels = by_file[file] = [_event(path, file, event) for event in labels]
            names = [event["label"] for event in labels]
        else:
            labels = by_file[file] = names = [str(label) for label in labels]
        if unknown := sorted({name for name in names if name not in known}):
            msg = f"{path}: {file} has the class {unknown[0]!r}, which is not in {VOCABULARY}"
            raise TaskError(msg)
        if single and len(labels) != 1:
            msg = f"{path}: {file} has {len(labels)} classes; in a multi-class task it has one"
            raise TaskError(msg)
    return by_file


def _json(path: Path) -> dict[str, Any]:
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


def _are_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(name, str) and name for name in value)
        and len(set(value)) == len(value)
    )


def _vocabulary(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        msg = f"{path.parent} is no HEAR task, or not a whole one: it has no {path.name}"
        raise TaskError(msg)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"idx", "label"} <= rows[0].keys():
        msg = f"{path} must have rows, and the columns idx and label"
        raise TaskError(msg)
    labels = {row["idx"]: row["label"] for row in rows}
    wanted = [str(index) for index in range(len(rows))]
    if sorted(labels) != sorted(wanted) or len(set(labels.values())) != len(rows):
        msg = f"{path} must number its {len(rows)} classes from 0 on, each once"
        raise TaskError(msg)
    return tuple(labels[index] for index in wanted)


def _folds(path: Path, split_mode: str, splits: list[str]) -> tuple[Fold, ...]:
    if split_mode == "trainvaltest":
        if missing := {"train", "valid", "test"} - set(splits):
            msg = f"{path} says split_mode trainvaltest, but has no split {', '.join(missing)}"
            raise TaskError(msg)
        return (Fold(("train",), ("valid",), ("test",)),)
    ordered = sorted(splits)
    if len(ordered) < 3:
        msg = f"{path} has the folds {', '.join(ordered)}; training, validation and test take three"
        raise TaskError(msg)
    folds = []
    for i, test in enumerate(ordered):
        valid = ordered[(i + 1) % len(ordered)]
        train = tuple(split for split in ordered if split not in (test, valid))
        folds.append(Fold(train, (valid,), (test,)))
    return tuple(folds)


def _event(path: Path, file: str, event: Any) -> dict[str, Any]:
    try:
        label, start, end = str(event["label"]), float(event["start"]), float(event["end"])
    except (TypeError, KeyError, ValueError) as error:
        msg = f"{path}: {file} has the event {event!r}, which lacks a label, a start or an end"
        raise TaskError(msg) from error
    if not 0 <= start <= end:
        msg = f"{path}: {file} has an event from {start:g} to {end:g} ms"
        raise TaskError(msg)
    return {"label": label, "start": start, "end": end}
