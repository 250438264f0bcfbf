"""``hear embed``: embeddings of many audio files, in runs that can be interrupted and resumed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from hear_cli.numbers import number
from hear_cli.options import Model, ModelOptions, RandomWeights, load_options, module_names
from hear_cli.outputs import check_output_folder
from hear_cli.progress import progress_bar
from hear_core.audio.files import find_audio_files
from hear_core.errors import CheckpointError, ConfigError
from hear_eval.embeddings.files import BACKENDS, FileProgress, embed_files
from hear_eval.embeddings.formats import FORMATS
from hear_eval.embeddings.index import index_path
from hear_eval.embeddings.units import EmbeddingOptions, FileEntry

_SHOWN = 5


def embed_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODULE",
            help="Plug-in module: mn04_e1_l, any importable one, or a checkpoint of your own.",
        ),
    ],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUTS", help="Audio files, and folders to search for them.", exists=True
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for the embeddings and their index.",
            callback=check_output_folder,
        ),
    ],
    timestamps: Annotated[
        bool,
        typer.Option("--timestamps", help="Write embeddings over time instead of one per file."),
    ] = False,
    format_: Annotated[
        str, typer.Option("--format", help=f"Format of the embeddings: {', '.join(FORMATS)}.")
    ] = "npy",
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N", help="Process one share of the files only: '2/8' is the second of eight."
        ),
    ] = "1/1",
    model: Model = None,
    model_options: ModelOptions = "{}",
    random_weights: RandomWeights = False,
    on: Annotated[
        str, typer.Option(help=f"Where to run: {' or '.join(BACKENDS)}, a cluster.")
    ] = "local",
    retry: Annotated[
        bool, typer.Option("--retry", help="Try files again that failed before.")
    ] = False,
    part_files: Annotated[
        int, number("Number of audio files in one parquet file.", 1, 1_000_000)
    ] = 256,
) -> None:
    """Embed every audio file of folders, and write an index of the results.

    Files that are done are skipped, so that an interrupted run resumes when it is started again.
    The exit code is 1 if some files could not be embedded, and 2 if nothing was tried.
    """
    part = _part(shard)
    options = load_options(model_options) | ({"pretrained": False} if random_weights else {})
    weights = str(model.absolute()) if model else ""
    try:
        module = _module(name, model)
        recipe = EmbeddingOptions(module, weights, options, timestamps, format_, part_files)
        found = find_audio_files(inputs, except_in=output)
        if others := found.ignored.total():
            kinds = ", ".join(
                f"{n} {suffix or 'without a suffix'}" for suffix, n in found.ignored.most_common()
            )
            typer.echo(f"{others} files without the suffix of an audio format are ignored: {kinds}")
        steps = embed_files(recipe, found.sources, output, shard=part, backend=on, retry=retry)
        before = next(steps)
    except (CheckpointError, ConfigError) as error:
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
        _list_failures(failed, index_path(output, format_, part))
        raise typer.Exit(1)


def _module(name: str, model: Path | None) -> str:
    """Return the name to import a module by; with --model, an error says how to do without one."""
    try:
        (module,) = module_names([name])
    except ConfigError as error:
        if model is None:
            raise
        msg = (
            f"{error}; a checkpoint that identifies its network takes the place of the module: "
            f"hear embed {model} {name}"
        )
        raise ConfigError(msg) from error
    return module


def _follow(steps: Iterable[FileProgress], left: int) -> list[FileEntry]:
    """Run the steps under a progress bar, and return their entries."""
    entries: list[FileEntry] = []
    with progress_bar() as progress:
        task = progress.add_task("", total=left, now="")
        for step in steps:
            entries += step.entries
            progress.update(task, advance=len(step.entries), now=step.entries[-1].file[-40:])
    return entries


def _list_failures(failed: list[FileEntry], index: Path) -> None:
    typer.echo(f"{len(failed)} files could not be embedded; {index} holds the reasons:", err=True)
    for entry in failed[:_SHOWN]:
        typer.echo(f"  {entry.file!r}: {entry.reason}", err=True)
    if len(failed) > _SHOWN:
        typer.echo(f"  and {len(failed) - _SHOWN} more", err=True)
    typer.echo("Later runs leave them out; --retry tries them again.", err=True)


def _part(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of):
        return int(number), int(of)
    msg = f"{text!r} is not a share I/N with I from 1 to N, such as 2/8."
    raise typer.BadParameter(msg, param_hint="--shard")
