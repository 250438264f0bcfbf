"""Scores of models on disk, as heareval leaves them beside the embeddings of a task.

There is ``test.predicted-scores.json`` in ``<module>/<task>``: the scores of the split ``test``, or
of every fold that was tested on.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from hear_core.errors import HearError
from hear_eval.report.leaderboard import Model, Score, task_of
from hear_eval.tasks.description import METADATA

SCORES = "test.predicted-scores.json"
_AGGREGATED = "aggregated_scores"
_MARKS = (SCORES, METADATA)
_NO_METRICS = ("test_loss", "test_score")


class ScoreError(HearError, ValueError):
    """Scores that are missing or damaged."""


class Results(NamedTuple):
    """What is found in folders.

    Args:
        models: Those that have a score.
        waiting: Folders of embeddings without scores.
        notes: What a reader should know of the scores.
        problems: What could not be read, and is left out.
    """

    models: tuple[Model, ...]
    waiting: tuple[Path, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


class _Found(NamedTuple):
    folder: Path
    folds: list[float]
    metric: str
    lower_is_better: bool


def read_results(folders: Iterable[Path]) -> Results:
    """Read the scores of models.

    Args:
        folders: Of tasks, of models, or of all models. What is no folder is passed over.

    Raises:
        ScoreError: There is no score in them.
    """
    folders = list(folders)
    by_model: dict[str, dict[str, list[_Found]]] = defaultdict(lambda: defaultdict(list))
    waiting, notes, problems = [], [], []
    known = set()
    for folder in _task_folders(folders):
        if folder.resolve() in known:
            continue
        known.add(folder.resolve())
        if not (folder / SCORES).is_file():
            waiting.append(folder)
            continue
        model, task = _name(folder.absolute().parent), task_of(_name(folder))
        try:
            found, undefined = _read(folder)
        except ScoreError as error:
            problems.append(str(error))
            continue
        seen = by_model[model][task]
        if twins := [other.folder for other in seen if _part(other.folder) == _part(folder)]:
            problems.append(f"{folder} is left out: {model} has scores in {twins[0]} as well")
            continue
        seen.append(found)
        if undefined:
            notes.append(
                f"{model} detected nothing in {undefined} of {len(found.folds)} folds of {task}: "
                "the F-measure, which is undefined then, counts as 0"
            )
    models = tuple(
        Model(name, {task: _score(found) for task, found in by_task.items()})
        for name, by_task in by_model.items()
    )
    if not models and not problems:
        listed = ", ".join(map(str, folders))
        msg = f"no scores in {listed}: heareval writes them as <module>/<task>/{SCORES}"
        raise ScoreError(msg)
    return Results(models, tuple(waiting), tuple(notes), tuple(problems))


def _task_folders(folders: Iterable[Path], levels: int = 2) -> Iterator[Path]:
    """Yield the folders of tasks in folders, so many levels down; what is in them is not looked at.

    A model may have tens of thousands of files in the folder of a task.
    """
    for folder in folders:
        if not folder.is_dir():
            continue
        if any((folder / name).is_file() for name in _MARKS):
            yield folder
        elif levels:
            yield from _task_folders(sorted(folder.iterdir()), levels - 1)


def _name(folder: Path) -> str:
    """Return the name of a folder as text that can be written to any file."""
    return os.fsencode(folder.name).decode(errors="replace")


def _part(folder: Path) -> str:
    """Return which part of a task a folder is: the two of Beehive are ``_fold0`` and ``_fold1``."""
    return "".join(re.findall(r"^[^-]*(_fold\d+)-", folder.name))


def _read(folder: Path) -> tuple[_Found, int]:
    """Return the scores in a folder, and how many of its folds had none that is defined."""
    path = folder / SCORES
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read as JSON: {error}"
        raise ScoreError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} holds a {type(content).__name__} where an object is wanted"
        raise ScoreError(msg)
    tested = [
        (name, fold)
        for name, fold in content.items()
        if name != _AGGREGATED and isinstance(fold, dict) and "test_score" in fold
    ]
    if not tested:
        msg = f"{path} has no test_score: it was written by something else than heareval, or cut"
        raise ScoreError(msg)
    metric = _metric(tested[0][1])
    folds = [_value(path, name, fold["test_score"], metric) for name, fold in tested]
    defined = [value for value in folds if not math.isnan(value)]
    values = [0.0 if math.isnan(value) else value for value in folds]
    lower_is_better = content.get("score_mode") == "min"
    return _Found(folder, values, metric, lower_is_better), len(folds) - len(defined)


def _metric(fold: Mapping[str, Any]) -> str:
    """Return the name of the first score, which is the one that heareval calls ``test_score``."""
    names = (key for key in fold if key.startswith("test_") and key not in _NO_METRICS)
    return next(names, "").removeprefix("test_")


def _value(path: Path, fold: str, value: Any, metric: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_finite = is_number and abs(value) <= sys.float_info.max
    undefined = is_number and value != value and metric.endswith("_fms")
    if not is_finite and not undefined:
        msg = f"{path}: the test_score of {fold} is {value!r}, which is no score"
        raise ScoreError(msg)
    return float(value)


def _score(found: list[_Found]) -> Score:
    """Return one score: Beehive has two folders, which count as folds."""
    folds = [value for part in found for value in part.folds]
    spread = stdev(folds) if len(folds) > 1 else None
    return Score(fmean(folds), spread, found[0].metric, found[0].lower_is_better)
