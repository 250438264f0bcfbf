"""The nineteen tasks of HEAR, as data.

Kinds, metrics, lengths and clips are those of https://hearbenchmark.com/hear-tasks.html, folders
and sources those that hearpreprocess makes and takes, categories those of
https://arxiv.org/abs/2303.01879, and licences what the authors of a corpus say of it. HEAR has the
audio at https://zenodo.org/record/5887964.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from typing import NamedTuple


class PublishedTask(NamedTuple):
    """A task of HEAR.

    Args:
        leaderboard: What the leaderboard calls it.
        folders: What HEAR calls its folders: two for bees, which have a task for each of two folds.
        category: ``speech``, ``music`` or ``general``.
        embedding: ``scene`` or ``event``.
        prediction: ``multiclass`` or ``multilabel``.
        splits: How it is split.
        seconds: Length of its clips; None if they differ.
        clips: How many there are.
        metric: Its first.
        licence: Of the corpus; empty where it is not known for certain.
        source: Where the corpus comes from.
    """

    leaderboard: str
    folders: tuple[str, ...]
    category: str
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


def published_tasks() -> list[PublishedTask]:
    """Return the tasks in the order of the leaderboard."""
    text = files("hear_eval").joinpath("hear_tasks.csv").read_text(encoding="utf-8")
    return [
        PublishedTask(
            leaderboard=row["leaderboard"],
            folders=tuple(row["task"].split()),
            category=row["category"],
            embedding=row["embedding"],
            prediction=row["prediction"],
            splits=row["splits"],
            seconds=float(row["seconds"]) if row["seconds"] else None,
            clips=int(row["clips"]),
            metric=row["metric"],
            licence=row["licence"],
            source=row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    ]
