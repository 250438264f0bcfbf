"""Zoos: tables of networks that come with weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hear_core import checkpoints
from hear_core.backbone import Backbone
from hear_core.checkpoints import Checkpoint
from hear_core.errors import CheckpointError, ConfigError, unknown
from hear_core.frontend import Frontend

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One network of a zoo.

    Args:
        network: Makes the network; takes ``num_classes``.
        arguments: For `network`.
        frontend: Makes the front-end that the network was trained with.
        checkpoint: Its weights.
        constants: Shapes of tensors that the checkpoint may hold besides the weights. They belong
            to the front-end, which computes them, and are not loaded, but they tell whether the
            weights were trained with it.
        features: The tap that its makers hand out as the embedding.
        labels: The classes of its logits, if they have names.
        figures: What its makers published of it, such as ``{"mAP": 0.471}``.
    """

    network: Callable[..., Backbone]
    arguments: Mapping[str, Any]
    frontend: Callable[[], Frontend]
    checkpoint: Checkpoint
    constants: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    features: str = "e1"
    labels: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    def build(self, num_classes: int | None = None) -> Backbone:
        """Return the network with fresh weights, for another number of classes if one is given."""
        other = {} if num_classes is None else {"num_classes": num_classes}
        return self.network(**self.arguments, **other)

    def outline(self, num_classes: int | None = None) -> Backbone:
        """Return the network without memory for its weights, to ask for names and shapes."""
        with torch.device("meta"):
            return self.build(num_classes)


class Zoo(dict[str, Row]):
    """Networks by name."""

    def __missing__(self, name: str) -> Row:
        raise ConfigError(unknown("backbone", name, self))

    def weights(self, name: str, model_file_path: str | Path = "") -> Path:
        """Return the file that a network's weights are in.

        Args:
            name: A key of this zoo.
            model_file_path: Take this file; without one, the released checkpoint is found or
                fetched, see `hear_core.checkpoints`.

        Raises:
            ConfigError: The name is unknown.
            CheckpointError: The file cannot be had, or is not what its name says.
        """
        checkpoint = self[name].checkpoint
        if not model_file_path:
            return checkpoints.fetch(checkpoint)
        path = Path(model_file_path).expanduser()
        if path.name == checkpoint.file and checkpoint.sha256 and path.is_file():
            checkpoints.verify(path, checkpoint)
        return path

    def load(
        self, name: str, model_file_path: str | Path = "", *, num_classes: int | None = None
    ) -> Backbone:
        """Return a network with its weights.

        Args:
            name: A key of this zoo.
            model_file_path: See `weights`.
            num_classes: If the checkpoint has another number of classes, its last layer is
                dropped for an untrained one, and a warning says so.

        Raises:
            ConfigError: The name is unknown.
            CheckpointError: The file cannot be had or read, or does not fit the network.
        """
        row = self[name]
        file = self.weights(name, model_file_path)
        state = checkpoints.read(file)
        network = row.outline(num_classes)
        if num_classes is not None:
            state |= _untrained_last_layer(row, name, network, state, num_classes)
        weights = network.state_dict()
        if mismatch := _mismatch(weights | _constants(row, state), state):
            msg = f"{file} does not fit {name}: {mismatch}"
            if fitting := [n for n, r in self.items() if not _mismatch(_shapes(r, state), state)]:
                msg += f". It fits {', '.join(fitting[:3])}{' …' if len(fitting) > 3 else ''}"
            raise CheckpointError(msg)
        loaded = {key: state[key] for key in weights}
        network.load_state_dict(loaded, strict=True, assign=True)
        return network

    def untrained(self, name: str, *, num_classes: int | None = None, seed: int = 0) -> Backbone:
        """Return a network with random weights, the same for the same seed.

        The global random state is neither used nor changed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self[name].build(num_classes)


def _shapes(row: Row, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return row.outline().state_dict() | _constants(row, state)


def _constants(row: Row, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those constants of a row that a checkpoint holds, without memory for their values."""
    shapes = {key: shape for key, shape in row.constants.items() if key in state}
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def _untrained_last_layer(
    row: Row, name: str, network: Backbone, state: Mapping[str, Tensor], num_classes: int
) -> dict[str, Tensor]:
    """Return fresh values for the layers that depend on the number of classes, if they differ."""
    wanted = network.state_dict()
    keys = [k for k in wanted if k.startswith(tuple(f"{p}." for p in network.class_layers))]
    if all(k in state and state[k].shape == wanted[k].shape for k in keys):
        return {}
    log.warning(
        "%s: the last layer of the checkpoint is not for %d classes; it was dropped, and %s "
        "starts untrained",
        name,
        num_classes,
        ", ".join(network.class_layers),
    )
    fresh = row.build(num_classes).state_dict()
    return {key: fresh[key] for key in keys}


def _mismatch(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Say in words how two state dicts differ in names and shapes; nothing if they do not."""
    complaints = []
    if missing := [key for key in wanted if key not in found]:
        complaints.append(f"it lacks {_some(missing)}")
    if unexpected := [key for key in found if key not in wanted]:
        complaints.append(f"the network has no {_some(unexpected)}")
    if misshapen := [
        f"{key} is {tuple(found[key].shape)} in the file and {tuple(wanted[key].shape)} here"
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]:
        complaints.append(_some(misshapen))
    return "; ".join(complaints)


def _some(items: list[str], show: int = 3) -> str:
    rest = f" and {len(items) - show} more" if len(items) > show else ""
    return ", ".join(items[:show]) + rest
