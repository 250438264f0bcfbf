"""Reading checkpoints: state dicts from files of torch and safetensors, without running code."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_core.errors import CheckpointError

_WRAPPERS = ("model", "state_dict", "model_state_dict")
# Training leaves more than weights in a file, such as the arrays of the sampler of PANNs. Arrays
# are data, but torch reads those of numpy only if the functions that build them are listed by
# their names in the file, which changed with numpy 2.
_BUILDERS: dict[str, Any] = {
    "_reconstruct": np.empty(0).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
}
_ARRAYS: list[Any] = [
    *((build, f"numpy.core.multiarray.{name}") for name, build in _BUILDERS.items()),
    *((build, f"numpy._core.multiarray.{name}") for name, build in _BUILDERS.items()),
    *(np.ndarray, np.dtype),
    *(type(np.dtype(code)) for code in "?bhilqBHILQefd"),
]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a state dict, with floating-point tensors as float32.

    Args:
        path: A file of ``torch.save`` (the state dict itself, or a dict that holds it as
            ``model``, ``state_dict`` or ``model_state_dict``), or a safetensors file.

    Raises:
        CheckpointError: The file is missing, damaged, or holds something else than tensors; or a
            tensor is complex, sparse, quantized, not finite, or a negative variance.
    """
    if not path.is_file():
        msg = f"{path} does not exist"
        raise CheckpointError(msg)
    try:
        state = _load(path)
    except CheckpointError:
        raise
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        if found := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
            msg = f"{path} holds something else than tensors and was not loaded: {found[1]}"
        else:
            size = path.stat().st_size
            msg = f"{path} ({size} bytes) cannot be read as weights: it is truncated or damaged"
        raise CheckpointError(msg) from error
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state:
        msg = f"{path} does not hold a state dict, that is tensors by name"
        raise CheckpointError(msg)
    return {str(key): _checked(path, key, value) for key, value in state.items()}


def is_safetensors(path: Path) -> bool:
    """Return whether a file is named as a safetensors file, or begins as one."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # after the length of the header, which is JSON


def _load(path: Path) -> Any:
    if is_safetensors(path):
        from safetensors.torch import load_file

        return load_file(path)
    _check_archive(path)
    with torch.serialization.safe_globals(_ARRAYS):
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    """Compare every record of a torch archive with its CRC, which torch itself does not."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            msg = f"{path} is damaged: the checksum of its record {damaged} is wrong"
            raise CheckpointError(msg)


def _checked(path: Path, key: Any, value: Any) -> Tensor:
    """Return an entry of a state dict as a weight that a network can compute with."""
    if not isinstance(key, str) or not isinstance(value, Tensor):
        kind = type(value).__name__
        msg = f"{path} does not hold a state dict, that is tensors by name: {key!r} is a {kind}"
        raise CheckpointError(msg)
    problem = _type_problem(value)
    if not problem and value.is_floating_point():
        value = value.float()
        problem = _value_problem(key, value)
    if problem:
        msg = f"{path} does not hold usable weights: {key} {problem}"
        raise CheckpointError(msg)
    return value


def _type_problem(tensor: Tensor) -> str:
    if tensor.layout != torch.strided:
        return f"is stored as {str(tensor.layout).removeprefix('torch.')}; store it as dense"
    if tensor.is_quantized or tensor.is_complex():
        return f"has the type {tensor.dtype}; store it as floating-point"
    if tensor.is_meta:
        return "has a shape, but no values"
    return ""


def _value_problem(key: str, tensor: Tensor) -> str:
    if not bool(tensor.isfinite().all()):
        return "holds NaN or infinite values"
    if key.endswith("running_var") and bool((tensor < 0).any()):
        return f"holds a negative variance, {float(tensor.min()):g}"
    return ""


def type_mismatches(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Describe the tensors of a file that are not floating-point although the network needs it."""
    return [
        f"{key} holds {str(found[key].dtype).removeprefix('torch.')} and not floating-point values"
        for key in wanted
        if key in found and wanted[key].is_floating_point() > found[key].is_floating_point()
    ]
