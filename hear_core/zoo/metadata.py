"""Self-describing checkpoints: safetensors files with metadata of their network."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hear_core._version import __version__
from hear_core.errors import CheckpointError, ConfigError
from hear_core.io.files import atomic_write
from hear_core.io.json_files import parse_json
from hear_core.zoo.reading import is_safetensors

_KEY = "hear"  # the entry of the metadata of a safetensors file that is ours, as JSON
_FORMAT = 1
_HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class CheckpointMetadata:
    """Description of the network in a checkpoint, sufficient to rebuild it and to use its output.

    Args:
        network: Name of the class of the network, such as ``MobileNet``.
        arguments: Arguments of the network's constructor, as JSON can hold them.
        frontend: Name of the class of the front-end, such as ``LogMel``.
        frontend_arguments: Arguments of the front-end's constructor.
        labels: Names of the classes, in the order of the logits.
        features: Tap that is the network's embedding.
        taps: Taps of the embedding that the network was trained for; empty for the logits.
        pooling: Pooling of map taps to vectors.
        recipe: Settings of the training that made the checkpoint.
        metrics: Metrics by name that were measured with these weights.
        thresholds: Score from which a class counts as present, by label.
        window: Length in seconds of the audio that the network was trained on, which longer audio
            is divided into; 0 if it takes any length.
        decoding: Parameters of event decoding that suit the network, see
            `hear_core.events.decoding.EventDecoding.entries`.
        licence: SPDX identifier of the weights; empty if there is none.
        version: Version of this package that wrote the file.
    """

    network: str
    arguments: Mapping[str, Any]
    frontend: str
    frontend_arguments: Mapping[str, Any]
    labels: tuple[str, ...]
    features: str = "e1"
    taps: tuple[str, ...] = ()
    pooling: str = "avg"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    window: float = 0.0
    decoding: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    version: str = __version__

    def __post_init__(self) -> None:
        for name in ("labels", "taps"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def to_json(self) -> str:
        """Return the metadata as JSON.

        Raises:
            ConfigError: A value cannot be written as JSON, such as a network as an argument.
        """
        entries = {"format": _FORMAT, **dataclasses.asdict(self)}
        try:
            return json.dumps(entries, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            msg = f"the metadata of a checkpoint must be values that JSON can hold: {error}"
            raise ConfigError(msg) from error

    @classmethod
    def from_json(cls, text: str) -> CheckpointMetadata:
        """Return the metadata that a JSON text holds.

        Raises:
            ValueError: The text is not JSON, or an entry is missing or has the wrong type.
        """
        entries = parse_json(text, "it", finite=True)
        if not isinstance(entries, dict) or not isinstance(entries.get("format"), int):
            msg = "it is not a mapping with a 'format' number"
            raise ValueError(msg)
        if entries["format"] > _FORMAT:
            msg = f"its format is {entries['format']}, and this version reads up to {_FORMAT}"
            raise ValueError(msg)
        found = {}
        for spec in dataclasses.fields(cls):
            if spec.name in entries:
                found[spec.name] = _checked(spec.name, str(spec.type), entries[spec.name])
        if missing := {"network", "arguments", "frontend", "frontend_arguments", "labels"} - set(
            found
        ):
            msg = f"it lacks {', '.join(sorted(missing))}"
            raise ValueError(msg)
        return cls(**found)


def _checked(name: str, kind: str, value: Any) -> Any:
    """Return an entry of the metadata if it has the declared type."""
    if kind == "str":
        good = isinstance(value, str)
    elif kind == "float":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        good = number and math.isfinite(value) and value >= 0
    elif kind == "tuple[str, ...]":
        good = isinstance(value, list) and all(isinstance(item, str) for item in value)
    else:
        good = isinstance(value, dict)
        if good and kind == "Mapping[str, float]":
            good = all(isinstance(v, int | float) and abs(v) < math.inf for v in value.values())
    if not good:
        msg = f"its entry {name!r} is {value!r:.60}"
        raise ValueError(msg)
    return value


def save_checkpoint(
    path: str | Path,
    network: nn.Module | Mapping[str, Tensor],
    metadata: CheckpointMetadata,
    *,
    half: bool = True,
) -> None:
    """Write weights and their description to a safetensors file, whole or not at all.

    Args:
        path: The file; its name must end in ``.safetensors``.
        network: The network, or its state dict.
        metadata: Description of the network, see `hear_core.zoo.registry.NetworkRecord.describe`.
        half: Store floating-point tensors in float16, in half the space; they are read as float32.

    Raises:
        ConfigError: The file has another suffix, the metadata cannot be written as JSON, or the
            number of labels is not the number of logits.
        CheckpointError: A weight is NaN or infinite, or too large for float16.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        msg = f"a checkpoint is written as safetensors; name it {path.stem}.safetensors, not {path}"
        raise ConfigError(msg)
    shapes = getattr(network, "tap_shapes", {})
    if "logits" in shapes and shapes["logits"].channels != len(metadata.labels):
        count = shapes["logits"].channels
        msg = f"the network has {count} logits, but {len(metadata.labels)} labels were given"
        raise ConfigError(msg)
    state = network.state_dict() if isinstance(network, nn.Module) else network
    stored = {}
    for key, tensor in state.items():
        if tensor.is_floating_point():
            most = float(tensor.abs().max()) if tensor.numel() else 0.0
            if not most <= (_HALF_MAX if half else math.inf) or math.isinf(most):
                msg = f"{path} was not written: {key} holds a value of {most:g}"
                raise CheckpointError(msg)
        # Cloned, as a file cannot hold one piece of memory under two names.
        wanted = torch.float16 if half and tensor.is_floating_point() else tensor.dtype
        stored[key] = tensor.detach().to("cpu", wanted).contiguous().clone()
    with atomic_write(path) as part:
        save_file(stored, part, {"format": "pt", _KEY: metadata.to_json()})


def read_metadata(path: str | Path) -> CheckpointMetadata | None:
    """Return the description in a checkpoint; None if it has none, as files of the originals.

    Raises:
        CheckpointError: The file is missing or damaged, or its description cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path} does not exist"
        raise CheckpointError(msg)
    if not is_safetensors(path):
        return None
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            entries = file.metadata() or {}
    except Exception as error:  # it raises errors of its own, and some of Rust
        size = path.stat().st_size
        msg = f"{path} ({size} bytes) cannot be read as weights: it is truncated or damaged"
        raise CheckpointError(msg) from error
    if _KEY not in entries:
        return None
    try:
        return CheckpointMetadata.from_json(entries[_KEY])
    except ValueError as error:
        msg = f"the description in {path} cannot be read: {error}"
        raise CheckpointError(msg) from error
