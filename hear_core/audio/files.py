"""Audio files in folders, by name, and a stable way to split them among machines."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hear_core.audio.reading import audio_suffixes
from hear_core.errors import ConfigError


class AudioFile(NamedTuple):
    """An audio file: where it is, and what it is called, which is a relative path with ``/``."""

    path: Path
    name: str


class FoundAudio(NamedTuple):
    """Audio files, and how many others there were by the ends of their names."""

    sources: list[AudioFile]
    ignored: Counter[str]


def find_audio_files(inputs: Iterable[Path], except_in: Path | None = None) -> FoundAudio:
    """Find audio files.

    Args:
        inputs: Folders, which are searched with all folders in them, and files. A file is called
            by its name, one in a folder by its path below that folder.
        except_in: A folder that is not searched.

    Returns:
        The files in the order of their names. In folders, files are ignored that are hidden or do
        not end like audio; a file that is given itself is taken however it ends.

    Raises:
        ConfigError: Something does not exist, or two files would be called the same.
    """
    known, ignored = audio_suffixes(), Counter[str]()
    found: dict[str, AudioFile] = {}
    for given in inputs:
        if not given.exists():
            msg = f"there is no file or folder {given}"
            raise ConfigError(msg)
        paths = list(_below(given, except_in)) if given.is_dir() else [given]
        for path in paths:
            suffix = path.suffix.lower()
            if path != given and (path.name.startswith(".") or suffix not in known):
                ignored[suffix] += 1
                continue
            name = path.name if path == given else path.relative_to(given).as_posix()
            source = AudioFile(path.absolute(), name)
            if (other := found.setdefault(name, source)) != source:
                msg = (
                    f"{path} and {other.path} would both be called {name}: "
                    f"give the folder that holds both, or embed them into two folders"
                )
                raise ConfigError(msg)
    return FoundAudio(sorted(found.values(), key=lambda source: source.name), ignored)


def _below(folder: Path, except_in: Path | None) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        if except_in is not None:
            folders[:] = [f for f in folders if Path(parent, f).resolve() != except_in.resolve()]
        yield from (Path(parent, name) for name in files)


def shard(sources: Iterable[AudioFile], number: int, of: int) -> list[AudioFile]:
    """Return one of several shards of some files.

    Which one a file is in depends on its name only, so that machines need not agree on anything
    else, and files that are added later move no others.

    Args:
        sources: All files.
        number: Which shard, from 1.
        of: How many there are.
    """
    return [source for source in sources if _hash(source.name) % of == number - 1]


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big")
