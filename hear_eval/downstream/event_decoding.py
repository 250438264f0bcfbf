"""Decoding of predictions at points in time to events, as heareval does.

A class is active where its prediction exceeds a threshold, a median filter removes what is too
short, and each run of points at which a class is active is an event from the first to the last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np

from hear_core.metrics.events import EventArrays
from hear_eval.tasks.description import TaskError

# Fields of post-processing that a task may set, and their defaults, as in heareval.
DEFAULTS = {"median_filter_ms": 150.0, "min_duration": 60.0, "threshold": 0.5}

PostProcessing: TypeAlias = tuple[
    tuple[str, float], ...
]  # such as (("median_filter_ms", 250), ...)


def postprocessing_settings(grid: Mapping[str, Sequence[float]], task: str) -> list[PostProcessing]:
    """Return all settings of a grid, in the order of scikit-learn's ParameterGrid.

    Args:
        grid: Values to try, by field; the fields are those of `DEFAULTS`.
        task: Name of the task, for error messages.

    Raises:
        TaskError: The grid has an unknown field, or a value that is not a list of finite numbers
            of at least 0.
    """
    if not isinstance(grid, Mapping):
        msg = f"{task}: its event_postprocessing_grid is {grid!r}, which is not an object"
        raise TaskError(msg)
    for name, values in grid.items():
        if not (isinstance(values, list | tuple) and values and all(map(_is_value, values))):
            msg = (
                f"{task}: its event_postprocessing_grid has {values!r} for {name}, which is not a "
                "list of numbers of at least 0"
            )
            raise TaskError(msg)
    if unknown := sorted(set(grid) - set(DEFAULTS)):
        known = ", ".join(DEFAULTS)
        msg = f"{task}: its event_postprocessing_grid has {unknown[0]!r}; known: {known}"
        raise TaskError(msg)
    names = sorted(grid)
    return [
        tuple(zip(names, values, strict=True))
        for values in itertools.product(*(grid[name] for name in names))
    ]


def _is_value(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


class RowDecoder:
    """Decodes the predictions for the rows of a split to events.

    Args:
        files: Name or path of the file of each row.
        timestamps: Time of each row in milliseconds, (rows,).

    Attributes:
        files: Names of the files, in order of appearance.

    Raises:
        TaskError: Two rows have the same file and time.
    """

    def __init__(self, files: Sequence[str], timestamps: np.ndarray) -> None:
        names = [PurePath(file).name for file in files]
        self.files = list(dict.fromkeys(names))
        number = {name: i for i, name in enumerate(self.files)}
        file = np.array([number[name] for name in names])
        self._order = np.lexsort((timestamps, file))
        self._file, self._time = file[self._order], timestamps[self._order]
        self._begin = np.searchsorted(self._file, np.arange(len(self.files) + 1))
        same = (np.diff(self._file) == 0) & (np.diff(self._time) == 0)
        if same.any():
            row = int(same.argmax())
            name = self.files[self._file[row]]
            msg = f"{name} has two embeddings at {self._time[row]:g} ms"
            raise TaskError(msg)
        self._windows: dict[float, list[tuple[np.ndarray, np.ndarray]]] = {}

    def decode(self, predictions: np.ndarray, setting: PostProcessing) -> EventArrays:
        """Return the events in predictions.

        Args:
            predictions: Probabilities (rows, classes).
            setting: Length of the median filter and shortest event in milliseconds, and the
                threshold; see `DEFAULTS`.
        """
        options = DEFAULTS | dict(setting)
        active = self._smooth(
            predictions[self._order] > options["threshold"], options["median_filter_ms"]
        )
        # Where a class starts and stops to be active; no event extends across files.
        before = np.zeros_like(active)
        before[1:] = active[:-1] & (self._file[1:] == self._file[:-1])[:, None]
        after = np.zeros_like(active)
        after[:-1] = active[1:] & (self._file[1:] == self._file[:-1])[:, None]
        label, first = np.nonzero((active & ~before).T)
        _, last = np.nonzero((active & ~after).T)
        onset, offset = self._time[first], self._time[last]
        long = offset - onset >= options["min_duration"]
        kept = label[long], onset[long] / 1000, offset[long] / 1000
        return EventArrays(self._file[first[long]], *kept)

    def _smooth(self, active: np.ndarray, milliseconds: float) -> np.ndarray:
        """Return the median over windows of rows: whether more than half of them are active.

        Files are extended by reflection. A window of even size reaches farther back, and half of
        its rows suffice.
        """
        if not milliseconds:
            return active
        smooth = active.copy()
        for rows, windows in self._windows_of(milliseconds):
            size = windows.shape[1]
            votes = np.zeros((len(rows), active.shape[1]), np.int32)
            for column in windows.T:
                votes += active[column]
            smooth[rows] = votes >= size - size // 2
        return smooth

    def _windows_of(self, milliseconds: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return rows and the rows of the window around each, for every size of window."""
        if milliseconds not in self._windows:
            by_size: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
            for begin, end in itertools.pairwise(self._begin.tolist()):
                rows = np.arange(end - begin)
                step = np.diff(self._time[begin:end]).mean() if len(rows) > 1 else np.inf
                if not (size := round(milliseconds / step)):
                    continue
                around = rows[:, None] + np.arange(size) - size // 2
                around %= 2 * len(rows)
                around = np.minimum(around, 2 * len(rows) - 1 - around)
                by_size.setdefault(size, []).append((rows + begin, around + begin))
            self._windows[milliseconds] = [
                (np.concatenate(rows), np.concatenate(around))
                for rows, around in (zip(*pairs, strict=True) for pairs in by_size.values())
            ]
        return self._windows[milliseconds]


def events_by_file(
    events: EventArrays, files: Sequence[str], labels: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return events by file as HEAR writes them, with times in milliseconds."""
    found: dict[str, list[dict[str, Any]]] = {file: [] for file in files}
    for i in np.argsort(events.onset, kind="stable"):
        event = {"label": labels[events.label[i]], "start": float(events.onset[i] * 1000)}
        found[files[events.file[i]]].append({**event, "end": float(events.offset[i] * 1000)})
    return found
