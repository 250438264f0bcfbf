"""``hear run``: embeddings of HEAR tasks, in the folders that heareval writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hear_cli.numbers import number
from hear_cli.options import (
    FolderName,
    Model,
    ModelOptions,
    PluginDevice,
    Tasks,
    TasksDir,
    check_single,
    load_options,
    module_names,
    plugin_device,
)
from hear_cli.outputs import check_output_folder
from hear_cli.progress import progress_bar
from hear_core.errors import HearError
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.tasks import BATCH_SAMPLES, TaskProgress, embed_task, folder_name
from hear_eval.tasks.description import find_tasks


def run(
    modules: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULES",
            help="Plug-in modules: mn04_e1_l, any importable ones, or checkpoints of your own.",
        ),
    ],
    tasks_dir: TasksDir = Path("tasks"),
    task: Tasks = None,
    embeddings_dir: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Folder for the embeddings.", callback=check_output_folder
        ),
    ] = Path("embeddings"),
    model: Model = None,
    model_options: ModelOptions = "{}",
    called: FolderName = None,
    device: PluginDevice = "auto",
    batch_samples: Annotated[
        int, number("Largest number of samples of audio in a batch.", 1, 10**10)
    ] = BATCH_SAMPLES,
) -> None:
    """Embed HEAR tasks with plug-ins, for `hear evaluate` or heareval.

    An interrupted run resumes when it is started again. A task or a module that fails is named,
    and the others are embedded; the exit code is 1 then.
    """
    check_single(modules, called, model)
    options = load_options(model_options)
    names = module_names(modules)
    tasks = find_tasks(tasks_dir, task or ["all"])
    weights = str(model.absolute()) if model else ""
    failures = 0
    for name in names:
        try:
            plugin = Plugin(name, weights, options, plugin_device(device))
        except HearError as error:
            typer.echo(f"hear: {error}", err=True)
            failures += len(tasks)
            continue
        folder = embeddings_dir / (called or folder_name(name, options))
        for path in tasks:
            try:
                done = embed_with_progress(plugin, path, folder, batch_samples)
                typer.echo(f"{folder / path.name}: {done}")
            except HearError as error:
                typer.echo(f"hear: {path.name} with {name}: {error}", err=True)
                failures += 1
    if failures:
        count = f"{failures} of {len(names) * len(tasks)}"
        typer.echo(f"hear: {count} failed; fix the errors above and run it again", err=True)
        raise typer.Exit(1)


def embed_with_progress(
    plugin: Plugin, task: Path, folder: Path, batch_samples: int = BATCH_SAMPLES
) -> str:
    """Embed a task under a progress bar, and return a summary of what was done."""
    with progress_bar() as progress:
        bar = progress.add_task(task.name, total=None, now="")

        def on_progress(step: TaskProgress) -> None:
            if step.clips == 0:
                progress.update(bar, total=step.left)
            progress.update(bar, advance=step.clips, now=step.split)

        done = embed_task(
            plugin,
            task,
            folder / task.name,
            batch_samples=batch_samples,
            on_progress=on_progress,
        )
    if not done.clips:
        return "done before"
    speed = f"{done.seconds / done.elapsed:.0f} s of audio per second"
    return f"{done.clips} clips, {done.seconds:.0f} s in {done.elapsed:.1f} s: {speed}"
