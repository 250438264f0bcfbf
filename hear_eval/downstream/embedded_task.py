"""A task whose audio is embedded: read from a folder of heareval's, or made of arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hear_core.io.pickles import read_pickle
from hear_eval.tasks.description import (
    VOCABULARY,
    TaskDescription,
    TaskError,
    read_description,
    read_labels,
)

_AT_ONCE = 4 << 20  # bytes that are read at a time


class Moments(NamedTuple):
    """Where the rows of a split of an event task stand, and what is to be heard in its files.

    Args:
        files: Name or path of the file of each row.
        timestamps: (rows,), in milliseconds.
        events: By name of file, as `hear_eval.tasks.description.read_labels` gives them.
    """

    files: Sequence[str]
    timestamps: np.ndarray
    events: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class EmbeddedTask:
    """Embeddings, and what is to be predicted of them.

    Args:
        description: Of the task.
        embeddings: (rows, dimensions), those of all splits.
        targets: (rows, classes), 0 or 1, float32.
        rows: Those of each split.
        moments: Of each split; empty for a task of scenes.
    """

    description: TaskDescription
    embeddings: Tensor
    targets: Tensor
    rows: Mapping[str, slice]
    moments: Mapping[str, Moments]

    def columns(self, index: Sequence[int] | Tensor) -> EmbeddedTask:
        """Return the same task with some of the dimensions of its embeddings."""
        return replace(self, embeddings=self.embeddings[:, torch.as_tensor(index)])

    def to(self, device: torch.device, dtype: torch.dtype) -> EmbeddedTask:
        """Return the same task with its embeddings elsewhere, or of another type."""
        embeddings = self.embeddings.to(device, dtype)
        return replace(self, embeddings=embeddings, targets=self.targets.to(device))


def task_of_arrays(
    description: TaskDescription,
    embeddings: Mapping[str, np.ndarray | Tensor],
    labels: Mapping[str, Sequence[Sequence[Any]]],
    moments: Mapping[str, Moments] | None = None,
) -> EmbeddedTask:
    """Make a task of what is in memory.

    Args:
        description: Of the task.
        embeddings: Of each split, (rows, dimensions).
        labels: Of each split: the classes of each row.
        moments: Of each split of an event task.

    Raises:
        TaskError: A split is missing, is empty or has other dimensions than the others, an
            embedding is not finite, or labels do not fit.
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
    if description.embedding_type == "event" and set(moments or {}) < set(description.splits):
        msg = f"{description.name} is a task of events, whose splits all need timestamps"
        raise TaskError(msg)
    return EmbeddedTask(
        description,
        torch.cat(parts),
        torch.from_numpy(np.concatenate(targets)),
        rows,
        moments or {},
    )


def read_embedded_task(folder: Path, dtype: torch.dtype = torch.float32) -> EmbeddedTask:
    """Read a folder of embeddings, as heareval's runner writes it.

    There are never more of them in memory than those it returns.

    Args:
        folder: That of one task.
        dtype: In which embeddings are kept.

    Raises:
        TaskError: A file is missing, damaged, or does not fit to the others.
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
    rows, moments, end = {}, {}, 0
    for split, (number, _) in sizes.items():
        rows[split] = slice(end, end := end + number)
        _read_embeddings(folder / f"{split}.embeddings.npy", embeddings[rows[split]])
        path = folder / f"{split}.target-labels.pkl"
        targets[rows[split]] = _targets(_read_pickle(path), number, description, str(path))
        if description.embedding_type == "event":
            moments[split] = _read_moments(folder, split, number, description)
    return EmbeddedTask(description, embeddings, torch.from_numpy(targets), rows, moments)


def _size(folder: Path, split: str) -> tuple[int, int]:
    """Return rows and dimensions of a split, whose embeddings are as large as they say."""
    path, data = folder / f"{split}.embedding-dimensions.json", folder / f"{split}.embeddings.npy"
    for needed in (path, data):
        if not needed.is_file():
            msg = f"{folder} has no {needed.name}: its split {split} is not embedded, or not wholly"
            raise TaskError(msg)
    found = _json(path)
    if not (
        isinstance(found, list)
        and len(found) == 2
        and all(type(n) is int and n >= 0 for n in found)
    ):
        msg = f"{path} holds {found!r}, and not the number of rows and of dimensions"
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
    """Read raw float32, a piece at a time."""
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
    # What is not finite makes the sum so. A sum that overflowed is rare, and looked into.
    if rows.sum().isfinite() or rows.isfinite().all():
        return
    row = int((~rows.isfinite()).any(1).nonzero()[0])
    msg = f"{name}: the embedding in row {begin + row} is not finite; embed its audio again"
    raise TaskError(msg)


def _read_pickle(path: Path) -> Any:
    if not path.is_file():
        msg = f"{path.parent} has no {path.name}, which says what its embeddings stand for"
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
            msg = f"{name}: the labels in row {row} are {found!r}, and no list"
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


def _read_moments(folder: Path, split: str, number: int, description: TaskDescription) -> Moments:
    path = folder / f"{split}.filename-timestamps.json"
    found: Any = _json(path) if path.is_file() else ()
    try:
        files, times = zip(*found, strict=True)
        timestamps = np.array(times, float)
    except (TypeError, ValueError) as error:
        msg = f"{path} must hold the file and the time of every embedding"
        raise TaskError(msg) from error
    if len(files) != number or not np.isfinite(timestamps).all():
        msg = f"{path} has {len(files)} rows, but there are {number} embeddings"
        raise TaskError(msg)
    return Moments(list(map(str, files)), timestamps, read_labels(folder, split, description))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise TaskError(msg) from error
