"""The nineteen tasks of HEAR, as data.

Types, metrics, lengths and numbers of clips are those of https://hearbenchmark.com/hear-tasks.html,
folders and sources those of hearpreprocess, and licences those that the authors of a corpus state.
Categories are those of Schmid et al., "Low-Complexity Audio Embedding Extractors" (EUSIPCO 2023).
HEAR publishes the audio at https://zenodo.org/record/5887964.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import NamedTuple


class HearTask(NamedTuple):
    """A task of HEAR.

    Args:
        task: Prefix of the names of its folders.
        leaderboard: Name on the leaderboard.
        category: ``speech``, ``music`` or ``general``.
        mode: Suffix of the names of its folders.
        folders: Names of its folders: two for Beehive, which has a task for each of two folds.
        embedding: ``scene`` or ``event``.
        prediction: ``multiclass`` or ``multilabel``.
        splits: Split mode.
        seconds: Length of every clip in seconds; None if lengths differ.
        clips: Number of clips.
        metric: First metric.
        licence: Licence of the corpus; empty if it is not known for certain.
        source: Origin of the corpus.
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
        """Total length of the clips in hours; None if it is not known."""
        return None if self.seconds is None else self.clips * self.seconds / 3600


@cache
def hear_tasks() -> tuple[HearTask, ...]:
    """Return the tasks, grouped by category."""
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
