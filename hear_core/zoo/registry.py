"""Zoos: tables of networks with released weights, and the loading of their checkpoints."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hear_core.errors import CheckpointError, ConfigError, unknown
from hear_core.events.decoding import EventDecoding
from hear_core.frontends.log_mel import Frontend
from hear_core.networks.backbone import Backbone
from hear_core.zoo import checkpoints
from hear_core.zoo.checkpoints import Checkpoint
from hear_core.zoo.metadata import CheckpointMetadata, read_metadata
from hear_core.zoo.reading import read_checkpoint, type_mismatches

log = logging.getLogger(__name__)

_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")
# Arguments that may differ between networks that compute the same with the same weights.
_FREE_ARGUMENTS = {"num_classes", "weak_classes", "dropout"}


@dataclass(frozen=True)
class NetworkRecord:
    """Description of one network of a zoo.

    Args:
        network: Constructor of the network; takes ``num_classes``.
        arguments: Arguments of `network`.
        frontend: Constructor of the front-end that the network was trained with: a class, or a
            `functools.partial` of one with keyword arguments.
        checkpoint: The released weights.
        constants: Shapes of tensors that the checkpoint may hold besides the weights. They belong
            to the front-end, which computes them, and are not loaded; they show whether the
            weights were trained with it.
        constant_values: Functions that return the values of such constants, by key; weights
            whose constants have other values were trained with another front-end.
        rename: Function from a key in the checkpoint to the key of the network. Keys
            that become the same one must hold the same values.
        optional: Prefixes of layers that the checkpoint may lack, or hold in another size, because
            they were not trained. They are then initialised randomly, with a warning.
        features: The tap that the authors use as the embedding.
        labels: Names of the classes of the logits; empty if they are not known.
        reported_metrics: Metrics that the authors published, such as ``{"mAP": 0.471}``.
        thresholds: Score from which a class counts as present, by label, where one was chosen.
        window: Length in seconds of the audio that the network was trained on, which longer audio
            is divided into; 0 if it takes any length.
        decoding: Event decoding without thresholds, where one was chosen.
    """

    network: Callable[..., Backbone]
    arguments: Mapping[str, Any]
    frontend: Callable[[], Frontend]
    checkpoint: Checkpoint
    constants: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    constant_values: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)
    rename: Callable[[str], str] = str
    optional: tuple[str, ...] = ()
    features: str = "e1"
    labels: tuple[str, ...] = ()
    reported_metrics: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    window: float = 0.0
    decoding: EventDecoding | None = None

    def build(self, num_classes: int | None = None) -> Backbone:
        """Return the network with fresh weights, for another number of classes if one is given."""
        other = {} if num_classes is None else {"num_classes": num_classes}
        return self.network(**(dict(self.arguments) | other))

    def skeleton(self, num_classes: int | None = None) -> Backbone:
        """Return the network without memory for its weights, to look up names and shapes."""
        with torch.device("meta"):
            return self.build(num_classes)

    def with_labels(self, labels: Iterable[str]) -> NetworkRecord:
        """Return the record of the same network for other classes."""
        labels = tuple(labels)
        arguments = {**self.arguments, "num_classes": len(labels)}
        return replace(self, arguments=arguments, labels=labels, thresholds={}, decoding=None)

    def with_classes(self, num_classes: int | None) -> NetworkRecord:
        """Return the record for a number of classes, unnamed ones if it is not its own number."""
        if num_classes is None or num_classes == len(self.labels):
            return self
        return self.with_labels(f"class {index}" for index in range(num_classes))

    def describe(self, labels: Iterable[str] | None = None, **entries: Any) -> CheckpointMetadata:
        """Return the metadata to save weights of this network with.

        Args:
            labels: Names of the classes that the network was trained for; the record's by default.
            entries: Other entries of `CheckpointMetadata`, such as ``metrics``.
        """
        record = self if labels is None else self.with_labels(labels)
        return CheckpointMetadata(
            network=_base(self.network).__name__,
            arguments=_arguments(self.network, **record.arguments),
            frontend=_base(self.frontend).__name__,
            frontend_arguments=_arguments(self.frontend),
            labels=record.labels,
            **{
                "features": self.features,
                "thresholds": record.thresholds,
                "window": self.window,
                "decoding": record.decoding.entries() if record.decoding else {},
                **entries,
            },
        )


class LoadedNetwork(NamedTuple):
    """A network with the weights of a file, and its record."""

    network: Backbone
    record: NetworkRecord
    file: Path


class Zoo(dict[str, NetworkRecord]):
    """Networks by name.

    The path of a checkpoint is a name as well if the file identifies its network: by its metadata,
    because it has the name or the checksum of a released file, or because its tensors fit a single
    network. The folder of a training run is that of its checkpoint, see
    `hear_core.zoo.checkpoints.checkpoint_in`.

    Args:
        records: Networks by name.
        compose: Function that returns the record of a name that is not in `records`, or None.
        others: Further classes of networks that a checkpoint may hold, besides those of `records`.
        frontends: Further classes of front-ends that a checkpoint may name.
    """

    def __init__(
        self,
        records: Mapping[str, NetworkRecord],
        compose: Callable[[str], NetworkRecord | None] = lambda name: None,
        others: Iterable[type[Backbone]] = (),
        frontends: Iterable[type[Frontend]] = (),
    ) -> None:
        super().__init__(records)
        self._compose, self._others, self._frontends = compose, tuple(others), tuple(frontends)

    @property
    def networks(self) -> Mapping[str, Callable[..., Backbone]]:
        """Classes of the networks that a checkpoint may hold, by name."""
        return _constructors([*(record.network for record in self.values()), *self._others])

    def __missing__(self, name: str) -> NetworkRecord:
        if record := self._compose(name):
            return record
        if not is_checkpoint_path(name):
            raise ConfigError(unknown("backbone", name, self))
        path = checkpoints.checkpoint_in(name)
        if record := self._described(path) or self._released(path):
            return record
        fitting = self._fitting(read_checkpoint(path))
        if len(fitting) == 1:
            log.info("%s is taken for %s, the only network that it fits", path, fitting[0])
            return self[fitting[0]]
        msg = f"{path} does not identify its network: give the name of its backbone as well"
        if fitting:
            msg += f". It fits {_some(fitting)}"
        raise CheckpointError(msg)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (
            isinstance(name, str) and self._compose(name) is not None
        )

    def has_network_of(self, path: str | Path) -> bool:
        """Return whether a checkpoint identifies its network as one of this zoo.

        Raises:
            CheckpointError: The file is missing or damaged, or its metadata are invalid.
        """
        path = checkpoints.checkpoint_in(path)
        if metadata := read_metadata(path):
            return metadata.network in self.networks
        return self._released(path) is not None or len(self._fitting(read_checkpoint(path))) == 1

    def name_for(self, model_file_path: str | Path, default: str) -> str:
        """Return the path of a checkpoint if it identifies its network, else a default name.

        Raises:
            CheckpointError: The file is missing or damaged, or its metadata are invalid.
        """
        if model_file_path and self.has_network_of(model_file_path):
            return str(model_file_path)
        return default

    def load(
        self, name: str = "", model_file_path: str | Path = "", *, num_classes: int | None = None
    ) -> Backbone:
        """Return a network with its weights, see `open`."""
        return self.open(name, model_file_path, num_classes=num_classes).network

    def open(
        self, name: str = "", model_file_path: str | Path = "", *, num_classes: int | None = None
    ) -> LoadedNetwork:
        """Return a network with its weights, and the record of what was loaded.

        Args:
            name: A name of this zoo; may be empty if the file identifies its network.
            model_file_path: File of weights; without one, the released checkpoint is found or
                fetched, see `hear_core.zoo.checkpoints`.
            num_classes: Number of classes. If the checkpoint has another number, its last layer is
                replaced by an untrained one, with a warning. Classes without known names are
                called ``class 0``, ``class 1`` and so on.

        Raises:
            ConfigError: The name is unknown.
            CheckpointError: The file is missing, damaged, does not fit the network, or holds
                another network than `name`.
        """
        record, file = self._find(name, model_file_path)
        record = record.with_classes(num_classes)
        found = read_checkpoint(file)
        state = _renamed(record, found, file)
        network = record.skeleton()
        replaceable = record.optional + (() if num_classes is None else network.class_layers)
        if unfit := _misfits(network, state, replaceable):
            log.warning(
                "%s: the last layer of the checkpoint is not for %s classes; it was dropped, and "
                "%s starts untrained",
                name or file,
                "these" if num_classes is None else num_classes,
                ", ".join(unfit),
            )
            state = _replaced(state, unfit, record.build().state_dict())
        weights = network.state_dict()
        mismatch = _mismatch(weights | _constants(record, state), state)
        if mismatch or (mismatch := _other_constants(record, state)):
            msg = f"{file} does not fit {name or 'the network that it describes'}: {mismatch}"
            if fitting := self._fitting(found):
                msg += f". It fits {_some(fitting)}"
            elif num_classes is None and not _mismatch(
                *(_without(tensors, network.class_layers) for tensors in (weights, state))
            ):
                msg += ". If its classes are others, give their number as num_classes"
            raise CheckpointError(msg)
        loaded = {
            key: state[key] if tensor.is_floating_point() else state[key].to(tensor.dtype)
            for key, tensor in weights.items()
        }
        network.load_state_dict(loaded, strict=True, assign=True)
        if not model_file_path and not is_checkpoint_path(name):
            checkpoints.keep_checksum(file, record.checkpoint)
        return LoadedNetwork(network, record, file)

    def random_init(self, name: str, *, num_classes: int | None = None, seed: int = 0) -> Backbone:
        """Return a network with random weights, the same for the same seed.

        The global random state is neither used nor changed.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self[name].build(num_classes)

    def _find(self, name: str, model_file_path: str | Path) -> tuple[NetworkRecord, Path]:
        """Return the record of the network that is to be loaded, and the file of its weights."""
        if not name and not model_file_path:
            msg = "name a network, or give the path of a checkpoint"
            raise ConfigError(msg)
        if name not in self and is_checkpoint_path(name):
            if model_file_path and Path(model_file_path) != Path(name):
                msg = f"two files of weights were given: {name} and {model_file_path}"
                raise ConfigError(msg)
            name, model_file_path = "", name
        if not model_file_path:
            record = self[name]
            return record, checkpoints.fetch_checkpoint(record.checkpoint)
        path = checkpoints.checkpoint_in(model_file_path)
        if not name:
            return self[str(path)], path
        record = self[name]
        if path.name == record.checkpoint.file and record.checkpoint.sha256 and path.is_file():
            checkpoints.verify_checkpoint(path, record.checkpoint)
        described = self._described(path)
        in_file = described or self._released(path)
        if in_file and (differences := _differences(record, in_file)):
            msg = f"{path} holds another network than {name}: {differences}"
            raise CheckpointError(msg)
        return described or record, path

    def _described(self, path: Path) -> NetworkRecord | None:
        """Return the record of the network in the metadata of a file, or None without metadata."""
        metadata = read_metadata(path)
        if metadata is None:
            return None
        networks = self.networks
        frontends = _constructors([*(each.frontend for each in self.values()), *self._frontends])
        try:
            if metadata.network not in networks:
                raise ConfigError(unknown("network", metadata.network, networks))
            if metadata.frontend not in frontends:
                raise ConfigError(unknown("front-end", metadata.frontend, frontends))
            record = NetworkRecord(
                networks[metadata.network],
                metadata.arguments,
                partial(frontends[metadata.frontend], **metadata.frontend_arguments),
                # By its full path, so that it is found where it is.
                Checkpoint(str(path.resolve()), "", licence=metadata.licence),
                features=metadata.features,
                labels=metadata.labels,
                reported_metrics=metadata.metrics,
                thresholds=metadata.thresholds,
                window=metadata.window,
                decoding=EventDecoding.from_entries(metadata.decoding)
                if metadata.decoding
                else None,
            )
            network, n_mels = record.skeleton(), record.frontend().n_mels
        except (TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
            msg = f"{path} describes a network that cannot be built here: {error}"
            raise CheckpointError(msg) from error
        count = network.tap_shapes["logits"].channels
        if count != len(metadata.labels):
            msg = f"{path} has {len(metadata.labels)} labels, but a network with {count} classes"
            raise CheckpointError(msg)
        if getattr(network, "n_mels", n_mels) != n_mels:
            msg = f"{path} has a front-end of {n_mels} mel bands, but its network takes another"
            raise CheckpointError(msg)
        return record

    def _released(self, path: Path) -> NetworkRecord | None:
        """Return the record that a file is of by its name, its folder or its checksum."""
        records = [*self.values()]
        if named := [record for record in records if record.checkpoint.names_model(path)]:
            return named[0]
        known = {r.checkpoint.sha256: r for r in records if r.checkpoint.sha256}
        return known.get(checkpoints.checksum_of(path)) if known else None

    def _fitting(self, found: Mapping[str, Tensor]) -> list[str]:
        """Return the names of the networks that the tensors of a file fit."""
        return [name for name in self if self._fits(name, found)]

    def _fits(self, name: str, found: Mapping[str, Tensor]) -> bool:
        record = self[name]
        network, state = record.skeleton(), _renamed(record, found)
        wanted = network.state_dict()
        state = _replaced(state, _misfits(network, state, record.optional), wanted)
        fits = not _mismatch(wanted | _constants(record, state), state)
        return fits and not _other_constants(record, state)


def is_checkpoint_path(name: str | Path) -> bool:
    """Return whether a text is the path of a checkpoint rather than the name of a network.

    So is that of a folder which holds the checkpoint of a training run.
    """
    if isinstance(name, Path) or Path(name).suffix in _SUFFIXES or os.sep in name:
        return True
    return any(Path(name, file).is_file() for file in checkpoints.RUN_CHECKPOINTS)


def _base(constructor: Callable[..., Any]) -> Callable[..., Any]:
    """Return the class behind a class or a partial."""
    return constructor.func if isinstance(constructor, partial) else constructor


def _constructors(given: Iterable[Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    return {_base(constructor).__name__: _base(constructor) for constructor in given}


def _arguments(constructor: Callable[..., Any], **more: Any) -> dict[str, Any]:
    """Return the arguments that a constructor would be called with, defaults aside."""
    given = constructor.keywords if isinstance(constructor, partial) else {}
    return {**given, **more}


def _settings(kind: str, constructor: Callable[..., Any], **more: Any) -> dict[str, Any]:
    """Return everything that a constructor is called with, defaults included, by name."""
    signature = inspect.signature(_base(constructor))
    defaults = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.default is not parameter.empty
    }
    settings = {kind: _base(constructor).__name__, **defaults, **_arguments(constructor, **more)}
    return json.loads(json.dumps(settings, default=repr))


def _differences(wanted: NetworkRecord, found: NetworkRecord) -> str:
    """Describe how two networks differ apart from their classes; empty if they do not."""
    pairs = [
        (_settings("front-end", r.frontend), _settings("network", r.network, **r.arguments))
        for r in (wanted, found)
    ]
    return "; ".join(
        f"{key} is {theirs.get(key)!r} in the file and {ours.get(key)!r} here"
        for ours, theirs in zip(*pairs, strict=True)
        for key in ours | theirs
        if key not in _FREE_ARGUMENTS and ours.get(key) != theirs.get(key)
    )


def _renamed(
    record: NetworkRecord, found: Mapping[str, Tensor], file: Path | None = None
) -> dict[str, Tensor]:
    """Return the tensors of a file by the keys of the network.

    Raises:
        CheckpointError: Two keys become one, and their values differ; only if `file` is given.
    """
    state: dict[str, Tensor] = {}
    for key, tensor in found.items():
        name = record.rename(key)
        if file and name in state and not torch.equal(state[name], tensor):
            msg = f"{file} holds two different tensors for {name}; one of them is {key}"
            raise CheckpointError(msg)
        state[name] = tensor
    return state


def _without(state: Mapping[str, Tensor], layers: Iterable[str]) -> dict[str, Tensor]:
    prefixes = tuple(f"{layer}." for layer in layers)
    return {key: tensor for key, tensor in state.items() if not key.startswith(prefixes)}


def _constants(record: NetworkRecord, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the constants of a record that a checkpoint holds, without memory for values."""
    shapes = {key: shape for key, shape in record.constants.items() if key in state}
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def _other_constants(record: NetworkRecord, state: Mapping[str, Tensor]) -> str:
    """Describe how the constants of a checkpoint differ from those of the front-end of a record."""
    for key, values in record.constant_values.items():
        if key in state and not torch.allclose(state[key], values(), atol=1e-5):
            return f"it was trained with another front-end: {key} has other values"
    return ""


def _misfits(
    network: Backbone, state: Mapping[str, Tensor], layers: Iterable[str]
) -> tuple[str, ...]:
    """Return the layers whose tensors have other names or shapes in a checkpoint."""
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
    return _without(state, layers) | {
        key: tensor for key, tensor in fresh.items() if key.startswith(prefixes)
    }


def _mismatch(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Describe how two state dicts differ in names, shapes and types; empty if they do not."""
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
    if mistyped := type_mismatches(wanted, found):
        complaints.append(_some(mistyped))
    return "; ".join(complaints)


def _some(items: list[str], show: int = 3) -> str:
    rest = f" and {len(items) - show} more" if len(items) > show else ""
    return ", ".join(items[:show]) + rest
