"""HEAR plug-ins, loaded and called as heareval does it.

Besides the functions of the HEAR API, a plug-in may have two that embed a recording that is read in
blocks, so that memory does not depend on its length. They are used for long recordings; without
them, the plug-in is given the whole waveform.

- ``embed_scene_blocks(blocks, model)`` returns the scene embedding (size,).
- ``embed_timestamp_blocks(blocks, model)`` yields consecutive timestamp embeddings (timestamps,
  size), each with their timestamps in milliseconds (timestamps,).

``blocks`` yields float32 arrays (samples,) at the model's sample rate. The embeddings are those of
the whole recording, up to rounding.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hear_core.errors import ConfigError, HearError
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.plugins.names import plugin_module
from hear_core.zoo.download import sha256_of
from hear_core.zoo.registry import is_checkpoint_path


class Plugin:
    """A plug-in module and its model.

    Args:
        module: Importable name of a plug-in module, or path of a checkpoint that identifies its
            network.
        model_file: Path of the weights; empty for those that the plug-in uses by default.
        options: Keyword arguments of the plug-in's ``load_model``, as in heareval.
        device: Device such as ``cuda``; empty for a GPU if there is one, else the CPU.

    Attributes:
        name: Name of the module, or of the checkpoint's file.
        device: Device of the model.
        settings: Everything that the embeddings depend on, as JSON can hold it.

    Raises:
        ConfigError: There is no such module or device, the module is not a HEAR plug-in, or it
            cannot be loaded.
        CheckpointError: A checkpoint is missing, damaged, or does not identify its network.
    """

    def __init__(
        self,
        module: str,
        model_file: str = "",
        options: Mapping[str, Any] | None = None,
        device: str = "",
    ) -> None:
        with _loading(module):
            try:
                self._module = plugin_module(module)
            except ModuleNotFoundError as error:
                msg = f"there is no plug-in module {module!r}: {error}"
                raise ConfigError(msg) from error
        if not hasattr(self._module, "load_model"):
            msg = f"{module} is not a HEAR plug-in: it has no function load_model"
            raise ConfigError(msg)
        options = dict(options or {})
        file = [model_file] if model_file else []
        with _loading(module):
            self._model = self._module.load_model(*file, **options)
        if not _is_positive(getattr(self._model, "sample_rate", None)):
            msg = f"{module} is not a HEAR plug-in: its model has no valid sample_rate"
            raise ConfigError(msg)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if isinstance(self._model, nn.Module):
            try:
                self._model.to(self.device)
            except (RuntimeError, AssertionError) as error:
                msg = f"{module} cannot be moved to the device {self.device!r}: {error}"
                raise ConfigError(msg) from error
        # The name of the file without its folder: embeddings remain valid when a run is moved.
        from_checkpoint = is_checkpoint_path(module)
        self.name = Path(module).name if from_checkpoint else module
        self.settings = {
            "module": self.name,
            "package": _package(self._module.__name__ if from_checkpoint else module),
            # A user may change what a name means in a YAML file of their own.
            "config": _config(self._module),
            "weights": _checksum(self._model, model_file),
            "options": options,
            "sample_rate": self.sample_rate,
        }

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz of the audio that the model takes."""
        return int(self._model.sample_rate)

    def size(self, *, timestamps: bool) -> int | None:
        """Return the embedding size that the model declares; None if it does not declare one."""
        name = f"{'timestamp' if timestamps else 'scene'}_embedding_size"
        found: Any = getattr(self._model, name, None)
        return int(found) if _is_positive(found) else None

    @torch.no_grad()
    def embed(self, audio: Tensor, *, timestamps: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Embed clips of equal length.

        Args:
            audio: Audio (clips, samples), float32.
            timestamps: Whether to compute timestamp embeddings instead of scene embeddings.

        Returns:
            Scene embeddings (clips, size) and None; or timestamp embeddings (clips, timestamps,
            size) and their timestamps in milliseconds (clips, timestamps).
        """
        given = self._as_input(audio)
        if timestamps:
            found, times = self._module.get_timestamp_embeddings(given, self._model)
            return _array(found).astype(np.float32, copy=False), _array(times)
        found = self._module.get_scene_embeddings(given, self._model)
        return _array(found).astype(np.float32, copy=False), None

    @property
    def takes_blocks(self) -> bool:
        """Whether the plug-in can embed a recording that is read in blocks."""
        names = ("embed_scene_blocks", "embed_timestamp_blocks")
        return all(callable(getattr(self._module, name, None)) for name in names)

    @torch.no_grad()
    def embed_scene_blocks(self, blocks: Iterable[np.ndarray]) -> np.ndarray:
        """Return the scene embedding (size,) of a recording; only if `takes_blocks`.

        Args:
            blocks: Waveforms (samples,), float32, one after another.
        """
        found = _array(self._module.embed_scene_blocks(blocks, self._model))
        return found.astype(np.float32, copy=False)

    def embed_timestamp_blocks(
        self, blocks: Iterable[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield consecutive timestamp embeddings of a recording; only if `takes_blocks`.

        Args:
            blocks: Waveforms (samples,), float32, one after another.

        Yields:
            Embeddings (timestamps, size) and their timestamps in milliseconds (timestamps,).
        """
        with torch.no_grad():
            for rows, times in self._module.embed_timestamp_blocks(blocks, self._model):
                yield _array(rows).astype(np.float32, copy=False), _array(times)

    def _as_input(self, audio: Tensor) -> Any:
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is not None and isinstance(self._model, tensorflow.Module):
            return tensorflow.convert_to_tensor(audio.numpy())
        return audio.to(self.device)


@contextmanager
def _loading(module: str) -> Iterator[None]:
    """Name the module in errors that the code of others raises."""
    try:
        yield
    except HearError:
        raise
    except Exception as error:
        msg = f"{module} cannot be loaded: {type(error).__name__}: {error}"
        raise ConfigError(msg) from error


def _array(found: Any) -> np.ndarray:
    if not isinstance(found, Tensor):
        return np.asarray(found)  # a tensor of TensorFlow, or an array
    found = found.detach().cpu()
    return (found.float() if found.dtype == torch.bfloat16 else found).numpy()


def _is_positive(value: Any) -> bool:
    try:
        return int(value) > 0
    except (TypeError, ValueError, OverflowError):
        return False


def _config(module: Any) -> Any:
    """Return the config of a plug-in as JSON can hold it; empty if it has none of a known type."""
    config = getattr(module, "config", "")
    if isinstance(config, EmbeddingConfig) and is_checkpoint_path(config.backbone):
        config = replace(config, backbone=Path(config.backbone).name)
    if is_dataclass(config) and not isinstance(config, type):
        return asdict(config)
    return config if isinstance(config, str) else ""


@cache
def _package(module: str) -> str | None:
    """Return the distribution that a module is from, with its version; None if it is not known."""
    names = metadata.packages_distributions().get(module.partition(".")[0], [])
    return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(set(names))) or None


def _checksum(model: Any, model_file: str) -> str | None:
    """Return the SHA-256 of the file of weights, or of the weights if the file is not known."""
    file = model_file or getattr(model, "weights", None)
    # A plug-in of others may have the name of weights there, or the weights themselves.
    if isinstance(file, str | Path) and (path := Path(file).expanduser()).is_file():
        return sha256_of(path)
    if not isinstance(model, nn.Module):
        return None
    key = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        key.update(name.encode())
        # As bytes, for tensors of any type; flat, since a scalar has no view of another type.
        key.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return key.hexdigest()
