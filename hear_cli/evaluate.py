"""``hear evaluate``: what embeddings are worth for the tasks of HEAR."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hear_cli.tables import print_table
from hear_core.errors import HearError
from hear_eval.description import METADATA, TaskError
from hear_eval.evaluation import Options, State, evaluate
from hear_eval.evaluation_files import read_scores
from hear_eval.grid import GRIDS


def evaluate_command(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of embeddings, or folders of those.", exists=True)
    ],
    grid_points: Annotated[int, typer.Option(help="Points of the grid to try.", min=1)] = 8,
    grid: Annotated[str, typer.Option(help=f"{', '.join(GRIDS)}.")] = "default",
    seed: Annotated[int, typer.Option(help="Another seed tries other points.", min=0)] = 42,
    device: Annotated[str, typer.Option(help="Such as cpu or cuda; auto is a GPU.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or the faster.")] = "auto",
    again: Annotated[bool, typer.Option("--again", help="Evaluate what is done before.")] = False,
) -> None:
    """Train and test predictors on folders of embeddings, as heareval does.

    The scores are written into each folder as heareval writes them. A folder that is done is left
    out, and one that was cut off goes on. The exit code is 1 if a folder could not be evaluated.
    """
    options = Options(grid, grid_points, seed, device, precision)
    rows, failed = [], 0
    for folder in _found(folders):
        if not again and read_scores(folder) is not None:
            typer.echo(f"{folder} was done before; --again evaluates it again")
        try:
            with _progress(folder.name) as on_state:
                scores = evaluate(folder, options, again=again, on_state=on_state)
        except HearError as error:
            typer.echo(f"hear: {error}", err=True)
            failed += 1
            continue
        rows += [(folder.name, *row) for row in _rows(scores)]
    if rows:
        print_table(("task", "score", "mean", "over folds"), rows)
    if failed:
        raise typer.Exit(1)


def _found(folders: list[Path]) -> list[Path]:
    """Return the folders of embeddings in some folders."""
    found = {path.parent: None for folder in folders for path in sorted(folder.rglob(METADATA))}
    if not found:
        msg = f"no embeddings in {', '.join(map(str, folders))}: nothing has a {METADATA}"
        raise TaskError(msg)
    return list(found)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[State], None]]:
    """Show how far an evaluation is, where someone can see it."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(name, total=None, doing="")

        def on_state(state: State) -> None:
            progress.update(bar, completed=state.done, total=state.of, doing=state.doing)

        yield on_state


def _rows(scores: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield each test score, its mean, and by how much folds differ from it."""
    folds = [part for part in scores.values() if isinstance(part, dict) and "test_score" in part]
    together = scores.get("aggregated_scores", {})
    for name in folds[0]:
        score = name.removeprefix("test_")
        if score == name or score in ("score", "loss"):
            continue
        mean = together.get(f"{name}_mean", folds[0][name])
        spread = together.get(f"{name}_std")
        yield score, f"{mean:.4f}", "" if spread is None else f"± {spread:.4f} ({len(folds)})"
