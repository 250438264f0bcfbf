"""Any plug-in with the API of HEAR, loaded and called as heareval does it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hear_core.errors import ConfigError, HearError
from hear_core.zoo.download import sha256_of


class Plugin:
    """A plug-in's model.

    Args:
        module: Importable name of a plug-in module.
        model_file: Its weights; without a path they are those that the plug-in takes by itself.
        options: For its ``load_model``, as in heareval.
        device: Such as ``cuda``; without one it is the GPU if there is one.

    Attributes:
        settings: What its embeddings depend on, as JSON takes it.

    Raises:
        ConfigError: There is no such module or device, the module is no plug-in, or it raises
            something while it is loaded.
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
                self._module = import_module(module)
            except ModuleNotFoundError as error:
                msg = f"there is no plug-in module {module!r}: {error}"
                raise ConfigError(msg) from error
        if not hasattr(self._module, "load_model"):
            msg = f"{module} is no HEAR plug-in: it has no function load_model"
            raise ConfigError(msg)
        options = dict(options or {})
        file = [model_file] if model_file else []
        with _loading(module):
            self._model = self._module.load_model(*file, **options)
        if not hasattr(self._model, "sample_rate"):
            msg = f"{module} is no HEAR plug-in: its model has no sample_rate"
            raise ConfigError(msg)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if isinstance(self._model, nn.Module):
            try:
                self._model.to(self.device)
            except (RuntimeError, AssertionError) as error:
                msg = f"{module} cannot be put on the device {self.device!r}: {error}"
                raise ConfigError(msg) from error
        self.name = module
        self.settings = {
            "module": module,
            "package": _package(module),
            # A name in a user's own YAML may come to mean something else.
            "config": str(getattr(self._module, "config", "")),
            "weights": _checksum(self._model, model_file),
            "options": options,
            "sample_rate": self.sample_rate,
        }

    @property
    def sample_rate(self) -> int:
        """Of the audio that it takes, in Hz."""
        return int(self._model.sample_rate)

    def size(self, *, timestamps: bool) -> int | None:
        """Return how large it says that an embedding is; None if it says nothing."""
        found = getattr(self._model, f"{'timestamp' if timestamps else 'scene'}_embedding_size", 0)
        return int(found) or None

    @torch.no_grad()
    def embed(self, audio: Tensor, *, timestamps: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Embed clips of one length.

        Args:
            audio: (clips, samples), float32.
            timestamps: Take embeddings over time instead of one of the scene.

        Returns:
            Scene embeddings (clips, size) and None; or embeddings over time (clips, timestamps,
            size) and their times in milliseconds (clips, timestamps).
        """
        given = self._as_input(audio)
        if timestamps:
            found, times = self._module.get_timestamp_embeddings(given, self._model)
            return _array(found).astype(np.float32, copy=False), _array(times)
        found = self._module.get_scene_embeddings(given, self._model)
        return _array(found).astype(np.float32, copy=False), None

    def _as_input(self, audio: Tensor) -> Any:
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is not None and isinstance(self._model, tensorflow.Module):
            return tensorflow.convert_to_tensor(audio.numpy())
        return audio.to(self.device)


@contextmanager
def _loading(module: str) -> Iterator[None]:
    """Say of whatever somebody else's code raises where it comes from; our own errors do."""
    try:
        yield
    except HearError:
        raise
    except Exception as error:
        msg = f"{module} cannot be loaded: {type(error).__name__}: {error}"
        raise ConfigError(msg) from error


def _array(found: Any) -> np.ndarray:
    if not isinstance(found, Tensor):
        return np.asarray(found)  # of TensorFlow
    found = found.detach().cpu()
    return (found.float() if found.dtype == torch.bfloat16 else found).numpy()


@cache
def _package(module: str) -> str | None:
    """Return what was installed to have a module, with its version, where that is known."""
    names = metadata.packages_distributions().get(module.partition(".")[0], [])
    return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(set(names))) or None


def _checksum(model: Any, model_file: str) -> str | None:
    """Return the SHA-256 of the file of weights, or of the weights where no file is known."""
    file = model_file or getattr(model, "weights", None)
    # It may as well be the name of weights, or be the weights.
    if isinstance(file, str | Path) and (path := Path(file).expanduser()).is_file():
        return sha256_of(path)
    if not isinstance(model, nn.Module):
        return None
    key = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        key.update(name.encode())
        # As bytes, which any type has, and flat, since a number by itself has no view of another.
        key.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return key.hexdigest()
