"""``hear tasks``: HEAR tasks on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hear_cli.options import SampleRate
from hear_cli.progress import counting
from hear_cli.tables import print_table
from hear_cli.task_making import make
from hear_cli.task_mixing import mix
from hear_eval.tasks.checking import check_task
from hear_eval.tasks.description import METADATA, TaskError, task_folders_below
from hear_eval.tasks.published import hear_tasks
from hear_eval.tasks.resampling import resample_task

app = typer.Typer(help="Make, check, list and resample HEAR tasks on disk.", no_args_is_help=True)
app.command("make")(make)
app.command("mix")(mix)

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDERS", help="Tasks, and folders of tasks.", exists=True, file_okay=False
    ),
]


@app.command()
def resample(folders: Folders, sample_rate: SampleRate = 32000) -> None:
    """Add the audio of tasks at another sample rate; HEAR distributes 48000 Hz only.

    An interrupted run resumes when it is started again. A file that cannot be read is named, and
    does not stop the others; the exit code is 1 then.
    """
    failures = 0
    for task in _tasks(folders):
        with counting(task.name) as count:
            found = resample_task(task, sample_rate, count)
        kept = f", {found.kept} were there" if found.kept else ""
        typer.echo(f"{task}: {found.written} files written at {sample_rate} Hz{kept}")
        for reason in found.failures.values():
            typer.echo(f"hear: {reason}", err=True)
        failures += len(found.failures)
    if failures:
        typer.echo(f"hear: {failures} files could not be read", err=True)
        raise typer.Exit(1)


@app.command()
def check(folders: Folders) -> None:
    """List everything that is wrong with tasks, file by file; the exit code is 1 if anything is."""
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
    """Return the tasks in folders; a folder without any may count as a task itself."""
    found: list[Path] = []
    for folder in folders:
        below = task_folders_below(folder)
        if not below and not or_given:
            msg = f"there is no HEAR task in {folder}: no folder in it has a {METADATA}"
            raise TaskError(msg)
        found += below or [folder]
    return found
