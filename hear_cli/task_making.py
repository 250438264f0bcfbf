"""``hear tasks make``: tasks of labelled recordings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from hear_cli.options import Audio, TaskFolder, TaskName
from hear_cli.progress import counting
from hear_core.errors import ConfigError
from hear_core.metrics.registry import METRICS
from hear_eval.tasks.description import FIXED_SPLITS
from hear_eval.tasks.making import KINDS, make_task
from hear_eval.tasks.recordings import read_class_folders, read_recording_table, with_splits


def make(
    source: Annotated[
        Path, typer.Argument(help="A table of files, or a folder with one a class.", exists=True)
    ],
    output: TaskFolder,
    audio: Audio = None,
    name: TaskName = None,
    kind: Annotated[
        str, typer.Option(help=f"{', '.join(KINDS)}; default: told by the table's columns.")
    ] = "",
    separator: Annotated[
        str, typer.Option(help="Parts several classes in one cell, as in 'dog;rain'.")
    ] = "",
    seconds: Annotated[
        float | None, typer.Option(help="Length every clip is brought to; default: their own.")
    ] = None,
    rate: Annotated[
        list[int] | None, typer.Option(help="In Hz, repeat for several; default: 32000.")
    ] = None,
    folds: Annotated[int, typer.Option(help="To make if the source has no splits.", min=3)] = 5,
    shares: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Of train, valid and test, to make these instead of folds."),
    ] = None,
    group: Annotated[
        str, typer.Option(help="Column, or pattern in file names, of what stays in one split.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Another seed makes other splits.", min=0)] = 0,
    metric: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(METRICS)}; repeat for several.")
    ] = None,
) -> None:
    """Make a task of labelled recordings, such as ESC-50.

    A table has columns filename and category, may have fold or split, and for events has onset and
    offset, in seconds. A folder has a folder for every class.
    """
    if source.is_dir():
        if audio is not None or separator or kind == "events":
            msg = "--audio, --separator and events are for tables"
            raise ConfigError(msg)
        recordings = read_class_folders(source, group=group)
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
            seconds=seconds,
            # The rate of most taggers; a task that is made at 48000 Hz must be resampled to it.
            sample_rates=rate or [32000],
            metrics=metric or (),
            progress=count,
        )
    found = Counter(recording.split for recording in recordings)
    listed = ", ".join(f"{number} {split}" for split, number in sorted(found.items()))
    typer.echo(f"{task}: {len(recordings)} clips, {kind}: {listed}")
