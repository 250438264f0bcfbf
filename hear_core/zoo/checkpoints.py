"""The checkpoint store: where weights are looked for, how they are downloaded and verified.

A checkpoint is looked for in this order:

1. the folders listed in the environment variable ``HEAR_CHECKPOINTS``,
2. the folder ``weights`` of the package that ships it, if one does,
3. the cache: ``HEAR_CACHE``, or else a folder ``hear`` in the user's cache folder,
4. its URL, or ``HEAR_MIRROR`` followed by its file name; downloads are put into the cache.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hear_core.errors import CheckpointError
from hear_core.io.files import atomic_write
from hear_core.zoo.download import DownloadError, download, sha256_of
from hear_core.zoo.reading import read_checkpoint

log = logging.getLogger(__name__)

RUN_CHECKPOINTS = ("best.safetensors", "last.safetensors")
"""Names of the checkpoints in the folder of a training run, the preferred one first."""


@dataclass(frozen=True)
class Checkpoint:
    """A released file of weights.

    Args:
        file: Name of the file, by which it is found on disk.
        url: URL of the file; empty if it was not released.
        sha256: SHA-256 of the file, where it is known. Otherwise that of the first file of this
            name that loads is kept in the cache, and later files are compared with it.
        licence: SPDX identifier of the weights.
        package: Package with the file in its folder ``weights``, if it is part of one.
        model: Name of the network in the code that it was trained with, if that code names files
            and folders after it, see `names_model`.
    """

    file: str
    url: str
    sha256: str | None = None
    licence: str = "MIT"
    package: str = ""
    model: str = ""

    def names_model(self, path: Path) -> bool:
        """Return whether the path of a file says that it holds this network.

        The file has the name of the released one; or it begins with the name of the network, as
        ``Cnn14_mAP=0.431.pth``; or it is where PANNs' training writes it, as
        ``Cnn14/loss_type=clip_bce/…/600000_iterations.pth``.
        """
        if path.name == self.file:
            return True
        if not self.model:
            return False
        folders = zip(path.parts, path.parts[1:], strict=False)
        return path.name.startswith(f"{self.model}_mAP") or any(
            folder == self.model and below.startswith("loss_type=") for folder, below in folders
        )


def cache_folder() -> Path:
    """Return the folder for downloads; it may not exist yet.

    Without a home folder it is below the folder for temporary files.

    Raises:
        CheckpointError: ``HEAR_CACHE`` names the home folder of an unknown user.
    """
    if chosen := os.environ.get("HEAR_CACHE"):
        return expand_user(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "hear"
    except RuntimeError:
        user = str(os.getuid()) if hasattr(os, "getuid") else "user"
        return Path(tempfile.gettempdir()) / f"hear-{user}"


def expand_user(path: str | Path) -> Path:
    """Return a path with ``~`` replaced by the home folder.

    Raises:
        CheckpointError: There is no such folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        msg = f"there is no home folder to replace ~ by in {path}"
        raise CheckpointError(msg) from error


def checkpoint_in(path: str | Path) -> Path:
    """Return the file of a checkpoint that is given by its path or by the folder of its run.

    Of a run, it is the best checkpoint (``best.safetensors``), else the last one.

    Raises:
        CheckpointError: The folder does not hold a checkpoint, or there is no home folder.
    """
    path = expand_user(path)
    if not path.is_dir():
        return path
    for name in RUN_CHECKPOINTS:
        if (path / name).is_file():
            return path / name
    msg = (
        f"the folder {path} does not hold a checkpoint, which is called "
        f"{' or '.join(RUN_CHECKPOINTS)}: give the folder of a training that has written one, or "
        "the path of a file"
    )
    raise CheckpointError(msg)


def find_checkpoint(checkpoint: Checkpoint) -> Path | None:
    """Return the file of a checkpoint if it is on this machine, without verifying it."""
    listed = os.environ.get("HEAR_CHECKPOINTS", "").split(os.pathsep)
    folders = [expand_user(folder) for folder in listed if folder]
    if checkpoint.package:
        folders.append(Path(str(resources.files(checkpoint.package))) / "weights")
    folders.append(cache_folder())
    return next((f / checkpoint.file for f in folders if _is_file(f / checkpoint.file)), None)


def fetch_checkpoint(checkpoint: Checkpoint) -> Path:
    """Return the verified file of a checkpoint, downloading it if it is not on this machine.

    Raises:
        CheckpointError: The file is not here and cannot be downloaded, or is not the released one.
    """
    path = find_checkpoint(checkpoint)
    if path is None and not checkpoint.url:
        msg = (
            f"weights {checkpoint.file} were never released: put yours into {cache_folder()} or "
            f"into a folder listed in HEAR_CHECKPOINTS under this name, or pass their path as "
            f"model_file_path."
        )
        raise CheckpointError(msg)
    if path is None:
        path = cache_folder() / checkpoint.file
        mirror = os.environ.get("HEAR_MIRROR")
        # Anything can come with status 200, such as a login page. What has no published checksum
        # must at least be weights.
        check = None if checkpoint.sha256 else read_checkpoint
        try:
            download(checkpoint.url, path, mirror=mirror, sha256=_expected(checkpoint), check=check)
        except DownloadError as error:
            msg = (
                f"{checkpoint.file} is not on this machine and could not be downloaded: {error}\n"
                f"Fetch {checkpoint.url} on a machine that can, and put it into "
                f"{cache_folder()} or into a folder listed in HEAR_CHECKPOINTS; "
                f"or pass its path, with --model in a command or as model_file_path in "
                f"Python.{_start_over(checkpoint)}"
            )
            raise CheckpointError(msg) from error
    verify_checkpoint(path, checkpoint)
    return path


def verify_checkpoint(path: Path, checkpoint: Checkpoint) -> bool:
    """Compare a file with the checksum of its checkpoint.

    Returns:
        Whether a checksum was known: the published one, or that of the first file that loaded.

    Raises:
        CheckpointError: They differ, or the file cannot be read.
    """
    expected = _expected(checkpoint)
    if expected is None:
        return False
    if (actual := checksum_of(path)) != expected:
        source = "released" if checkpoint.sha256 else "first used here"
        msg = (
            f"{path} is not the file that was {source} as {checkpoint.file}: its SHA-256 is "
            f"{actual}, not {expected}. It may be truncated or altered: delete it to have it "
            f"fetched again, or, if these are weights of your own, give the file another name "
            f"and pass its path, with --model in a command or as model_file_path in "
            f"Python.{_start_over(checkpoint)}"
        )
        raise CheckpointError(msg)
    return True


def checksum_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        CheckpointError: The file cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        msg = f"{path} cannot be read: {error}"
        raise CheckpointError(msg) from error


def keep_checksum(path: Path, checkpoint: Checkpoint) -> None:
    """Keep the checksum of a file that loaded, where none is known, to compare later ones with.

    It is written into the cache as ``sha256sum`` would. A cache that cannot be written to is not
    an error.
    """
    if not checkpoint.url or _expected(checkpoint) is not None:
        return
    kept = _kept_checksum(checkpoint.file)
    log.info("no checksum of %s was published; keeping that of %s", checkpoint.file, path)
    try:
        with atomic_write(kept) as part:
            part.write_text(f"{checksum_of(path)}  {checkpoint.file}\n")
    except OSError as error:
        log.warning("the checksum of %s could not be kept: %s", checkpoint.file, error)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that this user may not look into
        return False


def _kept_checksum(file: str) -> Path:
    return cache_folder() / f"{file}.sha256"


def _expected(checkpoint: Checkpoint) -> str | None:
    """Return the published checksum of a checkpoint, or the kept one; None if there is neither."""
    if checkpoint.sha256:
        return checkpoint.sha256
    kept = _kept_checksum(checkpoint.file)
    try:
        text = kept.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        text = ""
    if not (found := re.match(r"[0-9a-f]{64}\b", text)):
        log.warning("%s does not hold a checksum and is ignored", kept)
        return None
    return found[0]


def _start_over(checkpoint: Checkpoint) -> str:
    """Return how to forget a kept checksum, as part of a message; empty if none is kept."""
    if checkpoint.sha256 or _expected(checkpoint) is None:
        return ""
    kept = _kept_checksum(checkpoint.file)
    return f" If the file used at first was the wrong one, delete {kept} as well to start over."
