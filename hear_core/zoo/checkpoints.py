"""The checkpoint store: where weights are looked for, how they are fetched, checked and read.

A checkpoint is looked for in this order:

1. the folders listed in the environment variable ``HEAR_CHECKPOINTS``,
2. the folder ``weights`` of the package that ships it, if one does,
3. the cache: ``HEAR_CACHE``, or else a folder ``hear`` in the user's cache folder,
4. its URL, or ``HEAR_MIRROR`` followed by its file name; what is downloaded goes into the cache.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_core.errors import CheckpointError
from hear_core.zoo.download import DownloadError, download, sha256_of

log = logging.getLogger(__name__)

_WRAPPERS = ("model", "state_dict", "model_state_dict")
# Training leaves more than weights in a file, such as the arrays that the sampler of PANNs goes by.
# Arrays are data, but torch reads those of numpy only if told what builds them, by the name that
# it has in the file: numpy 2 renamed it.
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


@dataclass(frozen=True)
class Checkpoint:
    """A released file of weights.

    Args:
        file: File name, by which it is found on disk.
        url: Where it was released; empty if it was not.
        sha256: Its checksum, where one is known; else that of the first file used is kept.
        licence: SPDX identifier.
        package: The package whose folder ``weights`` it stands in, if it needs no release.
    """

    file: str
    url: str
    sha256: str | None = None
    licence: str = "MIT"
    package: str = ""


def cache_folder() -> Path:
    """Return the folder that downloads are kept in; it may not exist yet."""
    if chosen := os.environ.get("HEAR_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "hear"


def find_checkpoint(checkpoint: Checkpoint) -> Path | None:
    """Return the file of a checkpoint if it is on this machine, without checking it."""
    listed = os.environ.get("HEAR_CHECKPOINTS", "").split(os.pathsep)
    folders = [Path(folder).expanduser() for folder in listed if folder]
    if checkpoint.package:
        folders.append(Path(str(resources.files(checkpoint.package))) / "weights")
    folders.append(cache_folder())
    return next((f / checkpoint.file for f in folders if (f / checkpoint.file).is_file()), None)


def fetch_checkpoint(checkpoint: Checkpoint) -> Path:
    """Return the verified file of a checkpoint, downloading it if it is nowhere on this machine.

    Raises:
        CheckpointError: It is not here and cannot be downloaded, or it is not what was released.
    """
    path = find_checkpoint(checkpoint)
    if path is None and not checkpoint.url:
        msg = (
            f"no weights {checkpoint.file} were ever released: put yours into {cache_folder()} or "
            f"into a folder listed in HEAR_CHECKPOINTS under this name, or pass their path as "
            f"model_file_path."
        )
        raise CheckpointError(msg)
    if path is None:
        path = cache_folder() / checkpoint.file
        mirror = os.environ.get("HEAR_MIRROR")
        try:
            download(checkpoint.url, path, mirror=mirror, sha256=_expected(checkpoint))
        except DownloadError as error:
            msg = (
                f"{checkpoint.file} is not on this machine and could not be downloaded: {error}\n"
                f"Fetch {checkpoint.url} on a machine that can, and put it into "
                f"{cache_folder()} or into a folder listed in HEAR_CHECKPOINTS; "
                f"or pass its path as model_file_path."
            )
            raise CheckpointError(msg) from error
    verify_checkpoint(path, checkpoint)
    return path


def verify_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Compare a file with the checksum of its checkpoint; keep the checksum if none is known.

    Raises:
        CheckpointError: They differ.
    """
    actual, expected = sha256_of(path), _expected(checkpoint)
    if expected is None:
        log.info("no checksum of %s was published; keeping that of %s", checkpoint.file, path)
        _keep_checksum(checkpoint.file, actual)
    elif actual != expected:
        source = (
            "released"
            if checkpoint.sha256
            else f"first used here (see {_kept_checksum(checkpoint.file)})"
        )
        msg = (
            f"{path} is not the file that was {source} as {checkpoint.file}: its SHA-256 is "
            f"{actual}, not {expected}. It may be truncated or altered: delete it to have it "
            f"fetched again, or, if these are weights of your own, give the file another name "
            f"and pass its path as model_file_path."
        )
        raise CheckpointError(msg)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a state dict, as float32 where it is floating, without running code from the file.

    Args:
        path: A file of ``torch.save`` (the state dict itself, or a dict that holds it as
            ``model`` or ``state_dict``), or a safetensors file.

    Raises:
        CheckpointError: The file is missing, damaged, or holds something else than tensors.
    """
    if not path.is_file():
        msg = f"there is no file {path}"
        raise CheckpointError(msg)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            _check_archive(path)
            with torch.serialization.safe_globals(_ARRAYS):
                state = torch.load(path, map_location="cpu", weights_only=True)
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
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        msg = f"{path} does not hold a state dict, that is tensors by name"
        raise CheckpointError(msg)
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def _check_archive(path: Path) -> None:
    """Compare every record of a torch archive with its CRC, which torch itself does not."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            msg = f"{path} is damaged: the checksum of its record {damaged} is wrong"
            raise CheckpointError(msg)


def _kept_checksum(file: str) -> Path:
    return cache_folder() / f"{file}.sha256"


def _expected(checkpoint: Checkpoint) -> str | None:
    kept = _kept_checksum(checkpoint.file)
    return checkpoint.sha256 or (kept.read_text().split()[0] if kept.is_file() else None)


def _keep_checksum(file: str, sha256: str) -> None:
    """Write the checksum of a file that none was published for, as ``sha256sum`` would."""
    kept = _kept_checksum(file)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(f"{sha256}  {file}\n")
    except OSError as error:
        log.warning("the checksum of %s could not be kept: %s", file, error)
