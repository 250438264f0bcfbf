"""``hear run``: embeddings of HEAR tasks, in the folders that heareval writes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hear_cli.options import FolderName, ModelOptions, PluginWeights, check_single, load_options
from hear_cli.progress import progress_bar
from hear_core.errors import HearError
from hear_core.plugins.names import module_name
from hear_eval.embeddings.of_tasks import BATCH_SAMPLES, folder_name, run_task
from hear_eval.embeddings.plugin import Plugin
from hear_eval.tasks.description import find_tasks

EMBEDDINGS = Path("embeddings")


def run(
    modules: Annotated[
        list[str], typer.Argument(help="Plug-in modules: mn04_e1_l, or any importable ones.")
    ],
    tasks_dir: Annotated[Path, typer.Option(help="Folder of the tasks.")] = Path("tasks"),
    task: Annotated[
        list[str] | None, typer.Option(help="Of that folder, repeat for several; default: all.")
    ] = None,
    embeddings_dir: Annotated[Path, typer.Option(help="Folder for the embeddings.")] = EMBEDDINGS,
    model: PluginWeights = None,
    model_options: ModelOptions = "{}",
    called: FolderName = None,
    device: Annotated[str, typer.Option(help="Such as cpu; default: the GPU if any.")] = "",
    batch_samples: Annotated[
        int, typer.Option(help="Most samples of audio in a batch.", min=1)
    ] = BATCH_SAMPLES,
) -> None:
    """Embed HEAR tasks with any plug-in, for heareval's predictions or ours.

    A run that was cut off goes on where it stopped. A task that cannot be embedded is named, with
    the reason, and the others are; then the exit code is 1.
    """
    check_single(modules, called)
    options = load_options(model_options)
    names = [module_name(name) for name in modules]
    tasks = find_tasks(tasks_dir, task or ["all"])
    failures = 0
    for name in names:
        try:
            plugin = Plugin(name, str(model.absolute()) if model else "", options, device)
        except HearError as error:
            typer.echo(f"hear: {error}", err=True)
            failures += len(tasks)
            continue
        folder = embeddings_dir / (called or folder_name(name, options))
        for path in tasks:
            try:
                done = embed_task(plugin, path, folder, batch_samples)
                typer.echo(f"{folder / path.name}: {done}")
            except HearError as error:
                typer.echo(f"hear: {path.name} with {name}: {error}", err=True)
                failures += 1
    if failures:
        count = f"{failures} of {len(names) * len(tasks)}"
        typer.echo(f"hear: {count} could not be embedded; start again once mended", err=True)
        raise typer.Exit(1)


def embed_task(plugin: Plugin, task: Path, folder: Path, batch_samples: int = BATCH_SAMPLES) -> str:
    """Embed a task with a progress bar, and say what was done."""
    start, clips, seconds = time.perf_counter(), 0, 0.0
    steps = run_task(plugin, task, folder / task.name, batch_samples=batch_samples)
    with progress_bar() as progress:
        bar = progress.add_task(task.name, total=None, now="")
        for step in steps:
            clips, seconds = clips + step.clips, seconds + step.seconds
            total = clips + step.left
            progress.update(bar, total=total, completed=clips, now=step.split)
    if not clips:
        return "done before"
    elapsed = time.perf_counter() - start
    speed = seconds / elapsed
    return f"{clips} clips, {seconds:.0f} s in {elapsed:.1f} s: {speed:.0f} s of audio per second"
