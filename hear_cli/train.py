"""``hear train``: training, and distillation of a large tagger into a small one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn

from hear_core.errors import ConfigError

_SHOWN = 10  # clips that were skipped

app = typer.Typer(help="Train small networks, from larger ones.")


@app.callback()
def train() -> None:
    """Train small networks, from larger ones."""


@app.command()
def distill(
    folder: Annotated[Path, typer.Argument(help="Of the run; one that has begun goes on.")],
    audio: Annotated[
        list[Path], typer.Option(help="Folder, file, CSV table or HDF5 of PaSST; repeat for more.")
    ],
    student: Annotated[str, typer.Option(help="Backbone, or a size such as mn01.")] = "mn01",
    teacher: Annotated[
        str, typer.Option(help="Backbone that hears what the student hears.")
    ] = "mn04_as",
    predictions: Annotated[
        Path | None, typer.Option(help="In place of the teacher: its logits, .npy or HDF5.")
    ] = None,
    keep_out: Annotated[
        list[str] | None, typer.Option(help="Pattern of names to leave out, such as '5-*'.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Teacher's weights; default: the released ones.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Weights the student starts from; default: random.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="How many.")] = 200,
    steps: Annotated[int, typer.Option(help="Of an epoch.")] = 100,
    batch: Annotated[int, typer.Option(help="Sounds of a step, in each process.")] = 32,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 8e-4,
    warm_up: Annotated[int, typer.Option(help="Epochs until it is reached.")] = 8,
    down_start: Annotated[int, typer.Option(help="Epoch from which it falls.")] = 80,
    down_length: Annotated[int, typer.Option(help="Epochs that it falls for.")] = 95,
    decay: Annotated[float, typer.Option(help="Weight decay.")] = 0.0,
    label_weight: Annotated[float, typer.Option(help="Lambda: share of the labels.")] = 0.1,
    logit_weight: Annotated[float, typer.Option(help="Weight of the distance of logits.")] = 0.0,
    softmax_weight: Annotated[
        float, typer.Option(help="Weight of softmaxes over the classes: which is above which.")
    ] = 0.0,
    temperature: Annotated[float, typer.Option(help="Of these softmaxes.")] = 1.0,
    match: Annotated[
        list[str] | None, typer.Option(help="Tap of the teacher to match, such as e1.")
    ] = None,
    match_weight: Annotated[float, typer.Option(help="Weight of these taps.")] = 1.0,
    seconds: Annotated[float, typer.Option(help="Length of a sound.")] = 5.0,
    strength: Annotated[
        float, typer.Option(help="How often sounds are varied; with predictions always 0.")
    ] = 1.0,
    synthetic: Annotated[
        float, typer.Option(help="Share of noises, tones, rides; with predictions always 0.")
    ] = 0.2,
    kinds: Annotated[
        tuple[float, float, float], typer.Option(help="Chances of noises, tones, rides.")
    ] = (0.4, 0.25, 0.35),
    sounds: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Chances of mixing one, two, three; with predictions one only."),
    ] = None,
    mixup: Annotated[float, typer.Option(help="Beta of mixing log-mels; 0 does not.")] = 0.0,
    mask_bands: Annotated[int, typer.Option(help="Most mel bands to blank.")] = 0,
    mask_frames: Annotated[int, typer.Option(help="Most frames to blank.")] = 0,
    dropout: Annotated[float, typer.Option(help="Of the student.")] = 0.0,
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="A control: what the teacher says is mixed up.")
    ] = False,
    in_memory: Annotated[
        bool | None,
        typer.Option(
            "--in-memory/--no-in-memory", help="Read all clips before training; default: no HDF5."
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="no, fp16 or bf16.")] = "no",
    cpu: Annotated[bool, typer.Option("--cpu", help="Even where there is a GPU.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that make the lessons.")] = 2,
    save_every: Annotated[int, typer.Option(help="Steps between two states on disk.")] = 500,
    log_every: Annotated[int, typer.Option(help="Steps between two records.")] = 50,
    log: Annotated[
        list[str] | None, typer.Option(help="tensorboard or wandb, besides log.csv.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    random_teacher: Annotated[
        bool, typer.Option("--random-teacher", help="To try things without a checkpoint.")
    ] = False,
) -> None:
    """Distil a large tagger into a small one, from audio that needs no labels.

    The weights end in the folder as student.safetensors. Several processes share the work under
    torchrun or accelerate launch. A run that was cut off goes on when it is started again.
    """
    try:
        from accelerate import Accelerator

        from hear_train.distill import Run
    except ImportError as error:
        msg = f"training needs the extra train: pip install 'efficient-hear[train]' ({error})"
        raise ConfigError(msg) from error
    from hear_train.lessons import Blur
    from hear_train.losses import Weights
    from hear_train.mixing import Mixing
    from hear_train.recipe import Recipe
    from hear_train.schedule import Schedule
    from hear_train.trainer import Plan

    mixing = Mixing(seconds=seconds, strength=strength, synthetic=synthetic, kinds=kinds)
    if predictions:  # which are of clips as they are
        mixing = replace(mixing, strength=0.0, synthetic=0.0, sounds=(1.0, 0.0, 0.0))
    if sounds:
        mixing = replace(mixing, sounds=sounds)
    recipe = Recipe(
        student=student,
        teacher="" if predictions else teacher,
        predictions=predictions,
        audio=tuple(audio),
        keep_out=tuple(keep_out or ()),
        batch=batch,
        weights=Weights(label_weight, logit_weight, match_weight, softmax_weight, temperature),
        match=tuple(match or ()),
        mixing=mixing,
        blur=Blur(mixup=mixup, mask_bands=mask_bands, mask_frames=mask_frames),
        plan=Plan(
            epochs=epochs,
            steps=steps,
            rate=rate,
            schedule=Schedule(warm_up, down_start, down_length),
            decay=decay,
            save_every=save_every,
            log_every=log_every,
            seed=seed,
        ),
        dropout=dropout,
        shuffled=shuffled,
        in_memory=in_memory,
    )
    try:
        accelerator = Accelerator(mixed_precision=precision, cpu=cpu)
    except ValueError as error:  # also of fp16 on a CPU
        msg = f"nothing can be computed in precision {precision!r} here: {error}"
        raise ConfigError(msg) from error
    run = Run(
        recipe,
        folder,
        accelerator,
        model_file_path=str(model or ""),
        pretrained=not random_teacher,
        start=str(start or ""),
        workers=workers,
        logs=log or (),
    )
    console = Console(stderr=True)
    hidden = not (console.is_terminal and accelerator.is_main_process)
    columns = (*Progress.get_default_columns(), TextColumn("loss {task.fields[loss]:.5f}"))
    with Progress(*columns, console=console, disable=hidden) as progress:
        done = run.trainer.position.step
        bar = progress.add_task("steps", total=run.trainer.total, completed=done, loss=0.0)

        def report(step: int, terms: Mapping[str, float]) -> None:
            progress.update(bar, completed=step, loss=terms["loss"])

        weights = run.run(report)
    if accelerator.is_main_process:
        skipped = run.dropped | run.trainer.position.skipped
        for name, why in list(skipped.items())[:_SHOWN]:
            typer.echo(f"hear: {name} was skipped: {why}", err=True)
        typer.echo(f"{weights}: after {run.trainer.total} steps; {len(skipped)} clips skipped")


@app.command()
def select_classes(
    folder: Annotated[Path, typer.Argument(help="Where the sounds are written.")],
    audio: Annotated[
        list[Path], typer.Option(help="Folder, file, CSV table or HDF5 of PaSST; repeat for more.")
    ],
    teacher: Annotated[str, typer.Option(help="Backbone that hears them.")] = "mn04_as",
    keep_out: Annotated[
        list[str] | None, typer.Option(help="Pattern of names to leave out, such as '5-*'.")
    ] = None,
    candidates: Annotated[int, typer.Option(help="Sounds to hear.")] = 10000,
    per_class: Annotated[int, typer.Option(help="Sounds to choose of each class.")] = 6,
    least: Annotated[float, typer.Option(help="Probability that makes one of a class.")] = 0.1,
    only: Annotated[str | None, typer.Option(help="Classes to choose for: 'Train,Rain'.")] = None,
    seconds: Annotated[float, typer.Option(help="Length of a sound.")] = 5.0,
    synthetic: Annotated[float, typer.Option(help="Share of noises, tones and rides.")] = 0.5,
    kinds: Annotated[
        tuple[float, float, float], typer.Option(help="Chances of noises, tones, rides.")
    ] = (0.4, 0.25, 0.35),
    workers: Annotated[int, typer.Option(help="Processes that draw and hear.")] = 2,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
) -> None:
    """Choose sounds that a teacher has something to say of, as clips for a training.

    They are mixed of clips, noises and tones, as in training; the highest of each class are kept.
    """
    from hear_core.zoo.labels import audioset_labels
    from hear_core.zoo.labels import select_classes as choose_labels
    from hear_train.choosing import choose as choose_sounds
    from hear_train.mixing import Mixing

    paths = choose_sounds(
        folder,
        tuple(audio),
        teacher,
        keep_out=tuple(keep_out or ()),
        candidates=candidates,
        per_class=per_class,
        least=least,
        only=choose_labels(only, audioset_labels()) if only else (),
        mixing=Mixing(seconds=seconds, synthetic=synthetic, kinds=kinds),
        seed=seed,
        workers=workers,
    )
    typer.echo(f"{folder}: {len(paths)} of {candidates} sounds")
