"""Embedding configurations: what is tapped, where, and how clips are cut, read from YAML.

The published ones stand in ``embeddings_configs/<package>.yaml``. A user's own come from the files
and folders listed in the environment variable ``HEAR_CONFIGS``, in the same format. A name there
is either qualified, ``hear_mn.mine``, or belongs to the package that the file is named after.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hear_core.errors import ConfigError, unknown

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

_VARIABLE = "HEAR_CONFIGS"
_PUBLISHED = "embeddings_configs"


@dataclass(frozen=True)
class EmbeddingConfig:
    """One embedding, as data.

    Args:
        backbone: Name of a network in the zoo of the package.
        taps: Tap names or aliases, in the order of concatenation.
        pooling: How map taps become vectors.
        timestamp_window: Seconds of audio behind one timestamp embedding, centred on it.
        timestamp_hop: Seconds from one timestamp to the next. Networks that hear frame by frame
            look at neither: their timestamps are their frames.
        scene_window: Clips up to this many seconds become a scene embedding in one piece.
        scene_hop: Longer ones do in windows this many seconds apart, which are averaged, or
            fade into each other where a network hears frame by frame.
        note: What else a user should know.

    Raises:
        ConfigError: A value is of the wrong type or out of range.
    """

    backbone: str
    taps: tuple[str, ...]
    pooling: str = "avg"
    timestamp_window: float = 0.160
    timestamp_hop: float = 0.050
    scene_window: float = 10.0
    scene_hop: float = 2.5
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("backbone", "pooling", "note"):
            _require(isinstance(getattr(self, name), str), name, getattr(self, name), "a string")
        is_list = isinstance(self.taps, list | tuple) and all(isinstance(t, str) for t in self.taps)
        _require(is_list and len(self.taps) > 0, "taps", self.taps, "a list of tap names")
        object.__setattr__(self, "taps", tuple(self.taps))
        for name in ("timestamp_window", "timestamp_hop", "scene_window", "scene_hop"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            _require(number and 0 < value <= 60, name, value, "a number of seconds up to 60")

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> EmbeddingConfig:
        """Make a config of a mapping, such as an entry of a YAML file."""
        _check_keys(entry)
        if missing := {"backbone", "taps"} - set(entry):
            msg = f"{' and '.join(sorted(missing))} must be given"
            raise ConfigError(msg)
        return cls(**entry)

    def override(self, **options: Any) -> EmbeddingConfig:
        """Return the config with some of its values replaced."""
        _check_keys(options)
        return replace(self, **options)


def _require(condition: bool, name: str, value: Any, wanted: str) -> None:
    if not condition:
        msg = f"{name} must be {wanted}, not {value!r}"
        raise ConfigError(msg)


def _check_keys(entry: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(EmbeddingConfig)]
    for key in entry:
        if key not in known:
            raise ConfigError(unknown("option", key, known))


def embedding_configs(package: str) -> Mapping[str, EmbeddingConfig]:
    """Return the embeddings of a plug-in package by name: the published and the user's own.

    Raises:
        ConfigError: A file cannot be read, or one of its entries is wrong; both are named.
    """
    return _read_all(os.environ.get(_VARIABLE, "")).get(package, {})


def add_embedding_config(path: str | Path) -> None:
    """Add a user's file or folder of embeddings, for this process and those it starts."""
    listed = os.environ.get(_VARIABLE)
    resolved = str(Path(path).expanduser().resolve())
    os.environ[_VARIABLE] = f"{listed}{os.pathsep}{resolved}" if listed else resolved


@lru_cache(maxsize=8)
def _read_all(variable: str) -> dict[str, dict[str, EmbeddingConfig]]:
    published = list(_published())
    packages: dict[str, dict[str, EmbeddingConfig | str]] = {p: {} for _, p, _ in published}
    for source, package_of_file, text in [*published, *_own(variable)]:
        try:
            for key, entry in _parse(text).items():
                qualifier, _, name = key.rpartition(".")
                package = qualifier or package_of_file
                if package not in packages:
                    raise ConfigError(f"{key}: " + unknown("plug-in package", package, packages))
                if name in packages[package]:
                    msg = f"there is already an embedding {package}.{name}"
                    raise ConfigError(msg)
                packages[package][name] = _entry(key, entry)
        except (ConfigError, yaml.YAMLError) as error:
            msg = f"{source}: {error}"
            raise ConfigError(msg) from error
    return {package: _without_aliases(names) for package, names in packages.items()}


def _published() -> Iterator[tuple[str, str, str]]:
    """Yield (where it is, package its plain names belong to, text) of the files shipped."""
    for file in resources.files(_PUBLISHED).iterdir():
        if file.name.endswith(".yaml"):
            yield file.name, file.name.removesuffix(".yaml"), file.read_text(encoding="utf-8")


def _own(variable: str) -> Iterator[tuple[str, str, str]]:
    """Yield the same of a user's own files."""
    for listed in filter(None, variable.split(os.pathsep)):
        path = Path(listed).expanduser()
        if not path.exists():
            msg = f"{_VARIABLE} lists {listed}, which does not exist"
            raise ConfigError(msg)
        for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
            yield str(file), file.name.split(".")[0], file.read_text(encoding="utf-8")


class _StrictLoader(SafeLoader):
    """A YAML loader to which a key that stands twice is an error."""


def _mapping_of_unique_keys(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    if repeated := {key for key in keys if keys.count(key) > 1}:
        msg = f"{', '.join(map(repr, repeated))} stands more than once"
        raise ConfigError(msg)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping_of_unique_keys)


def _parse(text: str) -> Mapping[str, Any]:
    entries = yaml.load(text, Loader=_StrictLoader) or {}  # noqa: S506 - it is a safe loader
    if not isinstance(entries, dict) or not all(isinstance(key, str) for key in entries):
        msg = "the file must map names to embeddings"
        raise ConfigError(msg)
    return entries


def _entry(key: str, entry: Any) -> EmbeddingConfig | str:
    if isinstance(entry, str):
        return entry
    try:
        if not isinstance(entry, dict):
            msg = (
                f"an embedding must be a mapping such as {{backbone: …, taps: […]}}, not {entry!r}"
            )
            raise ConfigError(msg)
        return EmbeddingConfig.of(entry)
    except ConfigError as error:
        msg = f"{key}: {error}"
        raise ConfigError(msg) from error


def _without_aliases(names: Mapping[str, EmbeddingConfig | str]) -> dict[str, EmbeddingConfig]:
    """Put the entry itself in the place of every other spelling of it."""
    resolved = {}
    for name, entry in names.items():
        target = names.get(entry) if isinstance(entry, str) else entry
        if not isinstance(target, EmbeddingConfig):
            entries = [n for n, e in names.items() if isinstance(e, EmbeddingConfig)]
            raise ConfigError(f"{name}: " + unknown("embedding", str(entry), entries))
        resolved[name] = target
    return resolved
