"""``hear list``: the published plug-in modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import lru_cache, partial
from types import ModuleType
from typing import Annotated, Any, NamedTuple

import typer

import hear_mn
from hear_cli.figures import kept_complexity, short
from hear_cli.tables import print_table
from hear_core.backbone import Backbone
from hear_core.configs import EmbeddingConfig, embeddings
from hear_core.errors import ConfigError, unknown
from hear_core.extractor import Extractor
from hear_core.frontend import Frontend
from hear_core.plugin import PluginModel, load
from hear_core.zoo import Row, Zoo

PACKAGES = (hear_mn,)


class Module(NamedTuple):
    """A line of the table."""

    module: str
    size: int
    backbone: str
    mAP: float | None  # noqa: N815 - the field writes it so
    parameters: str
    MACs: str
    taps: str
    pooling: str


def modules(pattern: str = "*") -> Iterator[Module]:
    """Yield every published module whose name matches a shell pattern."""
    for package in PACKAGES:
        outlined = lru_cache(partial(_outlined, package.ZOO))
        for name, config in embeddings(package.__name__).items():
            full_name = f"{package.__name__}.{name}"
            if fnmatch(full_name, pattern) or fnmatch(name, pattern):
                network = outlined(config.backbone)
                costs = kept_complexity(package, config.backbone)
                yield Module(
                    full_name,
                    Extractor(*network, config.taps, config.pooling).size,
                    config.backbone,
                    package.ZOO[config.backbone].figures.get("mAP"),
                    short(costs.parameters),
                    short(costs.macs),
                    " ".join(config.taps),
                    config.pooling,
                )


def _outlined(zoo: Zoo, backbone: str) -> tuple[Frontend, Backbone]:
    return zoo[backbone].frontend(), zoo[backbone].outline()


class Found(NamedTuple):
    """What a name means: a module, with its config, or a backbone, without."""

    package: ModuleType
    name: str
    backbone: str
    config: EmbeddingConfig | None

    @property
    def row(self) -> Row:
        """The backbone's row in the zoo."""
        return self.package.ZOO[self.backbone]


def find(name: str) -> Found:
    """Find a plug-in module or a backbone by its name, with or without the package in front.

    Raises:
        ConfigError: There is nothing of this name.
    """
    known: list[str] = []
    for package in PACKAGES:
        plain = name.removeprefix(f"{package.__name__}.")
        configs = embeddings(package.__name__)
        if plain in configs:
            return Found(package, plain, configs[plain].backbone, configs[plain])
        if plain in package.ZOO:
            return Found(package, plain, plain, None)
        known += [*configs, *package.ZOO]
    raise ConfigError(unknown("module or backbone", name, known))


def load_by_name(name: str, taps: Sequence[str], **options: Any) -> PluginModel:
    """Return the model of a plug-in module or of a backbone.

    Args:
        name: Of either, with or without the package in front.
        taps: In place of those of the module, or of the logits of the backbone.
        options: For `hear_core.plugin.load`.

    Raises:
        ConfigError: There is nothing of this name.
    """
    found = find(name)
    config = found.config or EmbeddingConfig(found.backbone, ("logits",))
    own: dict[str, Any] = {"taps": tuple(taps)} if taps else {}
    return load(found.package.ZOO, config, **own, **options)


def list_modules(
    pattern: Annotated[str, typer.Argument(help="Such as 'mn10_*'.")] = "*",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """List the plug-in modules: name, size of the embedding, backbone, its mAP, its size, taps.

    MACs are the multiply-accumulates of the backbone on ten seconds of audio.
    """
    rows = [["" if cell is None else str(cell) for cell in row] for row in modules(pattern)]
    if markdown:
        lines = [Module._fields, ["---"] * len(Module._fields), *rows]
        typer.echo("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return
    print_table(Module._fields, rows)
