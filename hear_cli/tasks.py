"""``hear tasks``: HEAR tasks on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hear_cli.progress import counting
from hear_cli.tables import print_table
from hear_cli.task_making import make
from hear_cli.task_mixing import mix
from hear_eval.tasks.checking import check_task
from hear_eval.tasks.description import METADATA, TaskError, task_folders_below
from hear_eval.tasks.published import hear_tasks
from hear_eval.tasks.resampling import resample_task

app = typer.Typer(help="HEAR tasks on disk: make, check and list them, bring them to another rate.")
app.command("make")(make)
app.command("mix")(mix)

Folders = Annotated[
    list[Path], typer.Argument(help="Tasks, and folders of tasks.", exists=True, file_okay=False)
]


@app.command()
def resample(
    folders: Folders,
    rate: Annotated[int, typer.Option(help="Sample rate wanted, in Hz.", min=1)] = 32000,
) -> None:
    """Add the audio of tasks at another rate; HEAR distributes 48000 Hz only.

    A run that was cut off goes on where it stopped. A file that cannot be read is named, and the
    others are done; then the exit code is 1.
    """
    failures = 0
    for task in _tasks(folders):
        with counting(task.name) as count:
            found = resample_task(task, rate, count)
        kept = f", {found.kept} were there" if found.kept else ""
        typer.echo(f"{task}: {found.written} files written at {rate} Hz{kept}")
        for reason in found.failures.values():
            typer.echo(f"hear: {reason}", err=True)
        failures += len(found.failures)
    if failures:
        typer.echo(f"hear: {failures} files could not be read", err=True)
        raise typer.Exit(1)


@app.command()
def check(folders: Folders) -> None:
    """Say all that is wrong with tasks, file by file; the exit code is 1 if something is."""
    wrong = False
    for task in _tasks(folders, or_given=True):
        with counting(task.name) as count:
            found = check_task(task, count)
        for problem in found.problems:
            typer.echo(f"{task / problem.file} {problem.reason}")
        rates = ", ".join(map(str, found.sample_rates)) or "no"
        size = f"{found.clips} clips in {len(found.splits)} splits, at {rates} Hz"
        typer.echo(f"{task}: {size}: {len(found.problems) or 'nothing'} wrong")
        wrong = wrong or bool(found.problems)
    if wrong:
        raise typer.Exit(1)


@app.command("list")
def list_tasks() -> None:
    """List the nineteen tasks of HEAR."""
    columns = ("task", "folder", "category", "type", "splits", "clips", "hours", "metric")
    print_table(
        (*columns, "licence", "source"),
        [
            (
                task.leaderboard,
                "\n".join(task.folders),
                task.category,
                f"{task.embedding}, {task.prediction}",
                task.splits,
                str(task.clips),
                "" if task.hours is None else f"{task.hours:.1f}",
                task.metric,
                task.licence,
                task.source,
            )
            for task in hear_tasks()
        ],
    )


def _tasks(folders: list[Path], *, or_given: bool = False) -> list[Path]:
    """Return the tasks in folders; a folder without any is one itself if it was given as such."""
    found: list[Path] = []
    for folder in folders:
        below = task_folders_below(folder)
        if not below and not or_given:
            msg = f"no HEAR task in {folder}: nothing in it has a {METADATA}"
            raise TaskError(msg)
        found += below or [folder]
    return found
