"""Reading of the scores that evaluations leave beside the embeddings of tasks.

They are in ``<module>/<task>/test.predicted-scores.json``, for the split ``test`` or for every fold
that was tested on.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import NamedTuple

from hear_core.errors import HearError
from hear_eval.downstream.result_files import DONE, SCORES, task_folders
from hear_eval.downstream.results import FoldScores, fold_scores, tested_folds
from hear_eval.report.leaderboard import ScoredModel, TaskScore, task_of
from hear_eval.tasks.description import METADATA


class ScoreError(HearError, ValueError):
    """Scores are missing or damaged."""


class FoundResults(NamedTuple):
    """Scores found in folders.

    Args:
        models: Models with scores.
        waiting: Folders of embeddings that are not evaluated.
        notes: Remarks on the scores for readers.
        problems: Scores that are left out, and why.
    """

    models: tuple[ScoredModel, ...]
    waiting: tuple[Path, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


class _FoundScores(NamedTuple):
    """The scores in a folder of a task, or of a part of a task; see `_part`."""

    folder: Path
    task: str
    part: str
    folds: FoldScores

    @property
    def key(self) -> tuple[str, str]:
        """Key of which a model has one."""
        return self.task, self.part


def read_results(folders: Iterable[Path]) -> FoundResults:
    """Read the scores of models.

    A model has the name of its folder. If several have the same name and scores of the same task,
    the names of folders above tell them apart.

    Args:
        folders: Folders of tasks, of models, or of all models. Anything else is ignored.

    Raises:
        ScoreError: There are no scores in them.
    """
    folders = list(folders)
    by_place: dict[Path, list[_FoundScores]] = defaultdict(list)
    waiting, problems = [], []
    for folder in task_folders(folders, (SCORES, METADATA)):
        if not (folder / SCORES).is_file():
            waiting.append(folder)
            continue
        try:
            folds = _read(folder)
        except ScoreError as error:
            problems.append(str(error))
            continue
        path = folder.absolute()
        seen = by_place[path.parent]
        found = _FoundScores(folder, task_of(_name(path)), _part(path), folds)
        if twins := [other.folder for other in seen if other.key == found.key]:
            problems.append(f"{folder} is left out: {twins[0]} has scores of {found.task} as well")
        else:
            seen.append(found)
    if not by_place and not problems:
        listed = ", ".join(map(str, folders))
        msg = f"there are no scores in {listed}: evaluations write <module>/<task>/{SCORES}"
        raise ScoreError(msg)
    models, notes = [], list[str]()
    for name, parts in _by_name(by_place):
        by_task: dict[str, list[_FoundScores]] = defaultdict(list)
        for found in parts:
            by_task[found.task].append(found)
        models.append(ScoredModel(name, {task: _score(each) for task, each in by_task.items()}))
        notes += _notes(name, parts)
    return FoundResults(tuple(models), tuple(waiting), tuple(notes), tuple(problems))


def _by_name(
    by_place: Mapping[Path, list[_FoundScores]],
) -> Iterator[tuple[str, list[_FoundScores]]]:
    """Yield the names of models, and the scores of each, from one folder or several."""
    named: dict[str, list[Path]] = defaultdict(list)
    for place in by_place:
        named[_name(place)].append(place)
    for name, places in named.items():
        together = [found for place in places for found in by_place[place]]
        if len({found.key for found in together}) == len(together):
            yield name, together
            continue
        apart = next(n for n in count(2) if len({p.parts[-n:] for p in places}) == len(places))
        for place in places:
            yield _name(place, apart), by_place[place]


def _notes(name: str, parts: Iterable[_FoundScores]) -> Iterator[str]:
    """Yield what a reader should know about the scores of a model."""
    for found in parts:
        if found.folds.undefined:
            yield f"{name} in {found.task}: {found.folds.remark}"
    if cut := dict.fromkeys(f.task for f in parts if not (f.folder / DONE).is_file()):
        yield (
            f"{name} in {', '.join(cut)}: there is no {DONE} beside the scores, as after an "
            "interrupted evaluation"
        )


def _name(folder: Path, parts: int = 1) -> str:
    """Return the last parts of a path as text that any file can hold."""
    return os.fsencode(Path(*folder.parts[-parts:]).as_posix()).decode(errors="replace")


def _part(folder: Path) -> str:
    """Return the part of a task in a folder: Beehive has the parts ``_fold0`` and ``_fold1``."""
    return "".join(re.findall(r"^[^-]*(_fold\d+)-", folder.name))


def _read(folder: Path) -> FoldScores:
    """Return the scores in a folder."""
    path = folder / SCORES
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path} cannot be read as JSON: {error}"
        raise ScoreError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} must hold a JSON object, but holds a {type(content).__name__}"
        raise ScoreError(msg)
    if not tested_folds(content):
        msg = f"{path} has no test_score: it is incomplete, or not written by an evaluation"
        raise ScoreError(msg)
    for name, fold in tested_folds(content).items():
        value = fold["test_score"]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or abs(value) > sys.float_info.max:
            msg = f"{path}: the test_score of {name} is {value!r}, which is not a score"
            raise ScoreError(msg)
    folds = fold_scores(content)
    if folds.undefined and math.isinf(folds.mean):
        msg = f"{path}: {folds.remark}"
        raise ScoreError(msg)
    return folds


def _score(found: list[_FoundScores]) -> TaskScore:
    """Return one score: Beehive has two folders, which count as folds."""
    first = found[0].folds
    folds = first._replace(values=tuple(value for part in found for value in part.folds.values))
    return TaskScore(folds.mean, folds.std, folds.metric, folds.lower_is_better)
