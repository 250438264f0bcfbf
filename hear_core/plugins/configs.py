"""Embedding configs: backbone, taps, pooling and windows of each embedding, read from YAML.

The published ones are in ``embeddings_configs/<package>.yaml``. Users add their own by listing
files and folders in the environment variable ``HEAR_CONFIGS``, in the same format. A name there is
either qualified, ``hear_mn.mine``, or belongs to the package that the file is named after.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from hear_core.errors import ConfigError, require_number, shortened_repr, unknown
from hear_core.io.yaml_files import parse_yaml, read_yaml

_VARIABLE = "HEAR_CONFIGS"
_PUBLISHED = "embeddings_configs"
_SECONDS = 0.001, 60.0
"""Smallest and largest window and hop."""


@dataclass(frozen=True)
class EmbeddingConfig:
    """One embedding, as data.

    Args:
        backbone: Name of a network in the zoo of the package.
        taps: Tap names or aliases, in the order of concatenation.
        pooling: Pooling of map taps to vectors.
        timestamp_window: Length in seconds of the window of audio centred on each timestamp.
        timestamp_hop: Time from one timestamp to the next in seconds. Frame-wise networks ignore
            window and hop: their timestamps are their frames.
        scene_window: Length in seconds up to which a clip is embedded in one piece.
        scene_hop: Time from one window of a longer clip to the next in seconds. Windows are
            averaged, or crossfaded if the network is frame-wise.
        note: Remark for users.

    Raises:
        ConfigError: A value has the wrong type or is out of range.
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
            require_number(name, getattr(self, name), *_SECONDS, unit="seconds")

    @classmethod
    def from_mapping(cls, entry: Mapping[str, Any]) -> EmbeddingConfig:
        """Return the config that a mapping describes, such as an entry of a YAML file.

        Raises:
            ConfigError: A key is unknown or missing, or a value is not valid.
        """
        _check_keys(entry)
        if missing := {"backbone", "taps"} - set(entry):
            msg = f"{' and '.join(sorted(missing))} must be given"
            raise ConfigError(msg)
        return cls(**entry)

    def override(self, **options: Any) -> EmbeddingConfig:
        """Return the config with some of its values replaced.

        Raises:
            ConfigError: An option is unknown, or a value is not valid.
        """
        _check_keys(options)
        return replace(self, **options)


def _require(condition: bool, name: str, value: Any, wanted: str) -> None:
    if not condition:
        msg = f"{name} must be {wanted}, not {shortened_repr(value)}"
        raise ConfigError(msg)


def _check_keys(entry: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(EmbeddingConfig)]
    for key in entry:
        if key not in known:
            raise ConfigError(unknown("option", key, known))


def embedding_configs(package: str) -> Mapping[str, EmbeddingConfig]:
    """Return the embeddings of a plug-in package by name: the published ones and the user's own.

    Raises:
        ConfigError: A file cannot be read, or one of its entries is not valid. The message names
            both.
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
    for source, package_of_file, content in [*published, *_own(variable)]:
        try:
            for key, entry in _entries(content).items():
                qualifier, _, name = key.rpartition(".")
                package = qualifier or package_of_file
                if package not in packages:
                    raise ConfigError(f"{key}: " + unknown("plug-in package", package, packages))
                if name in packages[package]:
                    msg = f"there is already an embedding {package}.{name}"
                    raise ConfigError(msg)
                packages[package][name] = _entry(key, entry)
        except ConfigError as error:
            msg = f"{source}: {error}"
            raise ConfigError(msg) from error
    return {package: _without_aliases(names) for package, names in packages.items()}


def _published() -> Iterator[tuple[str, str, Any]]:
    """Yield (source, package that plain names belong to, content) of the published files."""
    for file in resources.files(_PUBLISHED).iterdir():
        if file.name.endswith(".yaml"):
            text = file.read_text(encoding="utf-8")
            yield file.name, file.name.removesuffix(".yaml"), parse_yaml(text, file.name)


def _own(variable: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the same for the user's own files."""
    for listed in filter(None, variable.split(os.pathsep)):
        path = Path(os.path.expanduser(listed))  # noqa: PTH111 - it keeps ~ if there is no home
        if not os.path.exists(path):  # noqa: PTH110 - it never raises
            msg = f"{_VARIABLE} lists {listed}, which does not exist"
            raise ConfigError(msg)
        for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
            yield str(file), file.name.split(".")[0], read_yaml(file)


def _entries(content: Any) -> Mapping[str, Any]:
    entries = {} if content is None else content
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
                "an embedding must be a mapping such as {backbone: …, taps: […]}, "
                f"not {shortened_repr(entry)}"
            )
            raise ConfigError(msg)
        return EmbeddingConfig.from_mapping(entry)
    except ConfigError as error:
        msg = f"{key}: {error}"
        raise ConfigError(msg) from error


def _without_aliases(names: Mapping[str, EmbeddingConfig | str]) -> dict[str, EmbeddingConfig]:
    """Replace every entry that names another one by that entry."""
    resolved = {}
    for name, entry in names.items():
        target = names.get(entry) if isinstance(entry, str) else entry
        if not isinstance(target, EmbeddingConfig):
            entries = [n for n, e in names.items() if isinstance(e, EmbeddingConfig)]
            raise ConfigError(f"{name}: " + unknown("embedding", str(entry), entries))
        resolved[name] = target
    return resolved
