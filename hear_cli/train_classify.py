"""``hear train classify``: a classifier for sounds of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hear_cli import options
from hear_cli.failures import report_skipped
from hear_cli.progress import progress_bar
from hear_core.errors import ConfigError

if TYPE_CHECKING:
    from hear_train.classify.training import TrainedClassifier


def classify(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN", help="Folder of the run. An interrupted run in it is resumed."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            metavar="FOLDER|TABLE",
            help="Folder with a folder for each class, or table with the columns filename and "
            "label, and optionally fold, split or recording.",
        ),
    ] = None,
    background: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Folder or file of background, which holds none of the classes; repeat it "
            "for several.",
            show_default="classes called background or noise",
        ),
    ] = None,
    module: Annotated[
        str | None,
        typer.Option(
            "--module",
            "-m",
            metavar="NAME",
            help="Plug-in module, backbone or checkpoint whose embeddings are classified.",
            show_default="mn10_all_b_mel_avgs",
        ),
    ] = None,
    model: options.Model = None,
    unfreeze: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Fine-tune the last N blocks of the network as well.", min=0
        ),
    ] = None,
    test_fold: Annotated[
        int | None,
        typer.Option(metavar="N", help="Numbered fold that is tested on and never trained on."),
    ] = None,
    false_alarms: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Largest number of false alarms per hour of background and class.",
            show_default="no limit",
            min=0,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Value of the recipe to replace, such as window=3."
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe and exit.")] = False,
    device: options.Device = "cpu",
    random_weights: options.RandomWeights = False,
) -> None:
    """Train a classifier for sounds of your own on the embeddings of a network.

    Clips of one recording stay together, see `group` in the recipe. The folder of the run gets
    the classifier, report.html and predictions.csv. Its path is the name of the classifier: hear
    tag new/*.wav --model RUN, hear listen --model RUN, hear export RUN birds.onnx.
    """
    from hear_train.recipe_files import recipe_text

    if show:
        typer.echo(recipe_text("classify"), nl=False)
        return
    from hear_train.classify.training import load_config, train_classifier

    if folder is None or data is None:
        msg = "hear train classify needs the folder of a run and --data: see its --help"
        raise ConfigError(msg)
    given = {
        "module": module,
        "test_fold": test_fold,
        "false_alarms": false_alarms,
        "fine_tuning.blocks": unfreeze,
    }
    replaced = [f"{key}={value}" for key, value in given.items() if value is not None]
    config = load_config(overrides=[*replaced, *(overrides or [])])
    accelerator = None
    if config.fine_tuning.blocks:
        from hear_cli.train import make_accelerator

        accelerator = make_accelerator("no", cpu=device == "cpu")
    with progress_bar() as progress:
        bars: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total, now="")
            progress.update(bars[stage], completed=done, total=total)

        found = train_classifier(
            config,
            data,
            folder,
            background or (),
            model=model or "",
            random_weights=random_weights,
            device=device,
            accelerator=accelerator,
            progress=report,
        )
    _print(found)


def _print(found: TrainedClassifier) -> None:
    for note in found.notes:
        typer.echo(f"hear: {note}", err=True)
    report_skipped(found.failed)
    scored = found.scored
    width = max(len(row.label) for row in scored.classes)
    typer.echo(f"{'class':{width}}  clips  precision  recall     AP  threshold  false alarms/h")
    for row in scored.classes:
        numbers = (row.precision, row.recall, row.average_precision, row.threshold)
        precision, recall, average, threshold = map(_number, numbers)
        alarms = _number(row.false_alarms, 1)
        typer.echo(
            f"{row.label:{width}}  {row.clips:5d}  {precision:>9}  {recall:>6}  {average:>5}  "
            f"{threshold:>9}  {alarms:>14}"
        )
    folds = ", ".join(f"{value:.4f}" for value in scored.accuracies.values())
    kind = "linear head" if not found.head.hidden else f"hidden layer of {found.head.hidden}"
    typer.echo(
        f"accuracy {_number(scored.accuracy, 4)} (folds: {folds}), mAP {_number(scored.mAP, 4)}, "
        f"{_number(scored.false_alarms, 1)} false alarms per hour of background; {kind}; "
        f"{len(found.failed)} clips skipped"
    )
    typer.echo(f"{found.checkpoint}, {found.report.name}, {found.predictions.name}")


def _number(value: float, digits: int = 3) -> str:
    return "-" if value != value else f"{value:.{digits}f}"
