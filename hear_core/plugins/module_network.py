"""Plug-ins of other packages as networks, whose embeddings are classified as those of ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar, NoReturn, Self

import torch
from torch import Tensor

from hear_core.errors import ConfigError
from hear_core.frontends.log_mel import Frontend
from hear_core.networks.backbone import Backbone
from hear_core.networks.tap_classifier import TapClassifier
from hear_core.networks.taps import TapShape
from hear_core.plugins.names import PACKAGES

SCENE = "scene"
"""The only tap of a plug-in of another package: its scene embedding."""

_TRUSTED = "HEAR_TRUSTED_MODULES"


class RawWaveform(Frontend):
    """A front-end for networks that take waveforms: it passes them on as one band.

    Args:
        sample_rate: Sample rate of the waveform in Hz.

    Shape:
        (batch, samples) to (batch, 1, samples).
    """

    n_mels = hop = window = min_samples = 1

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate

    def forward(self, waveform: Tensor) -> Tensor:
        return waveform.unsqueeze(1)

    def frames(self, samples: int) -> int:
        return samples

    def samples_for(self, frames: int) -> int:
        return frames

    def exportable(self) -> Self:
        """Return the front-end itself, which is exportable."""
        return self


class ModuleNetwork(Backbone):
    """The network of a module with the HEAR API, whose only tap is its scene embedding.

    The module is imported, and its model loaded, when it first computes. Its weights are not part
    of this network, so that a checkpoint names the module only, which must be installed wherever
    the checkpoint is used. A checkpoint may come from anyone and importing runs code, so that a
    module is imported only if the environment variable ``HEAR_TRUSTED_MODULES``, names separated by
    commas, lists it; one that the program has imported itself is used as it is.

    Args:
        module: Name to import the module by.
        size: Length of its scene embeddings.
        model: File of weights for the module's ``load_model``; its own default if it is empty.
    """

    traceable = False

    def __init__(self, module: str, size: int, model: str = "") -> None:
        super().__init__()
        self.module, self.model = module, model
        self.tap_shapes = {SCENE: TapShape(size)}
        self._loaded: tuple[ModuleType, Any] | None = None

    def forward(self, log_mel: Tensor, taps: Sequence[str] = (SCENE,)) -> dict[str, Tensor]:
        if self._loaded is None:
            check_trusted(self.module)
            module = import_plugin(self.module)
            self._loaded = module, load_plugin_model(module, self.model)
        module, model = self._loaded
        with torch.no_grad():
            found = module.get_scene_embeddings(log_mel[:, 0].float().cpu(), model)
        found = torch.as_tensor(found).detach().to(log_mel.device, torch.float32)
        return dict.fromkeys(taps, found)

    def exportable(self, min_channels: int = 1) -> NoReturn:
        """Raise an error, as the module is not made of known operations."""
        msg = f"the module {self.module} cannot be exported, and neither can its classifiers"
        raise ConfigError(msg)

    def __deepcopy__(self, memo: dict[int, Any]) -> ModuleNetwork:
        # Its model stays one: it has no state that a copy would change.
        size = self.tap_shapes[SCENE].channels
        twin = ModuleNetwork(self.module, size, self.model)
        twin._loaded, twin.training = self._loaded, self.training
        return twin


class ModuleTapClassifier(TapClassifier):
    """A classifier of the embeddings of a module with the HEAR API."""

    networks: ClassVar[Mapping[str, Callable[..., Backbone]]] = {"ModuleNetwork": ModuleNetwork}


def check_trusted(module: str) -> None:
    """Check that a module that a file names may be imported: importing runs its code.

    Our own modules may be, those that the program has imported already, and those that the
    environment variable ``HEAR_TRUSTED_MODULES``, names separated by commas, lists.

    Raises:
        ConfigError: It is another module.
    """
    listed = [name.strip() for name in os.environ.get(_TRUSTED, "").split(",")]
    ours = module.partition(".")[0] in PACKAGES
    if not ours and module not in sys.modules and module not in listed:
        msg = (
            f"the embeddings are those of the module {module!r}, whose code would be run: "
            f"if you trust it, set the environment variable {_TRUSTED}={module}"
        )
        raise ConfigError(msg)


def import_plugin(name: str) -> ModuleType:
    """Import a module with the HEAR API.

    Raises:
        ConfigError: It is not installed, cannot be imported, or does not have the API.
    """
    try:
        module = import_module(name)
    except Exception as error:  # importing runs code of others
        msg = f"the module {name} cannot be imported: {type(error).__name__}: {error}"
        raise ConfigError(msg) from error
    for function in ("load_model", "get_scene_embeddings"):
        if not callable(getattr(module, function, None)):
            msg = f"{name} is not a HEAR plug-in: it does not have the function {function}"
            raise ConfigError(msg)
    return module


def load_plugin_model(module: ModuleType, model: str = "") -> Any:
    """Return the model of a module with the HEAR API.

    Args:
        module: The module.
        model: File of weights; the module's own default if it is empty.

    Raises:
        ConfigError: The model cannot be loaded, or lacks its sample rate or embedding size.
    """
    try:
        loaded = module.load_model(model) if model else module.load_model()
    except Exception as error:  # loading runs code of others
        msg = f"the model of {module.__name__} cannot be loaded: {type(error).__name__}: {error}"
        raise ConfigError(msg) from error
    for name in ("sample_rate", "scene_embedding_size"):
        value = getattr(loaded, name, None)
        if not isinstance(value, int) or value <= 0:
            msg = f"{module.__name__} is not a HEAR plug-in: its model has the {name} {value!r}"
            raise ConfigError(msg)
    return loaded
