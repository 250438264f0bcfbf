"""Comparison of models: normalised scores, means by category, and the tasks they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hear_eval.report.leaderboard import CATEGORIES, ScoredModel, categories, means, normalised

MEANS = ("common", "all", *CATEGORIES)


class StandingsRow(NamedTuple):
    """A model in a comparison.

    Args:
        model: Name and scores of the model.
        normalised: Scores in the tasks of HEAR, divided by the best of 2021.
        means: Means of these: ``all``, and every category that the model has a task of.
        common: Mean over the common tasks; None if the model lacks one of them.
    """

    model: ScoredModel
    normalised: dict[str, float]
    means: dict[str, float]
    common: float | None

    def mean(self, name: str) -> float | None:
        """Return one of `MEANS`; None if the model does not have it."""
        return self.common if name == "common" else self.means.get(name)


class Standings(NamedTuple):
    """Models in comparison.

    Args:
        rows: Models, the best first by the mean over the common tasks. Models without a task of
            HEAR cannot be ranked, and come before them.
        tasks: Tasks that one of the models has: those of HEAR by category, then the user's own.
        common: Tasks of HEAR that all evaluated models have.
        evaluated: Tasks of HEAR that at least one evaluated model has.
    """

    rows: tuple[StandingsRow, ...]
    tasks: tuple[str, ...]
    common: tuple[str, ...]
    evaluated: tuple[str, ...]

    @property
    def own_tasks(self) -> tuple[str, ...]:
        """Tasks that are not tasks of HEAR."""
        return tuple(task for task in self.tasks if task not in categories())

    @property
    def own_rows(self) -> tuple[StandingsRow, ...]:
        """Models that are not from the leaderboard."""
        return tuple(row for row in self.rows if not row.model.submitted)

    @property
    def means(self) -> tuple[str, ...]:
        """The means of `MEANS` that are known for a model."""
        return tuple(n for n in MEANS if any(row.mean(n) is not None for row in self.rows))


def compare_models(models: Sequence[ScoredModel], against: Sequence[ScoredModel] = ()) -> Standings:
    """Compare models.

    Args:
        models: Models that were evaluated.
        against: Models to compare them with, such as those of the leaderboard. They are left out if
            no task of HEAR was evaluated, since there is nothing to compare.
    """
    having = [set(normalised(model)) for model in models if normalised(model)]
    common = set.intersection(*having) if having else set()
    evaluated = set.union(*having) if having else set()
    everyone = [*models, *(against if evaluated else ())]
    rows = []
    for model in everyone:
        scores = normalised(model)
        shared = {task: scores[task] for task in common if task in scores}
        mean = means(shared)["all"] if common and len(shared) == len(common) else None
        rows.append(StandingsRow(model, scores, means(scores), mean))
    present = {task for model in everyone for task in model.scores}
    return Standings(
        tuple(sorted(rows, key=_place)),
        (*(t for t in categories() if t in present), *sorted(present - set(categories()))),
        tuple(task for task in categories() if task in common),
        tuple(task for task in categories() if task in evaluated),
    )


def percent(value: float | None) -> str:
    """Return a score in percent as text, such as 87.8 for 0.8776; "" for None."""
    return "" if value is None else f"{100 * value:.1f}"


def score_source(model: ScoredModel) -> str:
    """Return where the scores of a model are from."""
    return f"leaderboard, {model.submitted}" if model.submitted else "evaluated"


def _place(row: StandingsRow) -> tuple[bool, float, float, str]:
    lowest = -1.0
    common = lowest if row.common is None else row.common
    return bool(row.normalised), -common, -row.means.get("all", lowest), row.model.name


def remarks(standings: Standings) -> list[str]:
    """Return what a reader must know to compare the means."""
    if not standings.evaluated:
        return ["None of the evaluated tasks is one of HEAR's 19, so scores are not normalised."]
    if not standings.common:
        return ["The evaluated models share no task of HEAR, so their means cannot be compared."]
    if all(len(row.normalised) == len(standings.common) for row in standings.rows):
        return []
    return [
        "Models have different tasks, and a mean is over the tasks of the model. To compare "
        "models, use “common”, the mean over the tasks that every evaluated model has: "
        f"{_listed(standings.common)}."
    ]


def _listed(common: Sequence[str]) -> str:
    """Return the names of tasks of HEAR, or of all others if these are fewer."""
    lacking = [task for task in categories() if task not in common]
    if len(lacking) >= len(common):
        return ", ".join(common)
    return f"all tasks but {', '.join(lacking)}" if lacking else "all tasks"
