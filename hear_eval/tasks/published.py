"""The nineteen tasks of HEAR, as data.

Kinds, metrics, lengths and clips are those of https://hearbenchmark.com/hear-tasks.html, folders
and sources those that hearpreprocess makes and takes, and licences what the authors of a corpus say
of it. Categories are those of Schmid et al., "Low-Complexity Audio Embedding Extractors" (EUSIPCO
2023). HEAR has the audio at https://zenodo.org/record/5887964.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import NamedTuple


class HearTask(NamedTuple):
    """A task of HEAR.

    Args:
        task: What the names of its folders begin with.
        leaderboard: What the leaderboard calls it.
        category: ``speech``, ``music`` or ``general``.
        mode: What the names of its folders end with.
        folders: What HEAR calls them: two for bees, of which there is a task for each of two folds.
        embedding: ``scene`` or ``event``.
        prediction: ``multiclass`` or ``multilabel``.
        splits: How it is split.
        seconds: Length of its clips; None if they differ.
        clips: How many there are.
        metric: Its first.
        licence: Of the corpus; empty where it is not known for certain.
        source: Where the corpus comes from.
    """

    task: str
    leaderboard: str
    category: str
    mode: str
    folders: tuple[str, ...]
    embedding: str
    prediction: str
    splits: str
    seconds: float | None
    clips: int
    metric: str
    licence: str
    source: str

    @property
    def hours(self) -> float | None:
        """Length of all clips; None where it is not known."""
        return None if self.seconds is None else self.clips * self.seconds / 3600


@cache
def hear_tasks() -> tuple[HearTask, ...]:
    """Return the tasks, those of a category together."""
    text = resources.files("hear_eval.tasks").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(map(_task, csv.DictReader(text.splitlines())))


def _task(row: dict[str, str]) -> HearTask:
    return HearTask(
        task=row["task"],
        leaderboard=row["leaderboard"],
        category=row["category"],
        mode=row["mode"],
        folders=tuple(row["folders"].split()),
        embedding=row["embedding"],
        prediction=row["prediction"],
        splits=row["splits"],
        seconds=float(row["seconds"]) if row["seconds"] else None,
        clips=int(row["clips"]),
        metric=row["metric"],
        licence=row["licence"],
        source=row["source"],
    )
