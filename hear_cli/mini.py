"""``hear mini``: plug-ins compared on three small tasks, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hear_cli.evaluate import evaluate_folder
from hear_cli.options import (
    AutoDevice,
    FolderName,
    Grid,
    GridPoints,
    ModelOptions,
    PluginWeights,
    Precision,
    Seed,
    check_single,
    load_options,
    plugin_device,
)
from hear_cli.progress import counting
from hear_cli.run import embed_task
from hear_cli.tables import print_table
from hear_core.errors import ConfigError, HearError
from hear_core.plugins.names import module_name
from hear_eval.downstream.evaluation import Options, differences
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
    model: PluginWeights = None,
    model_options: ModelOptions = "{}",
    called: FolderName = None,
    grid: Grid = "default",
    grid_points: GridPoints = 8,
    seed: Seed = 42,
    device: AutoDevice = "auto",
    precision: Precision = "auto",
) -> None:
    """Make mini-HEAR, embed and evaluate it with plug-ins, and print what they are worth.

    ESC-10 is in ESC-50, https://github.com/karolpiczak/ESC-50, the spoken digits among the open
    tasks of https://hearbenchmark.com/hear-tasks.html. What is done is kept in the output folder,
    so that the sounds are needed once, and a run that was cut off goes on. What was evaluated with
    other options is evaluated again. A module or a task that fails is named, with the reason, and
    the others go on; then the exit code is 1.
    """
    check_single(modules, called, model)
    if audio and not sounds:
        msg = f"{audio} is the folder of sounds, whose table is missing: give --sounds too"
        raise typer.BadParameter(msg, param_hint="--audio")
    folder = output / "tasks"
    if sounds or digits:
        with counting("tasks") as count:
            make_mini(folder, sounds, digits, audio=audio, progress=count)
    tasks = [path.parent for path in sorted(folder.glob(f"[!.]*/{METADATA}"))]
    if not tasks:
        msg = f"there are no tasks in {folder}: give --sounds to make them"
        raise ConfigError(msg)
    evaluation = Options(grid, grid_points, seed, device, precision)
    options, rows, failures = load_options(model_options), [], 0
    weights = str(model.absolute()) if model else ""
    for name in [module_name(name) for name in modules]:
        try:
            plugin = Plugin(name, weights, options, plugin_device(device))
        except HearError as error:
            typer.echo(f"hear: {error}", err=True)
            failures += len(tasks)
            continue
        embeddings = output / "embeddings" / (called or folder_name(name, options))
        scores = [_score(plugin, task, embeddings, evaluation) for task in tasks]
        known = [score for score in scores if score is not None]
        failures += len(tasks) - len(known)
        mean = sum(known) / len(known) if len(known) == len(tasks) else None
        size = str(plugin.size(timestamps=False) or "")
        cells = ("" if score is None else f"{score:.4f}" for score in (*scores, mean))
        rows.append([called or name, size, *cells])
    if rows:
        print_table(["module", "dimensions", *(task.name for task in tasks), "mean"], rows)
    if failures:
        of = len(modules) * len(tasks)
        said = f"{failures} of {of} could not be evaluated; start again once mended"
        typer.echo(f"hear: {said}", err=True)
        raise typer.Exit(1)


def _score(plugin: Plugin, task: Path, embeddings: Path, options: Options) -> float | None:
    """Embed and evaluate a task as far as that is not done, and return its score.

    If that fails, say why, and return None.
    """
    try:
        with counting(f"{task.name} at {plugin.sample_rate} Hz") as count:
            resampled = resample_task(task, plugin.sample_rate, count)
        for reason in resampled.failures.values():
            typer.echo(f"hear: {reason}", err=True)
        embed_task(plugin, task, embeddings)
        folder = embeddings / task.name
        again = bool(differences(folder, options))
        return primary_score(evaluate_folder(folder, options, again=again))
    except HearError as error:
        typer.echo(f"hear: {task.name} with {plugin.name}: {error}", err=True)
        return None
