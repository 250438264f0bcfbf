"""``hear tasks make``: tasks of labelled recordings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from hear_cli.numbers import SAMPLE_RATES, SMALLEST, number
from hear_cli.options import Audio, TaskFolder, TaskName, seconds
from hear_cli.progress import counting
from hear_core.errors import ConfigError
from hear_core.metrics.registry import METRICS
from hear_eval.tasks.description import FIXED_SPLITS
from hear_eval.tasks.making import KINDS, make_task
from hear_eval.tasks.recordings import read_recording_folders, read_recording_table, with_splits


def make(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Table of audio files, or folder with a folder of audio files for each class.",
            exists=True,
        ),
    ],
    output: TaskFolder,
    audio: Audio = None,
    name: TaskName = None,
    kind: Annotated[
        str,
        typer.Option(
            help=f"Kind of the labels: {', '.join(KINDS)}.",
            show_default="that of the table's columns",
        ),
    ] = "",
    separator: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Separator of several classes in one cell, as in 'dog;rain'."
        ),
    ] = "",
    length: Annotated[
        float | None,
        seconds(
            "Length that every clip is cut or padded to.",
            SMALLEST,
            3600.0,
            "--seconds",
            show_default="that of each clip",
        ),
    ] = None,
    sample_rate: Annotated[
        list[int] | None,
        number(
            "Sample rate of the task's audio in Hz; repeat it for several.",
            *SAMPLE_RATES,
            metavar="HZ",
            show_default="32000",
        ),
    ] = None,
    folds: Annotated[
        int, number("Number of folds to make if the source has no splits.", 3, 1000)
    ] = 5,
    shares: Annotated[
        tuple[float, float, float] | None,
        number(
            "Shares of train, valid and test, to make these splits instead of folds.", 1e-6, 1e6
        ),
    ] = None,
    group: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Column of the table, or pattern in file names; files that agree in it stay in "
            "one split.",
        ),
    ] = "",
    seed: Annotated[int, number("Seed of the splits.", 0, 2**31 - 1)] = 0,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"Metric of the task: {', '.join(METRICS)}; repeat it for several.",
            show_default="those of the kind",
        ),
    ] = None,
) -> None:
    """Make a task of labelled recordings, such as ESC-50.

    A table has the columns filename and category, and may have fold or split; for events it has
    onset and offset too, in seconds.
    """
    if source.is_dir():
        if audio is not None or separator or kind == "events":
            msg = f"--audio, --separator and --kind events need a table, and {source} is a folder"
            raise ConfigError(msg)
        recordings = read_recording_folders(source, group=group)
    else:
        recordings = read_recording_table(source, audio, separator=separator, group=group)
    if not kind:
        several = bool(separator) or any(len(set(r.labels)) != 1 for r in recordings)
        timed = any(recording.events for recording in recordings)
        kind = "events" if timed else "multilabel" if several else "multiclass"
    wanted = (
        dict(zip(FIXED_SPLITS, shares, strict=True))
        if shares
        else {f"fold{i:02}": 1.0 for i in range(folds)}
    )
    recordings = with_splits(recordings, wanted, seed)
    with counting("files") as count:
        task = make_task(
            output,
            name or source.resolve().stem,
            recordings,
            kind,
            seconds=length,
            # That of most taggers; a task that is made at 48000 Hz must be resampled to it.
            sample_rates=sample_rate or [32000],
            metrics=metric or (),
            progress=count,
        )
    found = Counter(recording.split for recording in recordings)
    listed = ", ".join(f"{number} {split}" for split, number in sorted(found.items()))
    typer.echo(f"{task}: {len(recordings)} clips, {kind}: {listed}")
