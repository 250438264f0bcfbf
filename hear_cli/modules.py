"""``hear list``: the published plug-in modules."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from functools import lru_cache, partial
from typing import Annotated, NamedTuple

import typer

from hear_cli.tables import print_table, short
from hear_core.analysis.complexity_cache import cached_complexity
from hear_core.frontends.log_mel import Frontend
from hear_core.networks.backbone import Backbone
from hear_core.networks.extractor import Extractor
from hear_core.plugins.configs import embedding_configs
from hear_core.plugins.names import plugin_packages
from hear_core.zoo.registry import Zoo


class Module(NamedTuple):
    """A row of the table."""

    module: str
    size: int
    backbone: str
    published: str
    parameters: str
    MACs: str
    taps: str
    pooling: str


def modules(pattern: str = "*") -> Iterator[Module]:
    """Yield every published module whose name matches a shell pattern."""
    for package in plugin_packages():
        skeleton = lru_cache(partial(_skeleton, package.ZOO))
        for name, config in embedding_configs(package.__name__).items():
            full_name = f"{package.__name__}.{name}"
            if fnmatch(full_name, pattern) or fnmatch(name, pattern):
                network = skeleton(config.backbone)
                costs = cached_complexity(package, config.backbone)
                reported = package.ZOO[config.backbone].reported_metrics
                yield Module(
                    full_name,
                    Extractor(*network, config.taps, config.pooling).size,
                    config.backbone,
                    ", ".join(map(_metric, reported.items())),
                    short(costs.parameters),
                    short(costs.macs),
                    " ".join(config.taps),
                    config.pooling,
                )


def _metric(item: tuple[str, float]) -> str:
    name, value = item
    return f"{name} {value:.3f}" if value < 1 else f"{name} {value:.2f}"


def _skeleton(zoo: Zoo, backbone: str) -> tuple[Frontend, Backbone]:
    return zoo[backbone].frontend(), zoo[backbone].skeleton()


def list_modules(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Names of modules, such as 'mn10_*'.")
    ] = "*",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """List the plug-in modules, their embeddings and the costs of their backbones.

    "published" is the metric that the authors of the backbone report. MACs are the
    multiply-accumulates of the backbone on ten seconds of audio.
    """
    rows = [list(map(str, row)) for row in modules(pattern)]
    if markdown:
        lines = [Module._fields, ["---"] * len(Module._fields), *rows]
        typer.echo("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return
    print_table(Module._fields, rows)
