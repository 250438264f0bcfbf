"""``hear mini``: plug-ins compared on three small tasks, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hear_cli.evaluate import evaluate_folder
from hear_cli.names import importable
from hear_cli.options import Grid, GridPoints, ModelOptions, load_options
from hear_cli.progress import counting
from hear_cli.run import embed_task
from hear_cli.tables import print_table
from hear_core.errors import ConfigError
from hear_eval.downstream.evaluation import Options
from hear_eval.downstream.results import primary_score
from hear_eval.embeddings.of_tasks import folder_name
from hear_eval.embeddings.plugin import Plugin
from hear_eval.mini import make_mini
from hear_eval.tasks.description import METADATA
from hear_eval.tasks.resampling import resample_task


def mini(
    modules: Annotated[
        list[str], typer.Argument(help="Plug-in modules: mn04_e1_l, or any importable ones.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for tasks, embeddings and scores.")
    ] = Path("mini"),
    sounds: Annotated[
        Path | None, typer.Option(help="Table of ESC-10 or ESC-50, to make tasks of.", exists=True)
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Folder of its sounds; default: that of the table.")
    ] = None,
    digits: Annotated[
        Path | None, typer.Option(help="HEAR's spoken digits, folder or .tar.gz.", exists=True)
    ] = None,
    model_options: ModelOptions = "{}",
    grid: Grid = "default",
    grid_points: GridPoints = 8,
    seed: Annotated[int, typer.Option(help="Of the evaluations.", min=0)] = 42,
) -> None:
    """Make mini-HEAR, embed and evaluate it with plug-ins, and print what they are worth.

    ESC-10 is in ESC-50, https://github.com/karolpiczak/ESC-50, the spoken digits among the open
    tasks of https://hearbenchmark.com/hear-tasks.html. What is done is kept in the output folder,
    so that the sounds are needed once, and a run that was cut off goes on.
    """
    folder = output / "tasks"
    if sounds:
        with counting("tasks") as count:
            make_mini(folder, sounds, digits, audio=audio, progress=count)
    tasks = [path.parent for path in sorted(folder.glob(f"[!.]*/{METADATA}"))]
    if not tasks:
        msg = f"there are no tasks in {folder}: give --sounds to make them"
        raise ConfigError(msg)
    evaluation = Options(grid, grid_points, seed)
    options, rows = load_options(model_options), []
    for name in map(importable, modules):
        plugin = Plugin(name, "", options)
        embeddings = output / "embeddings" / folder_name(name, options)
        scores = []
        for task in tasks:
            with counting(f"{task.name} at {plugin.sample_rate} Hz") as count:
                resample_task(task, plugin.sample_rate, count)
            embed_task(plugin, task, embeddings)
            found = evaluate_folder(embeddings / task.name, evaluation)
            scores.append(primary_score(found))
        size = plugin.size(timestamps=False)
        mean = sum(scores) / len(scores)
        rows.append([name, str(size), *(f"{score:.4f}" for score in (*scores, mean))])
    print_table(["module", "dimensions", *(task.name for task in tasks), "mean"], rows)
