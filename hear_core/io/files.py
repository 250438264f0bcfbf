"""Writing files: whole or not at all, by one process at a time, with one set of settings."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from hear_core.errors import ConfigError, FileError
from hear_core.io.json_files import read_json
from hear_core.io.names import shortened

SETTINGS = "embedding.json"
_PART = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{12}\.part", re.DOTALL)


@contextmanager
def atomic_write(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Provide a temporary path that is renamed to `path` when the block ends without an error.

    The temporary file is in the same folder, hidden, and has a name of its own, so that several
    processes may write `path` at once: the last one wins, and the file is whole at any time. It is
    removed if the block raises. What is not a regular file, such as ``/dev/stdout`` or a named
    pipe, is written directly.

    Args:
        path: File to write. Missing folders above it are made.
        durable: Whether the content must survive a power failure right after the block. It costs
            some milliseconds.

    Raises:
        FileError: The file cannot be written, for example because the disk is full.
    """
    if path.exists() and not path.is_file():
        if path.is_dir():
            msg = f"cannot write {path}: there is a folder of this name"
            raise FileError(msg)
        yield path
        return
    part = path.with_name(shortened(f".{path.name}.{uuid4().hex[:12]}.part"))
    try:
        with writing(path, part):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            if durable:
                _flush_to_disk(part)
            part.replace(path)
    finally:
        with suppress(OSError):
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)


def remove_stale_parts(folder: Path, names: Container[str] | None = None) -> None:
    """Remove the temporary files that killed processes left where they wrote atomically.

    The caller must hold the lock of what is written there: a part of a live process would be
    removed as well.

    Args:
        folder: Folder to search, with all folders in it.
        names: Paths relative to `folder` of the files whose parts are removed; None for all files.
    """
    for parent, _, files in os.walk(folder):
        for file in files:
            if match := _PART.fullmatch(file):
                path = Path(parent, match["name"]).relative_to(folder)
                if names is None or path.as_posix() in names:
                    Path(parent, file).unlink(missing_ok=True)


@contextmanager
def writing(path: Path, *others: Path) -> Iterator[None]:
    """Turn an `OSError` while a file is written into an error that names the file and the reason.

    Args:
        path: File or folder that the message names.
        others: Further paths, such as temporary ones, whose errors are reported as those of `path`.

    Raises:
        FileError: The file cannot be written. Errors of other files pass unchanged.
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        own = {str(p) for p in (path, *path.parents, *others)}
        if error.filename is not None and os.fsdecode(error.filename) not in own:
            raise
        msg = f"cannot write {path}: {error.strerror or error}"
        raise FileError(msg) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an `OSError` while a file is read into an error that names the file and the reason.

    Raises:
        FileError: The file cannot be read.
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise FileError(msg) from error


def _flush_to_disk(path: Path) -> None:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    for file in files:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())


def lock_path(path: Path) -> Path:
    """Return the hidden file by which `exclusive_lock` locks a file or folder."""
    return path.with_name(shortened(f".{path.name}.lock"))


@contextmanager
def exclusive_lock(path: Path, hint: str) -> Iterator[None]:
    """Keep other processes from writing the same file or folder.

    Args:
        path: File or folder to be written. The lock is a hidden file beside it.
        hint: Advice for when another process is writing it; the end of the error message.

    Raises:
        ConfigError: Another process holds the lock.
        FileError: The lock cannot be created.
    """
    lock = FileLock(lock_path(path))
    with writing(path, Path(lock.lock_file)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:  # an OSError as well
            msg = f"another process is writing {path}; {hint}"
            raise ConfigError(msg) from error
    try:
        yield
    finally:
        lock.release()


def check_or_write_settings(
    folder: Path, settings: Mapping[str, Any], name: str = SETTINGS, content: str = "embeddings"
) -> None:
    """Write the settings that a folder's content is made with, or compare them with those there.

    Args:
        folder: Folder of the content; it is made if it does not exist.
        settings: Settings by name, as JSON can hold them.
        name: Name of the file in the folder.
        content: Kind of content of the folder, for error messages.

    Raises:
        ConfigError: The folder has content that was made with other settings, or its settings
            cannot be read.
        FileError: The settings cannot be written.
    """
    path = folder / name
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{name}.lock")
        lock.acquire()
    try:
        if not path.exists():
            with atomic_write(path) as part:
                part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
            return
        hint = f"Choose another folder, or delete {folder} to start over."
        made = read_json(path, hint=hint)
    finally:
        lock.release()
    wanted = json.loads(json.dumps(settings))
    if differences := [
        f"{key} is {json.dumps(made.get(key))} there and {json.dumps(wanted.get(key))} here"
        for key in made | wanted
        if made.get(key) != wanted.get(key)
    ]:
        msg = (
            f"{folder} holds {content} that were made with other settings, and they are not "
            f"mixed: {'; '.join(differences)}. Choose another folder, or delete this one."
        )
        raise ConfigError(msg)
