"""``hear evaluate``: scores of embeddings in the tasks of HEAR."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hear_cli.option_groups import with_groups
from hear_cli.options import EvaluationOptions
from hear_cli.progress import progress_bar
from hear_cli.tables import print_table
from hear_core.errors import HearError
from hear_eval.downstream.evaluation import EvaluationProgress, EvaluationSettings, evaluate
from hear_eval.downstream.result_files import read_scores, task_folders
from hear_eval.downstream.results import FoldScores, fold_scores, metric_names
from hear_eval.tasks.description import METADATA, TaskError


@with_groups
def evaluate_command(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDERS",
            help="Folders of embeddings: of a task, of a model, or of several models.",
            exists=True,
        ),
    ],
    evaluation: EvaluationOptions = EvaluationOptions(),
    again: Annotated[
        bool, typer.Option("--again", help="Evaluate folders again that are done.")
    ] = False,
) -> None:
    """Train and test predictors on embeddings, by heareval's protocol.

    The scores are written into each folder, in heareval's files. A folder that is done is skipped,
    and an interrupted evaluation resumes when it is started again. A fold in which a metric is
    undefined counts as 0, and is named. The exit code is 1 if a folder could not be evaluated, or
    was evaluated with other options or other embeddings.
    """
    settings = evaluation.settings()
    rows, failed = [], 0
    for folder in _found(folders):
        done = not again and read_scores(folder) is not None
        try:
            scores = evaluate_folder(folder, settings, again=again)
        except HearError as error:
            typer.echo(f"hear: {error}", err=True)
            failed += 1
            continue
        if done:
            typer.echo(f"{folder} was done before; --again evaluates it again")
        found = [fold_scores(scores, metric) for metric in metric_names(scores)]
        rows += [(folder.absolute().parent.name, folder.name, *_row(folds)) for folds in found]
        for folds in found:
            if folds.undefined:
                typer.echo(f"{folder}: {folds.remark}")
    if rows:
        print_table(("model", "task", "metric", "mean", "over folds"), rows)
    if failed:
        typer.echo(f"hear: {failed} folders could not be evaluated", err=True)
        raise typer.Exit(1)


def evaluate_folder(
    folder: Path, settings: EvaluationSettings, *, again: bool = False
) -> dict[str, Any]:
    """Evaluate a folder of embeddings under a progress bar, and return its scores."""
    with progress_bar() as progress:
        bar = progress.add_task(folder.name, total=None, now="")

        def on_progress(state: EvaluationProgress) -> None:
            progress.update(bar, completed=state.done, total=state.of, now=state.doing)

        return evaluate(folder, settings, again=again, on_progress=on_progress)


def _found(folders: list[Path]) -> list[Path]:
    """Return the folders of embeddings in some folders."""
    found = task_folders(folders)
    if not found:
        listed = ", ".join(map(str, folders))
        msg = f"there are no embeddings in {listed}: no folder, down to two levels, has {METADATA}"
        raise TaskError(msg)
    return found


def _row(folds: FoldScores) -> tuple[str, str, str]:
    """Return a metric, its mean over folds, and their standard deviation."""
    spread = "" if folds.std is None else f"± {folds.std:.4f} ({len(folds.values)})"
    return folds.metric, f"{folds.mean:.4f}", spread
