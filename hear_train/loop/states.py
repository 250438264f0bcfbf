"""States of a run on disk: tensors as safetensors, everything else as JSON.

Nothing is read by pickle, so that resuming a run of somebody else cannot run code.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hear_core.errors import ConfigError
from hear_core.io.files import atomic_write
from hear_core.io.json_files import read_json
from hear_core.zoo.download import sha256_of

_PREFIX, _VALUES = "state-", "state.json"
_CHECKSUMS = "sha256"
_NAME = re.compile(_PREFIX + r"[0-9]{8,18}")
_HINT = "Delete this folder to resume from the beginning, or restore it from a copy."


def last_state(folder: Path) -> Path | None:
    """Return the last complete state in the folder of a run."""
    found = [path for path in folder.glob(f"{_PREFIX}*") if _NAME.fullmatch(path.name)]
    return max(found, key=state_step, default=None)


def state_step(state: Path) -> int:
    """Return the step that a state belongs to."""
    return int(state.name.removeprefix(_PREFIX))


def write_state(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]
) -> None:
    """Write a state; the one before is deleted once this one is complete.

    Args:
        folder: Folder of the run.
        step: Step that the state belongs to.
        tensors: Tensors by name, by the name of their file.
        values: Everything else, as JSON can hold it.
    """
    from safetensors.torch import save_file

    before, target = last_state(folder), folder / f"{_PREFIX}{step:08}"
    if before == target:
        return
    with atomic_write(target) as part:
        part.mkdir()
        for name, group in tensors.items():
            # Cloned, as a file cannot hold one piece of memory under two names.
            plain = {
                key: tensor.detach().cpu().contiguous().clone() for key, tensor in group.items()
            }
            save_file(plain, part / f"{name}.safetensors")
        sums = {file.name: sha256_of(file) for file in sorted(part.iterdir())}
        content = json.dumps({**values, _CHECKSUMS: sums})
        (part / _VALUES).write_text(content, encoding="utf-8")
    if before is not None:
        shutil.rmtree(before)


def read_state(state: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read a state that `write_state` wrote.

    Returns:
        Tensors by name, by the name of their file, and everything else.

    Raises:
        ConfigError: A file is missing or damaged, or holds NaN or infinite values.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    values = read_json(state / _VALUES, hint=_HINT)
    sums = values.pop(_CHECKSUMS, None)  # states of earlier versions have none
    tensors = {}
    for file in sorted(state.glob("*.safetensors")):
        try:
            if isinstance(sums, dict) and sums.get(file.name) != sha256_of(file):
                msg = "its checksum is not that of the state"
                raise ValueError(msg)
            tensors[file.stem] = load_file(file)
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            msg = f"{file} is damaged: {error}. {_HINT}"
            raise ConfigError(msg) from error
        if odd := [name for name, tensor in tensors[file.stem].items() if not _is_usable(tensor)]:
            msg = f"{file} is damaged: {odd[0]} is not made of finite numbers. {_HINT}"
            raise ConfigError(msg)
    return tensors, values


def _is_usable(tensor: Tensor) -> bool:
    return not tensor.is_complex() and bool(tensor.isfinite().all())


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], state: Path) -> None:
    """Load the weights of a module from a state.

    Raises:
        ConfigError: The state is that of another module.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        msg = f"{state} does not fit the network of this run: {error}. {_HINT}"
        raise ConfigError(msg) from error


def optimiser_tensors(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the state of an optimiser, by the name of the parameter and the kind of value."""
    return {
        f"{name}/{kind}": value
        for name, parameter in module.named_parameters()
        for kind, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimiser(
    optimiser: torch.optim.Optimizer, module: nn.Module, tensors: Mapping[str, Tensor], state: Path
) -> None:
    """Load the state of an optimiser that `optimiser_tensors` returned.

    Raises:
        ConfigError: The state is that of another module.
    """
    parameters = dict(module.named_parameters())
    kinds: dict[str, set[str]] = defaultdict(set)
    for key, value in tensors.items():
        name, _, kind = key.rpartition("/")
        kinds[name].add(kind)
        parameter = parameters.get(name)
        if parameter is None or value.shape not in (parameter.shape, ()):
            msg = f"{state} holds a state of {name}, which does not fit this run. {_HINT}"
            raise ConfigError(msg)
        loaded = value
        if value.shape == parameter.shape and value.ndim:
            loaded = torch.zeros_like(parameter, dtype=value.dtype).copy_(value)
        optimiser.state[parameter][kind] = loaded
    if odd := [name for name in kinds if kinds[name] != set.union(*kinds.values())]:
        msg = f"{state} holds an incomplete state of {odd[0]}. {_HINT}"
        raise ConfigError(msg)
