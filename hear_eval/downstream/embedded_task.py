"""Embedded tasks: read from a folder in the layout of heareval, or made from arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hear_core.io.json_files import parse_json
from hear_core.io.pickles import read_pickle
from hear_eval.tasks.description import (
    VOCABULARY,
    TaskDescription,
    TaskError,
    read_description,
    read_labels,
)

_AT_ONCE = 4 << 20  # bytes to read at a time


class EventRows(NamedTuple):
    """The files and timestamps of the rows of a split of an event task, and its events.

    Args:
        files: Name or path of the file of each row.
        timestamps: Time of each row in milliseconds, (rows,).
        events: Events by file name, as `hear_eval.tasks.description.read_labels` returns them.
    """

    files: Sequence[str]
    timestamps: np.ndarray
    events: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class EmbeddedTask:
    """Embeddings of a task and their targets.

    Args:
        description: Description of the task.
        embeddings: Embeddings of all splits, (rows, dimensions).
        targets: Targets, (rows, classes), 0 or 1, float32.
        rows: Rows of each split.
        event_rows: Files, timestamps and events of each split; empty for a task of scenes.
    """

    description: TaskDescription
    embeddings: Tensor
    targets: Tensor
    rows: Mapping[str, slice]
    event_rows: Mapping[str, EventRows]

    def columns(self, index: Sequence[int] | Tensor) -> EmbeddedTask:
        """Return the task with some of the dimensions of its embeddings."""
        return replace(self, embeddings=self.embeddings[:, torch.as_tensor(index)])

    def to(self, device: torch.device, dtype: torch.dtype) -> EmbeddedTask:
        """Return the task with its embeddings on a device and in a type."""
        embeddings = self.embeddings.to(device, dtype)
        return replace(self, embeddings=embeddings, targets=self.targets.to(device))


def task_of_arrays(
    description: TaskDescription,
    embeddings: Mapping[str, np.ndarray | Tensor],
    labels: Mapping[str, Sequence[Sequence[Any]]],
    event_rows: Mapping[str, EventRows] | None = None,
) -> EmbeddedTask:
    """Make an embedded task from arrays.

    Args:
        description: Description of the task.
        embeddings: Embeddings of each split, (rows, dimensions).
        labels: Classes of each row, by split.
        event_rows: Files, timestamps and events of each split of an event task.

    Raises:
        TaskError: A split is missing, is empty or has other dimensions than the others, an
            embedding is not finite, or the labels do not match the rows.
    """
    parts: list[Tensor] = []
    targets, rows, end = [], {}, 0
    for split in description.splits:
        if split not in embeddings or split not in labels:
            msg = f"there are no embeddings, or no labels, of the split {split}"
            raise TaskError(msg)
        part = torch.as_tensor(embeddings[split])
        if part.dim() != 2 or not len(part) or (parts and part.shape[1] != parts[0].shape[1]):
            msg = f"{split}: its embeddings are {tuple(part.shape)}, not (rows, dimensions)"
            raise TaskError(msg)
        _check_finite(part, split, 0)
        parts.append(part)
        targets.append(_targets(labels[split], len(part), description, split))
        rows[split] = slice(end, end := end + len(part))
    if description.embedding_type == "event" and set(event_rows or {}) < set(description.splits):
        msg = f"{description.name} is a task of events, whose splits all need timestamps"
        raise TaskError(msg)
    return EmbeddedTask(
        description,
        torch.cat(parts),
        torch.from_numpy(np.concatenate(targets)),
        rows,
        event_rows or {},
    )


def read_embedded_task(folder: Path, dtype: torch.dtype = torch.float32) -> EmbeddedTask:
    """Read a folder of embeddings, as heareval's runner writes it.

    Not more embeddings are in memory than are returned.

    Args:
        folder: Folder of the embeddings of one task.
        dtype: Type of the returned embeddings.

    Raises:
        TaskError: A file is missing, damaged, or does not match the others.
    """
    description = read_description(folder)
    sizes = {split: _size(folder, split) for split in description.splits}
    first = description.splits[0]
    for split, (_, width) in sizes.items():
        if width != sizes[first][1]:
            msg = (
                f"{folder}: embeddings of {split} have {width} dimensions, but those of {first} "
                f"{sizes[first][1]}"
            )
            raise TaskError(msg)
    total = sum(number for number, _ in sizes.values())
    embeddings = torch.empty(total, sizes[first][1], dtype=dtype)
    targets = np.empty((total, len(description.vocabulary)), np.float32)
    rows, event_rows, end = {}, {}, 0
    for split, (number, _) in sizes.items():
        rows[split] = slice(end, end := end + number)
        _read_embeddings(folder / f"{split}.embeddings.npy", embeddings[rows[split]])
        path = folder / f"{split}.target-labels.pkl"
        targets[rows[split]] = _targets(_read_pickle(path), number, description, str(path))
        if description.embedding_type == "event":
            event_rows[split] = _read_event_rows(folder, split, number, description)
    return EmbeddedTask(description, embeddings, torch.from_numpy(targets), rows, event_rows)


def _size(folder: Path, split: str) -> tuple[int, int]:
    """Return the rows and dimensions of a split, after checking the size of its embeddings."""
    path, data = folder / f"{split}.embedding-dimensions.json", folder / f"{split}.embeddings.npy"
    for needed in (path, data):
        if not needed.is_file():
            msg = f"{folder} has no {needed.name}: its split {split} is not embedded completely"
            raise TaskError(msg)
    found = _json(path)
    if not (
        isinstance(found, list)
        and len(found) == 2
        and all(type(n) is int and n >= 0 for n in found)
    ):
        msg = f"{path} must hold the numbers of rows and of dimensions, but holds {found!r}"
        raise TaskError(msg)
    number, width = found
    if not number or not width:
        msg = f"{path}: the split {split} is empty, [{number}, {width}]"
        raise TaskError(msg)
    wanted, size = number * width * 4, data.stat().st_size
    if size != wanted:
        msg = f"{data} has {size} bytes; {number} rows of {width} float32 have {wanted}"
        raise TaskError(msg)
    return number, width


def _read_embeddings(path: Path, into: Tensor) -> None:
    """Read raw float32 in pieces."""
    number, width = into.shape
    buffer = np.empty((max(1, _AT_ONCE // (4 * width)), width), np.float32)
    with path.open("rb") as file:
        for begin in range(0, number, len(buffer)):
            piece = buffer[: number - begin]
            file.readinto(piece.data)
            rows = torch.from_numpy(piece)
            _check_finite(rows, str(path), begin)
            into[begin : begin + len(piece)] = rows


def _check_finite(rows: Tensor, name: str, begin: int) -> None:
    # A value that is not finite makes the sum not finite. A sum that overflows is rare.
    if rows.sum().isfinite() or rows.isfinite().all():
        return
    row = int((~rows.isfinite()).any(1).nonzero()[0])
    msg = f"{name}: the embedding in row {begin + row} is not finite; embed its audio again"
    raise TaskError(msg)


def _read_pickle(path: Path) -> Any:
    if not path.is_file():
        msg = f"{path.parent} has no {path.name}, the labels of its embeddings"
        raise TaskError(msg)
    return read_pickle(path, "lists of labels", error=TaskError)


def _targets(labels: Any, number: int, description: TaskDescription, name: str) -> np.ndarray:
    """Return labels of rows as 0 and 1 (rows, classes)."""
    if not isinstance(labels, Sequence) or len(labels) != number:
        length = len(labels) if isinstance(labels, Sequence) else "no"
        msg = f"{name} has {length} rows of labels, but there are {number} embeddings"
        raise TaskError(msg)
    index = {label: i for i, label in enumerate(description.vocabulary)}
    targets = np.zeros((number, len(index)), np.float32)
    single = description.prediction_type == "multiclass"
    for row, found in enumerate(labels):
        if not isinstance(found, Sequence) or isinstance(found, str):
            msg = f"{name}: the labels in row {row} are {found!r}, which are not a list"
            raise TaskError(msg)
        for label in map(str, found):
            if label not in index:
                msg = f"{name}: row {row} has the class {label!r}, which is not in {VOCABULARY}"
                raise TaskError(msg)
            targets[row, index[label]] = 1
        if single and targets[row].sum() != 1:
            msg = f"{name}: row {row} has {len(found)} classes; in a multi-class task it has one"
            raise TaskError(msg)
    return targets


def _read_event_rows(
    folder: Path, split: str, number: int, description: TaskDescription
) -> EventRows:
    path = folder / f"{split}.filename-timestamps.json"
    found: Any = _json(path) if path.is_file() else ()
    try:
        files, times = zip(*found, strict=True)
        timestamps = np.array(times, float)
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"{path} must hold the file and the time of every embedding"
        raise TaskError(msg) from error
    if len(files) != number or not np.isfinite(timestamps).all():
        msg = f"{path} has {len(files)} rows, but there are {number} embeddings"
        raise TaskError(msg)
    return EventRows(list(map(str, files)), timestamps, read_labels(folder, split, description))


def _json(path: Path) -> Any:
    return parse_json(path.read_bytes(), str(path), error=TaskError)
