"""Stand-in state dicts of the networks in the manifests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_core.frontends.mel_banks import slaney_mel_bank
from tests.goldens.arrays import FOLDER, arrays, facts
from tests.goldens.fill import fill_state


def manifest(name: str) -> Any:
    """Return how a detector or a network of PANNs is built, and its tensors; such as ``BEATs``."""
    return facts(f"sed/manifests/{name}")


def manifests(pattern: str) -> list[str]:
    """Return the names of the manifests that match a pattern, such as ``fmn*``."""
    paths = (FOLDER / "sed" / "manifests").glob(f"{pattern}.json.gz")
    return sorted(path.name.removesuffix(".json.gz") for path in paths)


def mobilenet(architecture: str, *, calibrated: bool = True) -> dict[str, Tensor]:
    """Return a state dict of an architecture of ``mn/manifests``.

    Calibrated weights have batch-norm statistics that keep the signal alive; with plain ones the
    output hardly depends on the input, so they only show that keys and shapes agree.
    """
    entry = facts("mn/manifests")[architecture]
    state = fill_state(entry["manifest"])
    if calibrated:
        for key, gain in entry["gains"].items():
            state[key] = state[key] * np.float32(gain)
        values, start = arrays("mn/calib")[entry["calib"]], 0
        for key, (_, shape, *_) in entry["manifest"].items():
            if key.endswith(("running_mean", "running_var")):
                stop = start + int(np.prod(shape))
                state[key] = values[start:stop].astype(np.float32).reshape(shape)
                start = stop
    return _tensors(state)


def panns(architecture: str) -> dict[str, Tensor]:
    """Return a state dict of an architecture of PANNs, such as ``Cnn14``.

    As in the released files, it has the constants of the front-end. The kernels of the Fourier
    transform are zero, as nothing reads them.
    """
    entry = manifest(f"PANNs_{architecture}")
    constants = {key: np.zeros(shape) for key, (_, shape, _) in entry["computed"].items()}
    for key in constants:
        if key.endswith("melW"):
            bins, n_mels = constants[key].shape
            sample_rate, fmax = (32000, 14000.0) if bins == 513 else (16000, 8000.0)
            bank = slaney_mel_bank(n_mels, 2 * bins - 2, sample_rate, 50.0, fmax)
            constants[key] = bank.T.numpy()
    return _tensors(constants | fill_state(entry["tensors"]))


def detector(
    name: str, part: str = "", *, scaled: bool = True, weak527: bool = False
) -> dict[str, Tensor]:
    """Return a state dict of a detector, such as ``fmn10+tf-256`` or ``BEATs``.

    Args:
        name: Name of its manifest.
        part: Prefix of the keys to return.
        scaled: Scale the backbone so that it keeps the signal alive, as most golden arrays have it;
            those called ``plain_`` do without.
        weak527: Give the weak head the 527 classes of AudioSet.
    """
    entry = manifest(name)
    rows = entry["tensors"] | (entry["weak527"] if weak527 else {})
    rows = {key: row for key, row in rows.items() if key.startswith(part)}
    state = fill_state(rows)
    if scaled:
        for key, (dtype, shape, *values) in rows.items():
            grows = key.startswith(entry["scale_prefix"]) and dtype.startswith("float")
            if grows and len(shape) >= 2 and not values:
                state[key] = state[key] * np.float32(entry["scale"])
    tied = {key: state[source] for key, source in entry["tied"].items() if source in state}
    return _tensors(state | tied)


def _tensors(state: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}
