"""Golden arrays of the original networks, and the stand-in weights they were made with.

They stand beside the checkout, in ``../shared``; a test that needs them is skipped without.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

SHARED = Path(__file__).parents[2] / "shared"
MN = SHARED / "parity" / "mn"
MN04 = SHARED / "data" / "checkpoints" / "mn04_as_mAP_432.pt"
METRO = SHARED / "data" / "audio" / "metro_station-paris.wav"

SED = SHARED / "parity" / "sed"

needs_goldens = pytest.mark.skipif(not MN.is_dir(), reason=f"there are no golden arrays in {MN}")
needs_sed = pytest.mark.skipif(not SED.is_dir(), reason=f"there are no golden arrays in {SED}")
needs_mn04 = pytest.mark.skipif(not MN04.is_file(), reason=f"there are no real weights at {MN04}")


@lru_cache
def fill() -> ModuleType:
    """Return the module that makes stand-in weights and test signals."""
    spec = importlib.util.spec_from_file_location("fill", SHARED / "parity" / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@lru_cache
def load_json(name: str) -> Any:
    path = MN / name
    return json.loads(
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    )


@lru_cache
def arrays(name: str) -> Any:
    return np.load(MN / name)


@lru_cache
def sed_arrays(name: str) -> Any:
    return np.load(SED / "goldens" / name)


def waveform(seconds: float, batch: int = 1, sample_rate: int = 32000) -> Tensor:
    return torch.from_numpy(fill().waveform(seconds, sample_rate, batch))


def stand_in(architecture: str, *, calibrated: bool = True) -> dict[str, Tensor]:
    """Return a state dict of the stand-in weights for an architecture of the manifests.

    Calibrated weights have batch-norm statistics that keep the signal alive; with plain ones the
    output hardly depends on the input.
    """
    entry = load_json("manifests.json.gz")[architecture]
    state = fill().filled(entry["manifest"])
    if calibrated:
        for key, gain in entry["gains"].items():
            state[key] = state[key] * np.float32(gain)
        values, start = arrays("calib.npz")[entry["calib"]], 0
        for key, (_, shape, *_) in entry["manifest"].items():
            if key.endswith(("running_mean", "running_var")):
                stop = start + int(np.prod(shape))
                state[key] = values[start:stop].astype(np.float32).reshape(shape)
                start = stop
    return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}


def panns(architecture: str) -> dict[str, Tensor]:
    """Return a state dict of stand-in weights for an architecture of PANNs.

    As in the released files, the constants of the front-end stand in it, here without values.
    """
    manifest = json.loads(
        gzip.decompress((SED / "manifests" / f"PANNs_{architecture}.json.gz").read_bytes())
    )
    state = fill().filled(manifest["tensors"])
    constants = {key: np.zeros(shape) for key, (_, shape, _) in manifest["computed"].items()}
    return {key: torch.from_numpy(np.asarray(value)) for key, value in (constants | state).items()}


@lru_cache
def detector_manifest(name: str) -> Any:
    """Return what a detector of the manifests is made of, and its tensors."""
    return json.loads(gzip.decompress((SED / "manifests" / f"{name}.json.gz").read_bytes()))


def detector(
    name: str, part: str = "", *, scaled: bool = True, weak527: bool = False
) -> dict[str, Tensor]:
    """Return a state dict of stand-in weights for a detector of the manifests.

    Args:
        name: Such as ``fmn10+tf-256``.
        part: Of the keys that start so only.
        scaled: Weights that keep the signal alive; with plain ones it all but dies.
        weak527: With a weak head for the classes of AudioSet.
    """
    manifest = detector_manifest(name)
    tensors = manifest["tensors"] | (manifest["weak527"] if weak527 else {})
    tensors = {key: row for key, row in tensors.items() if key.startswith(part)}
    state = fill().filled(tensors)
    if scaled:
        for key, (dtype, shape, *literal) in tensors.items():
            grown = key.startswith(manifest["scale_prefix"]) and dtype.startswith("float")
            if grown and len(shape) >= 2 and not literal:
                state[key] = state[key] * np.float32(manifest["scale"])
    state |= {key: state[source] for key, source in manifest["tied"].items() if source in state}
    return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}


def frames_input(channels: int, frames: int = 250) -> Tensor:
    """Return what the sequence models of the goldens were fed."""
    values = np.random.default_rng(7).standard_normal((1, 250, channels)).astype(np.float32)
    return torch.from_numpy(values)[:, :frames]
