"""The leaderboard of HEAR: its tasks, the scores of its models, and their normalisation.

The scores are those of https://hearbenchmark.com/hear-leaderboard.html (Apache-2.0). Normalisation
is that of Schmid et al., "Low-Complexity Audio Embedding Extractors" (EUSIPCO 2023): a score is
divided by the best score of the challenge of 2021.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import NamedTuple

from hear_eval.tasks.published import hear_tasks

CHALLENGE = "HEAR 2021"
CATEGORIES = ("general", "music", "speech")
_ABOUT = ("Model", "URL", "Submission Date")


class TaskScore(NamedTuple):
    """The score of a model in a task, with the standard deviation over folds."""

    value: float
    std: float | None = None
    metric: str = ""
    lower_is_better: bool = False


@dataclass(frozen=True)
class ScoredModel:
    """A model and its scores.

    Args:
        name: Name of the model.
        scores: Scores by task: its name on the leaderboard, or that of its folder if it is not a
            task of HEAR.
        submitted: ``HEAR 2021``, or the date of its submission to the leaderboard; empty if it is
            not on it.
        url: Link to the model on the leaderboard.
    """

    name: str
    scores: Mapping[str, TaskScore] = field(default_factory=dict)
    submitted: str = ""
    url: str = ""


@cache
def categories() -> Mapping[str, str]:
    """Return the category of every task of the leaderboard."""
    return {task.leaderboard: task.category for task in hear_tasks()}


@cache
def leaderboard() -> tuple[ScoredModel, ...]:
    """Return the models on the leaderboard, in its order."""
    models = []
    for row in _rows("leaderboard.csv"):
        name, url, submitted = (row.pop(column) for column in _ABOUT)
        scores = {task: TaskScore(float(value)) for task, value in row.items() if value}
        models.append(ScoredModel(name, scores, submitted, url))
    return tuple(models)


@cache
def best_of_2021() -> Mapping[str, float]:
    """Return the best score of the challenge of 2021 in every task."""
    submissions = [model.scores for model in leaderboard() if model.submitted == CHALLENGE]
    return {
        task: max(scores[task].value for scores in submissions if task in scores)
        for task in categories()
    }


def task_of(folder: str) -> str:
    """Return the name of a task on the leaderboard for a folder, or the name of the folder.

    Folders are named as by HEAR, by task, version and mode. Another mode, such as ``small``, is
    another task.

    >>> task_of("nsynth_pitch-v2.2.3-5h"), task_of("beehive_states_fold1-v2-full")
    ('NSynth Pitch 5h', 'Beehive')
    >>> task_of("esc50-v2.0.0-small")
    'esc50-v2.0.0-small'
    """
    parts = folder.split("-")
    name, mode = re.sub(r"_fold\d+$", "", parts[0]), parts[-1]
    for task in hear_tasks():
        if (task.task, task.mode) == (name, mode):
            return task.leaderboard
    return folder


def normalised(model: ScoredModel) -> dict[str, float]:
    """Return the scores of a model in the tasks of HEAR, each divided by the best of 2021."""
    return {
        task: model.scores[task].value / divisor
        for task, divisor in best_of_2021().items()
        if task in model.scores
    }


def means(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the mean of normalised scores, as ``all``, and the mean of every category."""
    kept = {name: [scores[task] for task in tasks if task in scores] for name, tasks in _groups()}
    return {name: sum(values) / len(values) for name, values in kept.items() if values}


def _groups() -> list[tuple[str, list[str]]]:
    tasks = categories()
    return [
        ("all", list(tasks)),
        *((name, [task for task in tasks if tasks[task] == name]) for name in CATEGORIES),
    ]


def _rows(file: str) -> list[dict[str, str]]:
    text = resources.files("hear_eval.report").joinpath(file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
