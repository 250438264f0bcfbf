"""The import hook for configs: ``import hear_mn.mn04_e1_l`` without a file of that name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from hear_core.errors import unknown
from hear_core.plugins import loading
from hear_core.plugins.configs import EmbeddingConfig, embedding_configs
from hear_core.plugins.plugin_model import PluginModel
from hear_core.zoo.registry import Zoo


def publish(package: str, zoo: Zoo) -> None:
    """Make every embedding config of a package importable as a module.

    Args:
        package: Name of the package, whose ``__init__`` calls this.
        zoo: Zoo of the backbones of its embeddings.
    """
    sys.meta_path.append(_PluginFinder(package, zoo))


def names(package: str) -> list[str]:
    """Return the names of the plug-in modules of a package."""
    return list(embedding_configs(package))


def attribute(package: str, name: str) -> ModuleType:
    """Import a plug-in module that is accessed as an attribute of its package.

    Raises:
        AttributeError: The package has no module of this name.
    """
    if name not in embedding_configs(package):
        msg = f"module {package!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return import_module(f"{package}.{name}")


class _PluginFinder(MetaPathFinder, Loader):
    """Finds modules that have no file. It is the last finder, so that real files come first."""

    def __init__(self, package: str, zoo: Zoo) -> None:
        self.package, self.zoo = package, zoo

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        if package != self.package:
            return None
        configs = embedding_configs(package)
        if name not in configs:
            msg = f"{package}: {unknown('embedding', name, configs)}"
            # With its `name` set, ``from package import name`` would drop the error and its hint.
            raise ModuleNotFoundError(msg)
        return ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        config = embedding_configs(self.package)[module.__name__.rpartition(".")[2]]
        add_plugin_api(module, self.zoo, config)


def add_plugin_api(module: ModuleType, zoo: Zoo, config: EmbeddingConfig) -> None:
    """Add the functions of the HEAR API, a config and a docstring to a module."""
    module.__doc__ = _describe(zoo, config)
    vars(module).update(
        config=config,
        load_model=_loader(zoo, config),
        get_scene_embeddings=get_scene_embeddings,
        get_timestamp_embeddings=get_timestamp_embeddings,
        embed_scene_blocks=embed_scene_blocks,
        embed_timestamp_blocks=embed_timestamp_blocks,
    )


def _loader(zoo: Zoo, config: EmbeddingConfig) -> Callable[..., PluginModel]:
    def load_model(model_file_path: str = "", **options: Any) -> PluginModel:
        """Return the model with its weights; see `load_plugin` for the options."""
        return loading.load_plugin(zoo, config, model_file_path, **options)

    return load_model


def get_scene_embeddings(audio: Tensor, model: PluginModel) -> Tensor:
    """Return one embedding per clip; see `PluginModel.get_scene_embeddings`."""
    return model.get_scene_embeddings(audio)


def get_timestamp_embeddings(audio: Tensor, model: PluginModel) -> tuple[Tensor, Tensor]:
    """Return embeddings over time; see `PluginModel.get_timestamp_embeddings`."""
    return model.get_timestamp_embeddings(audio)


def embed_scene_blocks(blocks: Iterable[np.ndarray], model: PluginModel) -> Tensor:
    """Return the embedding of a long recording; see `PluginModel.embed_scene_blocks`."""
    return model.embed_scene_blocks(blocks)


def embed_timestamp_blocks(
    blocks: Iterable[np.ndarray], model: PluginModel
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield embeddings of a long recording; see `PluginModel.embed_timestamp_blocks`."""
    return model.embed_timestamp_blocks(blocks)


def _describe(zoo: Zoo, config: EmbeddingConfig) -> str:
    """Return the docstring of a plug-in module."""
    extractor = loading.extractor_skeleton(zoo, config)
    parts = ", ".join(f"{tap} {s.stop - s.start}" for tap, s in extractor.slices.items())
    pooling = "" if config.pooling == "avg" else f", block outputs pooled by {config.pooling}"
    if extractor.samples_per_frame is not None:
        hop = extractor.samples_per_frame / extractor.frontend.sample_rate
        times = f"""There is a timestamp embedding
for every frame of {hop:g} s; a scene embedding is their mean. Clips longer than
{config.scene_window:g} s are processed in crossfaded windows, {config.scene_hop:g} s apart."""
    else:
        times = f"""A timestamp
embedding is that of {config.timestamp_window:g} s around its timestamp, every
{config.timestamp_hop:g} s. A scene embedding is that of the whole clip up to
{config.scene_window:g} s, and the mean of windows {config.scene_hop:g} s apart beyond that."""
    return f"""HEAR plug-in: an embedding of {extractor.size} numbers from {config.backbone}.

It concatenates {parts}{pooling}. Audio is mono at {extractor.frontend.sample_rate} Hz. {times}
{config.note}
"""
