"""Files that several runs may write: whole or not at all, by one process, of one kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hear_core.errors import ConfigError

SETTINGS = "embedding.json"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path to write to that takes its real name when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    yield part
    part.replace(path)


@contextmanager
def exclusive_lock(path: Path, hint: str) -> Iterator[None]:
    """Keep other processes from writing the same thing.

    Args:
        path: What is written.
        hint: What to do where another process is writing it.

    Raises:
        ConfigError: One is doing so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        msg = f"another process is writing {path}; {hint}"
        raise ConfigError(msg) from error
    try:
        yield
    finally:
        lock.release()


def check_or_write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Record what the embeddings in a folder are made with, or compare it with the record.

    Raises:
        ConfigError: The folder holds embeddings that were made otherwise.
    """
    path = folder / SETTINGS
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{SETTINGS}.lock"):
        if not path.is_file():
            with atomic_write(path) as part:
                part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
            return
        made = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(settings))
    if differences := [
        f"{key} is {json.dumps(made.get(key))} there and {json.dumps(wanted.get(key))} here"
        for key in made | wanted
        if made.get(key) != wanted.get(key)
    ]:
        msg = (
            f"{folder} holds embeddings that were made otherwise, and they are not mixed: "
            f"{'; '.join(differences)}. Choose another folder, or delete this one."
        )
        raise ConfigError(msg)
