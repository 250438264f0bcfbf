"""Models side by side: normalised scores, means by category, and what can be compared of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hear_eval.report.leaderboard import CATEGORIES, Model, categories, means, normalised

MEANS = ("common", "all", *CATEGORIES)


class Row(NamedTuple):
    """What is said of a model.

    Args:
        model: Its name and scores.
        normalised: Its scores divided by the best of 2021, in the tasks of HEAR.
        means: Of these: ``all``, and every category that it has a task of.
        common: The mean over the common tasks; None if it lacks one of them.
    """

    model: Model
    normalised: dict[str, float]
    means: dict[str, float]
    common: float | None

    def mean(self, name: str) -> float | None:
        """Return one of `MEANS`, or None if there is none."""
        return self.common if name == "common" else self.means.get(name)


class Standings(NamedTuple):
    """Models side by side.

    Args:
        rows: The best first, by the common tasks; before them models without a task of HEAR, which
            have no place among others.
        tasks: All of HEAR that one of the models has, those of a category together, and then those
            of one's own.
        common: The tasks of HEAR that all evaluated models have.
        evaluated: Those that at least one of them has.
    """

    rows: tuple[Row, ...]
    tasks: tuple[str, ...]
    common: tuple[str, ...]
    evaluated: tuple[str, ...]

    @property
    def own_tasks(self) -> tuple[str, ...]:
        """Tasks that are none of HEAR's."""
        return tuple(task for task in self.tasks if task not in categories())

    @property
    def own_rows(self) -> tuple[Row, ...]:
        """Models that were evaluated here."""
        return tuple(row for row in self.rows if not row.model.submitted)


def compare(models: Sequence[Model], against: Sequence[Model] = ()) -> Standings:
    """Put models side by side.

    Args:
        models: That were evaluated.
        against: Others, such as those of the leaderboard.
    """
    everyone = [*models, *against]
    having = [set(normalised(model)) for model in models if normalised(model)]
    common = set.intersection(*having) if having else set()
    evaluated = set.union(*having) if having else set()
    rows = []
    for model in everyone:
        scores = normalised(model)
        shared = {task: scores[task] for task in common if task in scores}
        mean = means(shared)["all"] if common and len(shared) == len(common) else None
        rows.append(Row(model, scores, means(scores), mean))
    present = {task for model in everyone for task in model.scores}
    return Standings(
        tuple(sorted(rows, key=_place)),
        (*(t for t in categories() if t in present), *sorted(present - set(categories()))),
        tuple(task for task in categories() if task in common),
        tuple(task for task in categories() if task in evaluated),
    )


def percent(value: float | None) -> str:
    """Write a normalised score: 0.8776 is 87.8, and none is nothing."""
    return "" if value is None else f"{100 * value:.1f}"


def source(model: Model) -> str:
    """Say where the scores of a model are from."""
    return f"leaderboard, {model.submitted}" if model.submitted else "evaluated"


def _place(row: Row) -> tuple[bool, float, float, str]:
    lowest = -1.0
    common = lowest if row.common is None else row.common
    return bool(row.normalised), -common, -row.means.get("all", lowest), row.model.name


def remarks(standings: Standings) -> list[str]:
    """Say what a reader must know to compare the means."""
    if not standings.evaluated:
        return ["None of the evaluated tasks is one of HEAR's 19, so that no score is normalised."]
    if not standings.common:
        return ["No task of HEAR is common to all evaluated models: their means do not compare."]
    if all(len(row.normalised) == len(standings.common) for row in standings.rows):
        return []
    return [
        "Models do not share the same tasks, and a mean is over those that a model has. What "
        f"compares is “common”, the mean over what every evaluated model has: "
        f"{_listed(standings.common)}."
    ]


def _listed(common: Sequence[str]) -> str:
    """Name tasks of HEAR, or those that are not among them if these are fewer."""
    lacking = [task for task in categories() if task not in common]
    if len(lacking) >= len(common):
        return ", ".join(common)
    return f"all tasks but {', '.join(lacking)}" if lacking else "all tasks"
