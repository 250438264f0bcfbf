"""``hear mini``: plug-ins compared on three small tasks, in minutes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import TaskID

from hear_cli.option_groups import with_groups
from hear_cli.options import (
    EvaluationOptions,
    FolderName,
    Model,
    ModelOptions,
    check_single,
    load_options,
    module_names,
    plugin_device,
)
from hear_cli.outputs import check_output_folder
from hear_cli.progress import counting, progress_bar
from hear_cli.tables import print_table
from hear_core.errors import ConfigError, HearError
from hear_eval.benchmark import BenchmarkProgress, score_plugin
from hear_eval.downstream.evaluation import EvaluationSettings
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.tasks import folder_name
from hear_eval.mini import make_mini
from hear_eval.small_tasks import SMALL_TASKS, available_tasks, make_small_task
from hear_eval.tasks.description import METADATA

_PACKAGES = ", ".join(task.package for task in SMALL_TASKS.values() if task.package)


@with_groups
def mini(
    modules: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULES",
            help="Plug-in modules: mn04_e1_l, any importable ones, or checkpoints of your own.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for tasks, embeddings and scores.",
            callback=check_output_folder,
        ),
    ] = Path("mini"),
    sounds: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE", help="Table of ESC-10 or ESC-50, to make the tasks of.", exists=True
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the audio files that the table names.",
            show_default="that of the table",
        ),
    ] = None,
    digits: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="HEAR's spoken digits, as a folder or a .tar.gz.", exists=True
        ),
    ] = None,
    more: Annotated[
        bool,
        typer.Option(
            "--more",
            help="Add small tasks: synthetic notes, and sounds of Debian packages as far as "
            f"these are installed or extracted ({_PACKAGES}).",
        ),
    ] = False,
    packages: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder into which packages were extracted, for --more; repeat it for several.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    model: Model = None,
    model_options: ModelOptions = "{}",
    called: FolderName = None,
    evaluation: EvaluationOptions = EvaluationOptions(),
) -> None:
    """Compare plug-ins on mini-HEAR: make its tasks, embed and evaluate them.

    ESC-10 is part of ESC-50, https://github.com/karolpiczak/ESC-50, and the spoken digits are one
    of the open tasks of https://hearbenchmark.com/hear-tasks.html. Results stay in the output
    folder: the audio is needed once, and an interrupted run resumes when it is started again.
    Scores of other evaluation options are computed again. A module or a task that fails is named,
    and the others are evaluated; the exit code is 1 then.
    """
    check_single(modules, called, model)
    if audio and not sounds:
        msg = f"{audio} is the folder of sounds, whose table is missing: give --sounds too."
        raise typer.BadParameter(msg, param_hint="--audio")
    names, options = module_names(modules), load_options(model_options)
    folder = output / "tasks"
    if sounds or digits:
        with counting("tasks") as count:
            make_mini(folder, sounds, digits, audio=audio, progress=count)
    if more:
        _make_more(folder, packages or [])
    elif packages:
        msg = "packages are used by the tasks of --more: give --more too."
        raise typer.BadParameter(msg, param_hint="--packages")
    tasks = [path.parent for path in sorted(folder.glob(f"[!.]*/{METADATA}"))]
    if not tasks:
        msg = f"there are no tasks in {folder}: give --sounds or --more to make them"
        raise ConfigError(msg)
    settings, rows, failures = evaluation.settings(), [], 0
    weights = str(model.absolute()) if model else ""
    for name in names:
        try:
            plugin = Plugin(name, weights, options, plugin_device(evaluation.device))
        except HearError as error:
            typer.echo(f"hear: {error}", err=True)
            failures += len(tasks)
            continue
        embeddings = output / "embeddings" / (called or folder_name(name, options))
        scores = [_score(plugin, task, embeddings, settings) for task in tasks]
        known = [score for score in scores if score is not None]
        failures += len(tasks) - len(known)
        mean = sum(known) / len(known) if len(known) == len(tasks) else None
        size = str(plugin.size(timestamps=False) or "")
        cells = ("" if score is None else f"{score:.4f}" for score in (*scores, mean))
        rows.append([called or plugin.name, size, *cells])
    if rows:
        print_table(["module", "dimensions", *(task.name for task in tasks), "mean"], rows)
    if failures:
        count_ = f"{failures} of {len(modules) * len(tasks)}"
        typer.echo(f"hear: {count_} failed; fix the errors above and run it again", err=True)
        raise typer.Exit(1)


def _make_more(folder: Path, roots: Sequence[Path]) -> None:
    """Make the small tasks that are not in a folder yet, and name those without sounds."""
    available = available_tasks(roots)
    for name, task in SMALL_TASKS.items():
        if name not in available:
            text = f"{name} is left out: install the Debian package {task.package}, or extract it"
            typer.echo(f"hear: {text} and give its folder by --packages", err=True)
        elif not (folder / name).is_dir():
            with counting(name) as count:
                make_small_task(folder, name, available[name], progress=count)


def _score(
    plugin: Plugin, task: Path, embeddings: Path, settings: EvaluationSettings
) -> float | None:
    """Score a plug-in on a task under progress bars.

    If that fails, print the reason and return None.
    """
    try:
        with progress_bar() as progress:
            bars: dict[str, TaskID] = {}

            def on_progress(step: BenchmarkProgress) -> None:
                if step.stage not in bars:
                    name = f"{task.name}, {step.stage}"
                    bars[step.stage] = progress.add_task(name, total=None, now="")
                bar = bars[step.stage]
                progress.update(bar, completed=step.done, total=step.of, now=step.doing)

            return score_plugin(plugin, task, embeddings, settings, on_progress)
    except HearError as error:
        typer.echo(f"hear: {task.name} with {plugin.name}: {error}", err=True)
        return None
