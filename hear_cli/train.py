"""``hear train``: training of networks by recipes, and the packing and selection of clips."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn
from typer.core import TyperGroup

from hear_cli.failures import report_skipped
from hear_cli.progress import counting
from hear_cli.train_classify import classify
from hear_core.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator

Data = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        "-d",
        metavar="PATH",
        help="Path of the data; repeat it for recipes that take several, such as distill.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Value of the recipe to replace, such as trainer.epochs=3.",
    ),
]


class _RecipeGroup(TyperGroup):
    """A group whose first word may be a recipe, which is an argument of its default command."""

    default_command = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_RecipeGroup, no_args_is_help=True)


@app.callback()
def train() -> None:
    """Train a network: hear train RECIPE RUN --data PATH.

    See `hear train run --help` for the options of a training, and `hear train --list` for the
    recipes.
    """


@app.command("run")
def run_recipe(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="Name of a recipe, or path of a YAML file.", show_default=False
        ),
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN", help="Folder of the run. An interrupted run in it is resumed."
        ),
    ] = None,
    data: Data = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Network to train, in place of the recipe's."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|TABLE",
            help="Table of the events of the recordings (filename, onset, offset, event_label), or "
            "folder of such tables by split. Without it, annotations of Audacity or Raven are read "
            "next to the recordings.",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Checkpoint to start from, in place of the recipe's."),
    ] = None,
    overrides: Overrides = None,
    listed: Annotated[bool, typer.Option("--list", help="List the recipes and exit.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe and exit.")] = False,
    precision: Annotated[
        str, typer.Option(help="Precision of the computation: no (float32), fp16 or bf16.")
    ] = "no",
    cpu: Annotated[bool, typer.Option("--cpu", help="Train on the CPU even with a GPU.")] = False,
    workers: Annotated[
        int, typer.Option(help="Number of processes that prepare batches.", min=0)
    ] = 2,
    log: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Further log besides log.csv: tensorboard or wandb."),
    ] = None,
) -> None:
    """Train a network by a recipe, or resume an interrupted run.

    The checkpoints in the folder describe their network, so that hear tag, listen, export and embed
    take them with no other option. Several processes share the work under torchrun or
    accelerate launch.
    """
    from hear_train.recipe_files import list_recipes, read_recipe, recipe_text

    if listed:
        for name in list_recipes():
            typer.echo(f"{name:<24} {read_recipe(name)['description']}")
        return
    if show:
        typer.echo(recipe_text(recipe), nl=False)
        return
    if not recipe or folder is None or not data:
        msg = "hear train needs a recipe, the folder of a run and --data: see hear train --help"
        raise ConfigError(msg)
    from hear_train.recipes import load_recipe
    from hear_train.runs import build

    replaced = [f"model.backbone={backbone}"] if backbone else []
    replaced += [f"data.labels={json.dumps(str(labels))}"] if labels else []
    loaded = load_recipe(recipe, [*replaced, *(overrides or [])])

    accelerator = make_accelerator(precision, cpu=cpu)
    training = build(
        loaded, data, folder, accelerator, start=start or "", workers=workers, logs=log or ()
    )
    console = Console(stderr=True)
    hidden = not (console.is_terminal and accelerator.is_main_process)
    columns = (*Progress.get_default_columns(), TextColumn("loss {task.fields[loss]:.5f}"))
    trainer = training.trainer
    with Progress(*columns, console=console, disable=hidden) as progress:
        done = trainer.position.step
        bar = progress.add_task("steps", total=trainer.total, completed=done, loss=0.0)

        def report(step: int, terms: Mapping[str, float]) -> None:
            progress.update(bar, completed=step, loss=terms["loss"])

        weights = training.run(report)
    if accelerator.is_main_process:
        skipped = {**training.dropped, **trainer.position.skipped}
        report_skipped(skipped)
        best = ", ".join(f"{name} {value:.3f}" for name, value in trainer.position.best.items())
        typer.echo(
            f"{weights}: after {trainer.position.step} steps; {len(skipped)} clips skipped"
            + (f"; {best}" if best else "")
        )


app.command("classify")(classify)


@app.command("select")
def select(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder that the mixtures are written to.")
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            "-d",
            metavar="PATH",
            help="Folder, audio file, table or HDF5 file; repeat it for several.",
        ),
    ],
    teacher: Annotated[str, typer.Option(help="Network that classifies the mixtures.")] = "mn04_as",
    keep_out: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Pattern of names to leave out, such as '5-*'."),
    ] = None,
    candidates: Annotated[int, typer.Option(help="Number of mixtures to draw.")] = 10000,
    per_class: Annotated[int, typer.Option(help="Number of mixtures to select per class.")] = 6,
    least: Annotated[
        float, typer.Option(help="Probability below which a mixture is not selected.")
    ] = 0.1,
    only: Annotated[
        str | None, typer.Option(help="Classes to select for, such as 'Train,Rain'.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of a mixture in seconds.")] = 5.0,
    synthetic: Annotated[float, typer.Option(help="Share of synthetic sounds.")] = 0.5,
    kinds: Annotated[
        tuple[float, float, float],
        typer.Option(help="Relative frequencies of noises, tones and train rides."),
    ] = (0.4, 0.25, 0.35),
    workers: Annotated[int, typer.Option(help="Number of processes.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the mixtures.")] = 0,
) -> None:
    """Select random mixtures that a teacher classifies confidently, as clips to train on."""
    from hear_core.zoo.labels import audioset_labels, select_classes
    from hear_train.data.mixtures import MixtureConfig
    from hear_train.selection import select_mixtures

    paths = select_mixtures(
        folder,
        tuple(data),
        teacher,
        keep_out=tuple(keep_out or ()),
        candidates=candidates,
        per_class=per_class,
        least=least,
        only=select_classes(only, audioset_labels()) if only else (),
        config=MixtureConfig(seconds=seconds, synthetic=synthetic, kinds=kinds),
        seed=seed,
        workers=workers,
    )
    typer.echo(f"{folder}: {len(paths)} of {candidates} mixtures")


@app.command("pack")
def pack(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT",
            help="HDF5 file to write, such as clips.hdf; a folder for all of AudioSet.",
        ),
    ],
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            "-d",
            metavar="PATH",
            help="Path of the data, as for training. All of AudioSet is the folder of its audio "
            "and that of its tables.",
        ),
    ],
    recipe: Annotated[
        str, typer.Option(metavar="RECIPE", help="Recipe for data with this layout.")
    ] = "finetune",
    split: Annotated[
        str, typer.Option(help="Split to pack: train, valid, test, or all of them.")
    ] = "all",
    layout: Annotated[
        str,
        typer.Option(
            help="Layout of the file: passt (mp3s, as PaSST packs AudioSet) or panns (waveforms of "
            "10 s as 16-bit integers)."
        ),
    ] = "passt",
    sample_rate: Annotated[
        int, typer.Option(help="Sample rate in Hz that clips are stored at.", min=1)
    ] = 32000,
    overrides: Overrides = None,
) -> None:
    """Pack a data set into one HDF5 file, or resume an interrupted packing.

    Files of clips are slow to open, most of all on a network drive. The packed file has the labels,
    splits and recordings of the clips, and takes the place of the data in the recipe finetune.
    Clips that cannot be read are counted, named and left out.

    hear train pack FOLDER --layout panns -d AUDIO -d TABLES packs AudioSet as PANNs does, in files
    of waveforms with indexes, for the recipe panns.
    """
    from hear_train.data.datasets import open_dataset
    from hear_train.data.hdf5 import is_packed

    if layout == "panns" and not is_packed(target):
        _pack_audioset(target, data)
        return
    from hear_train.data.packing import pack_clips
    from hear_train.recipes import load_recipe

    dataset = open_dataset(data, load_recipe(recipe, overrides or []).data)
    splits = {name: dataset.split(name) for name in ((split,) if split != "all" else ())} or {
        name: clips for name in ("train", "valid", "test") if (clips := getattr(dataset, name))
    }
    with counting("clips") as report:
        packed = pack_clips(
            target,
            splits,
            dataset.labels,
            layout=layout,
            sample_rate=sample_rate,
            report=report,
        )
    report_skipped(packed.failed)
    typer.echo(f"{target}: {packed.clips} clips; {len(packed.failed)} skipped")


def _pack_audioset(folder: Path, data: list[Path]) -> None:
    """Pack AudioSet with its indexes, and print what every file has."""
    from hear_train.data.panns import pack_audioset

    if len(data) != 2:
        msg = f"AudioSet is the folder of its audio and that of its tables, not {len(data)} paths"
        raise ConfigError(msg)
    reports: dict[str, Callable[[int, int], None]] = {}
    with ExitStack() as stack:

        def report(name: str, done: int, total: int) -> None:
            if name not in reports:
                stack.close()  # the bar of the file before
                reports[name] = stack.enter_context(counting(name))
            reports[name](done, total)

        audio, tables = data
        results = pack_audioset(audio, tables, folder, report)
    for name, result in results.items():
        if result is None:
            typer.echo(f"{name}: was there already")
            continue
        report_skipped(result.failed)
        missing, failed = len(result.missing), len(result.failed)
        typer.echo(f"{name}: {result.clips} clips; {missing} missing, {failed} unreadable")


def make_accelerator(precision: str, *, cpu: bool) -> Accelerator:
    """Return the device, precision and processes of a training.

    Raises:
        ConfigError: The extra ``train`` is not installed, or the precision does not work here.
    """
    try:
        from accelerate import Accelerator
    except ImportError as error:
        msg = f"training needs the extra train: pip install 'efficient-hear[train]' ({error})"
        raise ConfigError(msg) from error
    options: dict[str, Any] = {"mixed_precision": precision, "cpu": cpu}
    try:
        return Accelerator(**options)
    except ValueError as error:  # also of fp16 on a CPU
        msg = f"the precision {precision!r} does not work here: {error}"
        raise ConfigError(msg) from error
