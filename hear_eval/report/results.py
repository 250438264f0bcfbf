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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hear_core.errors import HearError
from hear_eval.downstream.files import SCORES
from hear_eval.downstream.results import Folds, folds_of, tested
from hear_eval.report.leaderboard import Model, Score, task_of
from hear_eval.tasks.description import METADATA

_MARKS = (SCORES, METADATA)


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
    folds: Folds


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
            folds = _read(folder)
        except ScoreError as error:
            problems.append(str(error))
            continue
        seen = by_model[model][task]
        if twins := [other.folder for other in seen if _part(other.folder) == _part(folder)]:
            problems.append(f"{folder} is left out: {model} has scores in {twins[0]} as well")
            continue
        seen.append(_Found(folder, folds))
        if folds.undefined:
            notes.append(f"{model} in {task}: {folds.remark}")
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


def _read(folder: Path) -> Folds:
    """Return the scores in a folder."""
    path = folder / SCORES
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read as JSON: {error}"
        raise ScoreError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} holds a {type(content).__name__} where an object is wanted"
        raise ScoreError(msg)
    if not tested(content):
        msg = f"{path} has no test_score: it was written by something else than heareval, or cut"
        raise ScoreError(msg)
    for name, fold in tested(content).items():
        value = fold["test_score"]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or abs(value) > sys.float_info.max:
            msg = f"{path}: the test_score of {name} is {value!r}, which is no score"
            raise ScoreError(msg)
    folds = folds_of(content)
    if folds.undefined and math.isinf(folds.mean):
        msg = f"{path}: {folds.remark}"
        raise ScoreError(msg)
    return folds


def _score(found: list[_Found]) -> Score:
    """Return one score: Beehive has two folders, which count as folds."""
    first = found[0].folds
    folds = first._replace(values=tuple(value for part in found for value in part.folds.values))
    return Score(folds.mean, folds.std, folds.metric, folds.lower_is_better)
