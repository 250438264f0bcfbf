"""``hear weights``: the released checkpoints, and where they are."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Annotated

import typer

from hear_cli.tables import print_table
from hear_core.errors import CheckpointError, ConfigError
from hear_core.plugins.names import plugin_packages
from hear_core.zoo import checkpoints


def weights(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Names of backbones, such as 'mn10_*'.")
    ] = "*",
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download checkpoints that are not on this machine.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare files with their checksums.")
    ] = False,
) -> None:
    """List checkpoints and where they are on this machine; download or verify them.

    The exit code is 1 if a checkpoint could not be downloaded, or differs from the released one.
    """
    rows = {
        name: record.checkpoint
        for package in plugin_packages()
        for name, record in package.ZOO.items()
        if fnmatch(name, pattern)
    }
    if not rows:
        msg = f"no backbone matches {pattern!r}; 'hear weights' lists them all"
        raise ConfigError(msg)
    failed = False
    lines = []
    for name, checkpoint in rows.items():
        path = checkpoints.find_checkpoint(checkpoint)
        state = str(path) if path else checkpoint.url
        try:
            if fetch and path is None:
                typer.echo(f"fetching {checkpoint.url}", err=True)
                state = str(checkpoints.fetch_checkpoint(checkpoint))
            elif verify and path is not None:
                known = checkpoints.verify_checkpoint(path, checkpoint)
                state += " (verified)" if known else " (no checksum is known)"
        except CheckpointError as error:
            failed = True
            typer.echo(f"hear: {error}", err=True)
            state = "failed, see above"
        lines.append(
            [name, "here" if checkpoints.find_checkpoint(checkpoint) else "not here", state]
        )
    print_table(["backbone", "status", "file or address"], lines)
    if failed:
        raise typer.Exit(1)
