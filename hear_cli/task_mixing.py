"""``hear tasks mix``: event detection tasks mixed from labelled clips."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from hear_cli.options import Audio, TaskFolder, TaskName
from hear_cli.progress import counting
from hear_core.errors import ConfigError
from hear_eval.tasks.description import FIXED_SPLITS, TaskError
from hear_eval.tasks.mixing import Mixture, mix_event_task
from hear_eval.tasks.writing import Clip

Table = Annotated[
    Path, typer.Argument(help="CSV with the columns filename, category, fold.", exists=True)
]
Rate = Annotated[int, typer.Option(help="Sample rate of the task's audio, in Hz.")]


def mix(
    table: Table,
    output: TaskFolder,
    audio: Audio = None,
    name: TaskName = None,
    valid: Annotated[str, typer.Option(help="Folds to validate on: 4 or 7,8.")] = "valid",
    test: Annotated[str, typer.Option(help="Folds to test on; the rest is for training.")] = "test",
    scenes: Annotated[
        tuple[int, int, int], typer.Option(help="To train, validate and test on.")
    ] = (200, 50, 50),
    seconds: Annotated[float, typer.Option(help="Length of a scene.")] = Mixture.seconds,
    rate: Rate = Mixture.sample_rate,
    events: Annotated[
        tuple[int, int], typer.Option(help="Fewest and most in a scene.")
    ] = Mixture.events,
    polyphony: Annotated[
        int, typer.Option(help="Most events that sound at once.")
    ] = Mixture.polyphony,
    snr: Annotated[
        tuple[float, float], typer.Option(help="Level of events above the background, in dB.")
    ] = Mixture.snr,
    longest: Annotated[
        float, typer.Option(help="Seconds after which an event is cut.")
    ] = Mixture.longest,
    seed: Annotated[int, typer.Option(help="Another seed makes other scenes.")] = Mixture.seed,
) -> None:
    """Make an event detection task of labelled clips, by mixing them into scenes.

    Rows without a category are backgrounds; if there are none, it is pink noise.
    """
    validated, tested = set(valid.split(",")), set(test.split(","))
    if both := validated & tested:
        msg = f"fold {', '.join(sorted(both))} cannot be both to validate and to test on"
        raise ConfigError(msg)
    rows = _rows(table, audio)
    split_of = dict.fromkeys(validated, "valid") | dict.fromkeys(tested, "test")
    if unknown := split_of.keys() - {clip.split for clip in rows}:
        msg = f"{table} has no fold {', '.join(sorted(unknown))} to validate or test on"
        raise ConfigError(msg)
    clips = [clip._replace(split=split_of.get(clip.split, "train")) for clip in rows]
    mixture = Mixture(seconds, rate, events, polyphony, snr, longest, seed)
    numbers = dict(zip(FIXED_SPLITS, scenes, strict=True))
    with counting("scenes") as count:
        task = mix_event_task(output, name or table.stem, clips, numbers, mixture, count)
    listed = ", ".join(f"{number} {split}" for split, number in numbers.items())
    typer.echo(f"{task}: scenes of {seconds:g} s: {listed}")


def _rows(table: Path, audio: Path | None) -> list[Clip]:
    """Read a table of clips, whose split is their fold."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = {"filename", "category", "fold"}
    if not rows or not wanted <= set(rows[0]):
        msg = f"{table} must have rows, and the columns filename, category and fold"
        raise TaskError(msg)
    folder = audio or table.parent
    return [Clip(folder / row["filename"], row["category"], row["fold"]) for row in rows]
