"""``hear tasks mix``: event detection tasks mixed from labelled clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hear_cli.numbers import number
from hear_cli.options import Audio, SampleRate, TaskFolder, TaskName, seconds
from hear_cli.progress import counting
from hear_core.errors import ConfigError
from hear_eval.tasks.description import FIXED_SPLITS
from hear_eval.tasks.mixing import LabelledClip, Mixture, mix_event_task
from hear_eval.tasks.recordings import read_recording_table, split_name


def mix(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE",
            help="CSV file with the columns filename, category and fold.",
            exists=True,
        ),
    ],
    output: TaskFolder,
    audio: Audio = None,
    name: TaskName = None,
    valid: Annotated[
        str, typer.Option(metavar="FOLDS", help="Folds to validate on, such as 4 or 7,8.")
    ] = "valid",
    test: Annotated[
        str, typer.Option(metavar="FOLDS", help="Folds to test on; the others are for training.")
    ] = "test",
    scenes: Annotated[
        tuple[int, int, int],
        number("Numbers of scenes to train, validate and test on.", 1, 1_000_000),
    ] = (200, 50, 50),
    length: Annotated[
        float, seconds("Length of a scene.", 0.1, 3600.0, "--seconds")
    ] = Mixture.seconds,
    sample_rate: SampleRate = Mixture.sample_rate,
    events: Annotated[
        tuple[int, int], number("Smallest and largest number of events in a scene.", 0, 10_000)
    ] = Mixture.events,
    polyphony: Annotated[
        int, number("Largest number of events at the same time.", 1, 1_000)
    ] = Mixture.polyphony,
    snr: Annotated[
        tuple[float, float],
        number("Lowest and highest level of an event above the background, in dB.", -200, 200),
    ] = Mixture.snr,
    longest: Annotated[
        float, seconds("Longest event; longer clips are cut.", 1e-2, 3600.0)
    ] = Mixture.longest,
    seed: Annotated[int, number("Seed of the scenes.", 0, 2**31 - 1)] = Mixture.seed,
) -> None:
    """Make an event detection task by mixing labelled clips into scenes.

    Rows without a category are backgrounds; without any, the background is pink noise.
    """
    for option, (low, high) in {"--events": events, "--snr": snr}.items():
        if low > high:
            msg = f"The lower number comes first, and {low:g} is above {high:g}."
            raise typer.BadParameter(msg, param_hint=option)
    validated, tested = _folds(valid), _folds(test)
    if both := validated.keys() & tested.keys():
        listed = ", ".join(sorted(validated[fold] for fold in both))
        msg = f"fold {listed} cannot be both for validation and for testing"
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
    mixture = Mixture(length, sample_rate, events, polyphony, snr, longest, seed)
    numbers = dict(zip(FIXED_SPLITS, scenes, strict=True))
    with counting("scenes") as count:
        task = mix_event_task(output, name or table.stem, clips, numbers, mixture, count)
    listed = ", ".join(f"{number} {split}" for split, number in numbers.items())
    typer.echo(f"{task}: scenes of {length:g} s: {listed}")


def _folds(text: str) -> dict[str, str]:
    """Return the folds that are listed, as they are called and as they were given."""
    return {split_name(fold): fold for fold in text.split(",")}
