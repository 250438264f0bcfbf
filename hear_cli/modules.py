"""``hear list``: the published plug-in modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from importlib.util import find_spec
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

import hear_mn
from hear_core.configs import EmbeddingConfig, embeddings
from hear_core.errors import ConfigError, unknown
from hear_core.plugin import PluginModel, load, outline

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


def load_by_name(name: str, taps: Sequence[str], **options: Any) -> PluginModel:
    """Return the model of a plug-in module, or of a backbone with taps of one's own.

    Args:
        name: Of either, with or without the package in front.
        taps: For a backbone.
        options: For `hear_core.plugin.load`.

    Raises:
        ConfigError: There is nothing of this name.
    """
    known: list[str] = []
    for package in _PACKAGES:
        short = name.removeprefix(f"{package.__name__}.")
        configs = embeddings(package.__name__)
        if short in configs:
            return load(package.ZOO, configs[short], **options)
        if short in package.ZOO:
            return load(package.ZOO, EmbeddingConfig(short, tuple(taps)), **options)
        known += [*configs, *package.ZOO]
    raise ConfigError(unknown("module or backbone", name, known))


def importable(name: str) -> str:
    """Return the name to import a plug-in module by; one of ours may be short of its package.

    Raises:
        ConfigError: There is nothing of this name.
    """
    known: list[str] = []
    for package in _PACKAGES:
        configs = embeddings(package.__name__)
        if name in configs:
            return f"{package.__name__}.{name}"
        known += configs
    if "." not in name and find_spec(name) is None:
        raise ConfigError(unknown("module", name, known))
    return name


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
