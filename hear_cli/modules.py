"""``hear list``: the published plug-in modules."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

import hear_mn
from hear_core.configs import embeddings
from hear_core.plugin import outline

_PACKAGES = (hear_mn,)


class Module(NamedTuple):
    """A line of the table."""

    module: str
    size: int
    backbone: str
    mAP: float | None  # noqa: N815 - the field writes it so
    taps: str
    pooling: str


def modules(pattern: str = "*") -> Iterator[Module]:
    """Yield every published module whose name matches a shell pattern."""
    for package in _PACKAGES:
        for name, config in embeddings(package.__name__).items():
            full_name = f"{package.__name__}.{name}"
            if fnmatch(full_name, pattern) or fnmatch(name, pattern):
                yield Module(
                    full_name,
                    outline(package.ZOO, config).size,
                    config.backbone,
                    package.ZOO[config.backbone].figures.get("mAP"),
                    " ".join(config.taps),
                    config.pooling,
                )


def list_modules(
    pattern: Annotated[str, typer.Argument(help="Such as 'mn10_*'.")] = "*",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """List the plug-in modules: name, size of the embedding, backbone and its mAP, taps."""
    rows = [["" if cell is None else str(cell) for cell in row] for row in modules(pattern)]
    if markdown:
        lines = [Module._fields, ["---"] * len(Module._fields), *rows]
        typer.echo("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return
    table = Table(*Module._fields, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width; do not fold names
    console.print(table)
