"""``hear report``: scores of models as tables, a page and pictures."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hear_cli.outputs import check_output_folder
from hear_cli.tables import print_table
from hear_eval.report.leaderboard import leaderboard
from hear_eval.report.results import read_results
from hear_eval.report.standings import MEANS, Standings, compare_models, percent
from hear_eval.report.writing import write_report

_SHOWN = 5


class Against(StrEnum):
    """Models that evaluated ones are compared with."""

    leaderboard = "leaderboard"
    none = "none"


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDERS",
            help="Folders of embeddings: of a model, or of several models.",
            exists=True,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for the report.",
            callback=check_output_folder,
        ),
    ] = Path("report"),
    against: Annotated[
        Against, typer.Option(help="Models to compare with: those of HEAR's leaderboard, or none.")
    ] = Against.leaderboard,
    no_pictures: Annotated[
        bool,
        typer.Option("--no-pictures", help="Draw no pictures, which need the extra 'plot'."),
    ] = False,
) -> None:
    """Write scores as tables, a web page and pictures, beside HEAR's leaderboard.

    Means are over scores divided by the best of the challenge of 2021. The exit code is 1 if some
    scores could not be read.
    """
    results = read_results(folders)
    others = leaderboard() if against is Against.leaderboard else ()
    files = write_report(results, output, against=others, draw=not no_pictures)
    _print(compare_models(results.models))
    typer.echo(f"{output}: {', '.join(file.name for file in files)}")
    if results.waiting:
        _list("folders are not evaluated yet", [str(folder) for folder in results.waiting])
    if results.problems:
        _list("scores are left out", list(results.problems))
        raise typer.Exit(1)


def _print(standings: Standings) -> None:
    """Print means of normalised scores, and the scores in the user's own tasks, in percent."""
    names = [name for name in MEANS if any(row.mean(name) is not None for row in standings.rows)]
    lines = []
    for row in standings.rows:
        scores = [row.model.scores.get(task) for task in standings.own_tasks]
        own = [percent(score.value) if score else "" for score in scores]
        shown = [percent(row.mean(name)) for name in names]
        lines.append([row.model.name, f"{len(row.model.scores)}", *shown, *own])
    print_table(["model", "tasks", *names, *standings.own_tasks], lines)


def _list(what: str, lines: list[str]) -> None:
    typer.echo(f"{len(lines)} {what}:", err=True)
    for line in lines[:_SHOWN]:
        typer.echo(f"  {line}", err=True)
    if len(lines) > _SHOWN:
        typer.echo(f"  and {len(lines) - _SHOWN} more", err=True)
