"""``hear tasks mix``: event detection tasks mixed from labelled clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hear_cli.options import Audio, TaskFolder, TaskName
from hear_cli.progress import counting
from hear_core.errors import ConfigError
from hear_eval.tasks.description import FIXED_SPLITS
from hear_eval.tasks.mixing import LabelledClip, Mixture, mix_event_task
from hear_eval.tasks.recordings import read_recording_table, split_name

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
    validated, tested = _folds(valid), _folds(test)
    if both := validated.keys() & tested.keys():
        listed = ", ".join(sorted(validated[fold] for fold in both))
        msg = f"fold {listed} cannot be both to validate and to test on"
        raise ConfigError(msg)
    recordings = read_recording_table(table, audio)
    named = validated | tested
    if unknown := named.keys() - {recording.split for recording in recordings}:
        listed = ", ".join(sorted(named[fold] for fold in unknown))
        msg = f"{table} has no fold {listed} to validate or test on"
        raise ConfigError(msg)
    split_of = dict.fromkeys(validated, "valid") | dict.fromkeys(tested, "test")
    clips = [
        LabelledClip(recording.path, label, split_of.get(recording.split, "train"))
        for recording in recordings
        for label in recording.labels or [""]
    ]
    mixture = Mixture(seconds, rate, events, polyphony, snr, longest, seed)
    numbers = dict(zip(FIXED_SPLITS, scenes, strict=True))
    with counting("scenes") as count:
        task = mix_event_task(output, name or table.stem, clips, numbers, mixture, count)
    listed = ", ".join(f"{number} {split}" for split, number in numbers.items())
    typer.echo(f"{task}: scenes of {seconds:g} s: {listed}")


def _folds(text: str) -> dict[str, str]:
    """Return the folds that are listed, as they are called and as they were given."""
    return {split_name(fold): fold for fold in text.split(",")}
