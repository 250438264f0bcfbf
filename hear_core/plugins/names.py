"""Look up plug-ins and backbones by name, and load them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from hear_core.errors import CheckpointError, ConfigError, unknown
from hear_core.plugins.configs import EmbeddingConfig, embedding_configs
from hear_core.plugins.import_hook import add_plugin_api
from hear_core.plugins.loading import load_plugin
from hear_core.plugins.plugin_model import PluginModel
from hear_core.zoo.checkpoints import checkpoint_in
from hear_core.zoo.metadata import read_metadata
from hear_core.zoo.registry import NetworkRecord, is_checkpoint_path

PACKAGES = ("hear_mn", "hear_sed")
"""Packages with plug-ins; each has a ``ZOO`` of backbones."""


class FoundPlugin(NamedTuple):
    """A plug-in module with its config, or a backbone without a config.

    The backbone of a checkpoint that identifies its network is the path of the file.
    """

    package: ModuleType
    name: str
    backbone: str
    config: EmbeddingConfig | None

    @property
    def record(self) -> NetworkRecord:
        """The backbone's record in the zoo."""
        return self.package.ZOO[self.backbone]


def find_plugin(name: str) -> FoundPlugin:
    """Find a plug-in module or a backbone by its name, with or without the package in front.

    Args:
        name: The name, or the path of a checkpoint that identifies its network, or of the folder
            of a training run.

    Raises:
        ConfigError: No module or backbone has this name.
        CheckpointError: The file is missing, damaged, or does not identify its network.
    """
    if is_checkpoint_path(name):
        return _find_in_file(checkpoint_in(name))
    known: list[str] = []
    for package in plugin_packages():
        plain = name.removeprefix(f"{package.__name__}.")
        configs = embedding_configs(package.__name__)
        if plain in configs:
            return FoundPlugin(package, plain, configs[plain].backbone, configs[plain])
        if plain in package.ZOO:
            return FoundPlugin(package, plain, plain, None)
        known += [*configs, *package.ZOO]
    raise ConfigError(unknown("module or backbone", name, known))


def _find_in_file(path: Path) -> FoundPlugin:
    metadata = read_metadata(path)
    for package in plugin_packages():
        if package.ZOO.has_network_of(path):
            config = None
            if metadata and metadata.taps:
                config = EmbeddingConfig(str(path), metadata.taps, metadata.pooling)
            return FoundPlugin(package, path.stem, str(path), config)
    msg = (
        f"{path} does not identify its network: give the name of its backbone or module, "
        f"and the path as model_file_path"
    )
    raise CheckpointError(msg)


def load_model(name: str, taps: Sequence[str] = (), **options: Any) -> PluginModel:
    """Load the model of a plug-in module or of a backbone.

    Args:
        name: Name of a module such as ``mn04_e1_l`` or of a backbone such as ``mn10_as``, with or
            without the package in front; or the path of a checkpoint that identifies its network,
            or of the folder of a training run.
        taps: Taps to use in place of the module's own, or of the logits of the backbone.
        options: Options of `hear_core.plugins.loading.load_plugin`.

    Raises:
        ConfigError: No module or backbone has this name, or an option is invalid.
        CheckpointError: The weights cannot be found, downloaded or read, or do not fit.
    """
    found = find_plugin(name)
    config = found.config or EmbeddingConfig(found.backbone, ("logits",))
    own: dict[str, Any] = {"taps": tuple(taps)} if taps else {}
    return load_plugin(found.package.ZOO, config, **own, **options)


def list_models(pattern: str = "*") -> list[str]:
    """Return the full names of all plug-in modules that match a shell pattern, such as ``mn*``.

    A module matches with or without the name of its package.
    """
    return [
        f"{package}.{name}"
        for package in PACKAGES
        for name in embedding_configs(package)
        if fnmatchcase(name, pattern) or fnmatchcase(f"{package}.{name}", pattern)
    ]


def module_name(name: str) -> str:
    """Return the name to import a plug-in module by, given with or without its package.

    The path of a checkpoint is returned as an absolute path, which `plugin_module` takes as well.

    Raises:
        ConfigError: No module has this name.
    """
    if is_checkpoint_path(name):
        return str(checkpoint_in(name).absolute())
    known: list[str] = []
    for package in PACKAGES:
        configs = embedding_configs(package)
        if name in configs:
            return f"{package}.{name}"
        known += configs
    if "." not in name and not _is_importable(name):
        raise ConfigError(unknown("module", name, known))
    return name


def _is_importable(name: str) -> bool:
    try:
        return name in sys.modules or find_spec(name) is not None
    except ValueError:  # of an empty name
        return False


def plugin_module(name: str) -> ModuleType:
    """Return a plug-in module by the name to import it by, or by the path of a checkpoint.

    The module of a checkpoint has the taps in its metadata, or the logits if it has none.

    Raises:
        ModuleNotFoundError: There is no such module.
        CheckpointError: The file is missing, damaged, or does not identify its network.
    """
    if not is_checkpoint_path(name):
        return import_module(name)
    found = find_plugin(name)
    module = ModuleType(f"{found.package.__name__}.{found.name}")
    config = found.config or EmbeddingConfig(found.backbone, ("logits",))
    add_plugin_api(module, found.package.ZOO, config)
    return module


def plugin_packages() -> Iterator[ModuleType]:
    """Yield the packages in `PACKAGES`, imported."""
    # By name at run time: the packages of networks import this one.
    return map(import_module, PACKAGES)
