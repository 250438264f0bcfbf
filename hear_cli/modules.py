"""``hear list``: the published plug-in modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from typing import Annotated, Any, NamedTuple

import typer

import hear_mn
from hear_cli.tables import print_table
from hear_core.configs import EmbeddingConfig, embeddings
from hear_core.errors import ConfigError, unknown
from hear_core.plugin import PluginModel, load, outline

PACKAGES = (hear_mn,)


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
    for package in PACKAGES:
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
    """Return the model of a plug-in module or of a backbone.

    Args:
        name: Of either, with or without the package in front.
        taps: In place of those of the module, or of the logits of the backbone.
        options: For `hear_core.plugin.load`.

    Raises:
        ConfigError: There is nothing of this name.
    """
    known: list[str] = []
    own: dict[str, Any] = {"taps": tuple(taps)} if taps else {}
    for package in PACKAGES:
        short = name.removeprefix(f"{package.__name__}.")
        configs = embeddings(package.__name__)
        if short in configs:
            return load(package.ZOO, configs[short], **own, **options)
        if short in package.ZOO:
            return load(package.ZOO, EmbeddingConfig(short, ("logits",)), **own, **options)
        known += [*configs, *package.ZOO]
    raise ConfigError(unknown("module or backbone", name, known))


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
    print_table(Module._fields, rows)
