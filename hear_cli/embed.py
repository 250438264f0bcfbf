"""``hear embed``: embeddings of many audio files, in runs that can be cut off and go on."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from hear_cli.options import ModelOptions, PluginWeights, RandomWeights, load_options
from hear_cli.progress import progress_bar
from hear_core.audio.files import find_audio_files
from hear_core.errors import ConfigError
from hear_core.plugins.names import module_name
from hear_eval.embeddings.formats import FORMATS
from hear_eval.embeddings.index import Entry, index_of
from hear_eval.embeddings.of_files import PLACES, Recipe, Step, embed

_SHOWN = 5


def embed_command(
    name: Annotated[
        str, typer.Argument(help="A plug-in module: mn04_e1_l, or any importable one.")
    ],
    inputs: Annotated[
        list[Path], typer.Argument(help="Audio files, and folders to search for them.", exists=True)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the embeddings.")],
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="Embeddings over time instead of one a file.")
    ] = False,
    format_: Annotated[str, typer.Option("--format", help=f"{', '.join(FORMATS)}.")] = "npy",
    shard: Annotated[str, typer.Option(help="'2/8': only the second of eight shares.")] = "1/1",
    model: PluginWeights = None,
    model_options: ModelOptions = "{}",
    random_weights: RandomWeights = False,
    on: Annotated[str, typer.Option(help=f"Where it runs: {', '.join(PLACES)}.")] = "local",
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed before.")] = False,
    part_files: Annotated[int, typer.Option(help="Audio files in a part of parquet.", min=1)] = 256,
) -> None:
    """Write an embedding of every audio file, and an index that says what became of each.

    Files that are done are skipped, so that a run that was cut off goes on where it stopped. The
    exit code is 1 if some files could not be embedded, and 2 if nothing was tried.
    """
    part = _part(shard)
    options = load_options(model_options) | ({"pretrained": False} if random_weights else {})
    weights = str(model.absolute()) if model else ""
    try:
        recipe = Recipe(module_name(name), weights, options, timestamps, format_, part_files)
        found = find_audio_files(inputs, except_in=output)
        if others := found.ignored.total():
            kinds = ", ".join(
                f"{n} {suffix or 'without'}" for suffix, n in found.ignored.most_common()
            )
            typer.echo(f"{others} files that do not end like audio are ignored: {kinds}")
        steps = embed(recipe, found.sources, output, part=part, on=on, retry=retry)
        before = next(steps)
    except ConfigError as error:
        typer.echo(f"hear: {error}", err=True)
        raise typer.Exit(2) from error
    if before.entries:
        typer.echo(f"{len(before.entries)} files were done before")
    start = time.perf_counter()
    entries = _follow(steps, before.left)
    elapsed = time.perf_counter() - start
    seconds = sum(entry.seconds or 0 for entry in entries)
    typer.echo(
        f"{len(entries)} files, {seconds:.0f} s of audio in {elapsed:.1f} s: "
        f"{seconds / elapsed:.0f} s of audio per second"
    )
    failed = [entry for entry in [*before.entries, *entries] if entry.reason]
    if failed:
        _complain(failed, index_of(output, *part))
        raise typer.Exit(1)


def _follow(steps: Iterable[Step], left: int) -> list[Entry]:
    """Go through the steps with a progress bar, where someone can see it."""
    entries: list[Entry] = []
    with progress_bar() as progress:
        task = progress.add_task("", total=left, now="")
        for step in steps:
            entries += step.entries
            progress.update(task, advance=len(step.entries), now=step.entries[-1].file[-40:])
    return entries


def _complain(failed: list[Entry], index: Path) -> None:
    typer.echo(f"{len(failed)} files could not be embedded; {index} says why:", err=True)
    for entry in failed[:_SHOWN]:
        typer.echo(f"  {entry.file!r}: {entry.reason}", err=True)
    if len(failed) > _SHOWN:
        typer.echo(f"  and {len(failed) - _SHOWN} more", err=True)
    typer.echo("They are left out from now on; --retry tries them again.", err=True)


def _part(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of):
        return int(number), int(of)
    msg = f"{text!r} is not the share of a whole, such as 2/8"
    raise typer.BadParameter(msg, param_hint="--shard")
