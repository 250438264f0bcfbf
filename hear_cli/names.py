"""What a name on the command line means: a plug-in module, or a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import hear_mn
import hear_sed
from hear_core.configs import EmbeddingConfig, embeddings
from hear_core.errors import ConfigError, unknown
from hear_core.loading import load
from hear_core.plugin import PluginModel
from hear_core.zoo import Row

PACKAGES = (hear_mn, hear_sed)


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
        options: For `hear_core.loading.load`.

    Raises:
        ConfigError: There is nothing of this name.
    """
    found = find(name)
    config = found.config or EmbeddingConfig(found.backbone, ("logits",))
    own: dict[str, Any] = {"taps": tuple(taps)} if taps else {}
    return load(found.package.ZOO, config, **own, **options)


def importable(name: str) -> str:
    """Return the name to import a plug-in module by; one of ours may be short of its package.

    Raises:
        ConfigError: There is nothing of this name.
    """
    known: list[str] = []
    for package in PACKAGES:
        configs = embeddings(package.__name__)
        if name in configs:
            return f"{package.__name__}.{name}"
        known += configs
    if "." not in name and find_spec(name) is None:
        raise ConfigError(unknown("module", name, known))
    return name
