"""``hear tasks``: HEAR tasks on disk."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from hear_eval.tasks import Clip, TaskError, make_scene_task, resample_task

app = typer.Typer(help="HEAR tasks on disk: make one, bring it to another rate.")


@app.command()
def resample(
    folder: Annotated[Path, typer.Argument(help="A task, or a folder of tasks.")],
    rate: Annotated[int, typer.Option(help="Sample rate wanted, in Hz.")] = 32000,
) -> None:
    """Add the audio of a task at another rate; HEAR distributes 48000 Hz only."""
    tasks = sorted(path.parent for path in folder.glob("**/task_metadata.json"))
    if not tasks:
        msg = f"no HEAR task in {folder}: nothing in it has a task_metadata.json"
        raise TaskError(msg)
    for task in tasks:
        typer.echo(f"{task}: {resample_task(task, rate)} files written at {rate} Hz")


@app.command()
def make(
    table: Annotated[
        Path, typer.Argument(help="CSV with the columns filename, category, fold.", exists=True)
    ],
    output: Annotated[Path, typer.Argument(help="Folder to put the task into.")],
    audio: Annotated[
        Path | None, typer.Option(help="Folder of the audio files; default: beside the table.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the task; default: of the table.")] = None,
    seconds: Annotated[float, typer.Option(help="Length every clip is brought to.")] = 5.0,
    rate: Annotated[int, typer.Option(help="Sample rate of the task's audio, in Hz.")] = 32000,
) -> None:
    """Make a scene classification task of labelled clips, such as ESC-50."""
    folder = audio or table.parent
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = {"filename", "category", "fold"}
    if not rows or not wanted <= set(rows[0]):
        msg = f"{table} must have rows, and the columns filename, category and fold"
        raise TaskError(msg)
    clips = [
        Clip(folder / row["filename"], row["category"], f"fold{row['fold']:>02}") for row in rows
    ]
    task = make_scene_task(output, name or table.stem, clips, seconds=seconds, sample_rate=rate)
    typer.echo(f"{task}: {len(clips)} clips")
