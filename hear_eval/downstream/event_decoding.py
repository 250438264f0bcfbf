"""From the predictions of an event task at points in time to events, as heareval makes them.

A prediction above a threshold is a class that is heard, the median of those around it takes away
what is too short, and each run of points at which a class is heard is an event from the first to
the last.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np

from hear_core.metrics.events import EventArrays
from hear_eval.tasks.description import TaskError

# What a task may choose, and what is taken where it does not, as in heareval.
DEFAULTS = {"median_filter_ms": 150.0, "min_duration": 60.0, "threshold": 0.5}

Setting: TypeAlias = tuple[tuple[str, float], ...]  # such as (("median_filter_ms", 250), …)


def settings_of(grid: Mapping[str, Sequence[float]], task: str) -> list[Setting]:
    """Return all settings of a grid, in the order of scikit-learn's ParameterGrid.

    Args:
        grid: Values to try, by field: some of `DEFAULTS`.
        task: Name of the task that it is of.

    Raises:
        TaskError: The grid has a field that means nothing here.
    """
    if unknown := sorted(set(grid) - set(DEFAULTS)):
        known = ", ".join(DEFAULTS)
        msg = f"{task}: its event_postprocessing_grid has {unknown[0]!r}; known: {known}"
        raise TaskError(msg)
    names = sorted(grid)
    return [
        tuple(zip(names, values, strict=True))
        for values in itertools.product(*(grid[name] for name in names))
    ]


class Decoder:
    """Makes events of the predictions for one split.

    Args:
        files: Name or path of the file of each row.
        timestamps: (rows,), in milliseconds.

    Attributes:
        files: Names of the files, in the order in which they come.

    Raises:
        TaskError: Two rows stand for one point in time.
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

    def decode(self, predictions: np.ndarray, setting: Setting) -> EventArrays:
        """Return the events in predictions.

        Args:
            predictions: (rows, classes), in [0, 1].
            setting: Milliseconds of the median, those that an event lasts at least, and the
                threshold; see `DEFAULTS`.
        """
        options = DEFAULTS | dict(setting)
        heard = self._smooth(
            predictions[self._order] > options["threshold"], options["median_filter_ms"]
        )
        # Where a class begins or ceases to be heard; nothing is heard across files.
        before = np.zeros_like(heard)
        before[1:] = heard[:-1] & (self._file[1:] == self._file[:-1])[:, None]
        after = np.zeros_like(heard)
        after[:-1] = heard[1:] & (self._file[1:] == self._file[:-1])[:, None]
        label, first = np.nonzero((heard & ~before).T)
        _, last = np.nonzero((heard & ~after).T)
        onset, offset = self._time[first], self._time[last]
        long = offset - onset >= options["min_duration"]
        kept = label[long], onset[long] / 1000, offset[long] / 1000
        return EventArrays(self._file[first[long]], *kept)

    def _smooth(self, heard: np.ndarray, milliseconds: float) -> np.ndarray:
        """Return the median of windows of rows: what more than half of them say.

        It is above the threshold if they are. Beyond its ends a file goes on mirrored. A window of
        an even size reaches farther back, and half of it is enough.
        """
        if not milliseconds:
            return heard
        smooth = heard.copy()
        for rows, windows in self._windows_of(milliseconds):
            size = windows.shape[1]
            votes = np.zeros((len(rows), heard.shape[1]), np.int32)
            for column in windows.T:
                votes += heard[column]
            smooth[rows] = votes >= size - size // 2
        return smooth

    def _windows_of(self, milliseconds: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return rows, and for each the rows around it: once for every size of window."""
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


def as_lists(
    events: EventArrays, files: Sequence[str], labels: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Return events by file as HEAR writes them, with times in milliseconds."""
    found: dict[str, list[dict[str, Any]]] = {file: [] for file in files}
    for i in np.argsort(events.onset, kind="stable"):
        event = {"label": labels[events.label[i]], "start": float(events.onset[i] * 1000)}
        found[files[events.file[i]]].append({**event, "end": float(events.offset[i] * 1000)})
    return found
