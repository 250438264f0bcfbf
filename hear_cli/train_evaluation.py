"""``hear test``: metrics of a network on the data set of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hear_cli import options
from hear_cli.failures import report_skipped


def evaluate_recipe(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Recipe whose data set and metrics are used.")
    ],
    data: Annotated[
        list[Path], typer.Option("--data", "-d", metavar="PATH", help="Path of the data.")
    ],
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            "--detector",
            metavar="NAME",
            help="Network whose released weights are tested.",
        ),
    ] = "",
    model: options.Model = None,
    split: Annotated[str, typer.Option(help="Split to test on: train, valid or test.")] = "test",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Value of the recipe to replace, such as data.fold=2.",
        ),
    ] = None,
    per_class: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV file to write the metrics of every class to."),
    ] = None,
    device: options.Device = "cpu",
) -> None:
    """Compute the metrics of a network on the data set of a recipe.

    A clip that cannot be read is counted, named and left out.
    """
    from hear_train.evaluation import write_per_class
    from hear_train.recipes import load_recipe
    from hear_train.runs import evaluate_network

    loaded = load_recipe(recipe, overrides or [])
    labels, predictions = evaluate_network(
        loaded, data, backbone, model or "", split=split, device=device
    )
    if per_class is not None:
        write_per_class(per_class, labels, predictions)
    report_skipped(predictions.failed)
    typer.echo(
        f"{model or backbone}, {split} split of {recipe}: {len(predictions.names)} clips, "
        f"{len(predictions.failed)} skipped"
    )
    for metric, value in predictions.metrics(loaded.evaluation.metrics).items():
        typer.echo(f"  {metric}: {value:.3f}")
