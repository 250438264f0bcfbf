"""``hear report``: scores of models as tables, a page and pictures."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hear_cli.tables import print_table
from hear_eval.report.leaderboard import leaderboard
from hear_eval.report.results import read_results
from hear_eval.report.standings import MEANS, Standings, compare, percent
from hear_eval.report.writing import write_report

_SHOWN = 5


class Against(StrEnum):
    """What evaluated models are compared with."""

    leaderboard = "leaderboard"
    none = "none"


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders of embeddings: of models, or of all of them.", exists=True),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for it.")] = Path("report"),
    against: Annotated[
        Against, typer.Option(help="The leaderboard of HEAR, or nothing.")
    ] = Against.leaderboard,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="They need the extra 'plot'.")
    ] = False,
) -> None:
    """Put the scores that heareval left beside embeddings into tables, a page and pictures.

    Scores are divided by the best of the challenge of 2021. The exit code is 1 if some could not be
    read.
    """
    results = read_results(folders)
    others = leaderboard() if against is Against.leaderboard else ()
    files = write_report(results, output, against=others, draw=not no_pictures)
    _print(compare(results.models))
    typer.echo(f"{output}: {', '.join(file.name for file in files)}")
    if results.waiting:
        _list("folders are not evaluated yet", [str(folder) for folder in results.waiting])
    if results.problems:
        _list("scores are left out", list(results.problems))
        raise typer.Exit(1)


def _print(standings: Standings) -> None:
    """Print means of normalised scores, and the scores in tasks that are none of HEAR's."""
    names = [name for name in MEANS if any(row.mean(name) is not None for row in standings.rows)]
    lines = []
    for row in standings.rows:
        scores = [row.model.scores.get(task) for task in standings.own_tasks]
        own = [f"{score.value:.4f}" if score else "" for score in scores]
        shown = [percent(row.mean(name)) for name in names]
        lines.append([row.model.name, f"{len(row.normalised)}", *shown, *own])
    print_table(["model", "tasks", *names, *standings.own_tasks], lines)


def _list(what: str, lines: list[str]) -> None:
    typer.echo(f"{len(lines)} {what}:", err=True)
    for line in lines[:_SHOWN]:
        typer.echo(f"  {line}", err=True)
    if len(lines) > _SHOWN:
        typer.echo(f"  and {len(lines) - _SHOWN} more", err=True)
