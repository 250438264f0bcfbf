"""Zoos: tables of networks that come with weights."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hear_core.errors import CheckpointError, ConfigError, unknown
from hear_core.frontends.log_mel import Frontend
from hear_core.networks.backbone import Backbone
from hear_core.zoo import checkpoints
from hear_core.zoo.checkpoints import Checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkRecord:
    """One network of a zoo.

    Args:
        network: Makes the network; takes ``num_classes``.
        arguments: For `network`.
        frontend: Makes the front-end that the network was trained with.
        checkpoint: Its weights.
        constants: Shapes of tensors that the checkpoint may hold besides the weights. They belong
            to the front-end, which computes them, and are not loaded, but they tell whether the
            weights were trained with it.
        rename: From a key in the checkpoint to what it is called in the network.
        optional: Prefixes of layers that the checkpoint may lack, or have in another size, as they
            were no part of its training; they then start untrained, and a warning says so.
        features: The tap that its makers hand out as the embedding.
        labels: The classes of its logits, if they have names.
        figures: What its makers published of it, such as ``{"mAP": 0.471}``.
    """

    network: Callable[..., Backbone]
    arguments: Mapping[str, Any]
    frontend: Callable[[], Frontend]
    checkpoint: Checkpoint
    constants: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rename: Callable[[str], str] = str
    optional: tuple[str, ...] = ()
    features: str = "e1"
    labels: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    def build(self, num_classes: int | None = None) -> Backbone:
        """Return the network with fresh weights, for another number of classes if one is given."""
        other = {} if num_classes is None else {"num_classes": num_classes}
        return self.network(**self.arguments, **other)

    def skeleton(self, num_classes: int | None = None) -> Backbone:
        """Return the network without memory for its weights, to ask for names and shapes."""
        with torch.device("meta"):
            return self.build(num_classes)


class Zoo(dict[str, NetworkRecord]):
    """Networks by name."""

    def __missing__(self, name: str) -> NetworkRecord:
        raise ConfigError(unknown("backbone", name, self))

    def weights(self, name: str, model_file_path: str | Path = "") -> Path:
        """Return the file that a network's weights are in.

        Args:
            name: A key of this zoo.
            model_file_path: Take this file; without one, the released checkpoint is found or
                fetched, see `hear_core.zoo.checkpoints`.

        Raises:
            ConfigError: The name is unknown.
            CheckpointError: The file cannot be had, or is not what its name says.
        """
        checkpoint = self[name].checkpoint
        if not model_file_path:
            return checkpoints.fetch_checkpoint(checkpoint)
        path = Path(model_file_path).expanduser()
        if path.name == checkpoint.file and checkpoint.sha256 and path.is_file():
            checkpoints.verify_checkpoint(path, checkpoint)
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
        found = checkpoints.read_checkpoint(file)
        state = _renamed(row, found)
        network = row.skeleton(num_classes)
        replaceable = row.optional + (() if num_classes is None else network.class_layers)
        if untrained := _misfits(network, state, replaceable):
            log.warning(
                "%s: the last layer of the checkpoint is not for %s classes; it was dropped, and "
                "%s starts untrained",
                name,
                "these" if num_classes is None else num_classes,
                ", ".join(untrained),
            )
            state = _replaced(state, untrained, row.build(num_classes).state_dict())
        weights = network.state_dict()
        if mismatch := _mismatch(weights | _constants(row, state), state):
            msg = f"{file} does not fit {name}: {mismatch}"
            if fitting := [other for other in self if self._fits(other, found)]:
                msg += f". It fits {', '.join(fitting[:3])}{' …' if len(fitting) > 3 else ''}"
            raise CheckpointError(msg)
        loaded = {key: state[key] for key in weights}
        network.load_state_dict(loaded, strict=True, assign=True)
        return network

    def _fits(self, name: str, found: Mapping[str, Tensor]) -> bool:
        """Say whether what was read from a file are the weights of a network."""
        row = self[name]
        network, state = row.skeleton(), _renamed(row, found)
        wanted = network.state_dict()
        state = _replaced(state, _misfits(network, state, row.optional), wanted)
        return not _mismatch(wanted | _constants(row, state), state)

    def random_init(self, name: str, *, num_classes: int | None = None, seed: int = 0) -> Backbone:
        """Return a network with random weights, the same for the same seed.

        The global random state is neither used nor changed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self[name].build(num_classes)


def _renamed(row: NetworkRecord, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {row.rename(key): tensor for key, tensor in found.items()}


def _constants(row: NetworkRecord, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those constants of a row that a checkpoint holds, without memory for their values."""
    shapes = {key: shape for key, shape in row.constants.items() if key in state}
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def _misfits(
    network: Backbone, state: Mapping[str, Tensor], layers: Iterable[str]
) -> tuple[str, ...]:
    """Return those of some layers that have other names or shapes in a checkpoint."""
    wanted = network.state_dict()

    def shapes(tensors: Mapping[str, Tensor], layer: str) -> dict[str, torch.Size]:
        return {k: v.shape for k, v in tensors.items() if k.startswith(f"{layer}.")}

    return tuple(
        dict.fromkeys(layer for layer in layers if shapes(wanted, layer) != shapes(state, layer))
    )


def _replaced(
    state: Mapping[str, Tensor], layers: Iterable[str], fresh: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return a state dict with the values of some layers from another."""
    prefixes = tuple(f"{layer}." for layer in layers)
    kept = {key: tensor for key, tensor in state.items() if not key.startswith(prefixes)}
    return kept | {key: tensor for key, tensor in fresh.items() if key.startswith(prefixes)}


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
