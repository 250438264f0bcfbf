"""A cache of the complexity of backbones: counting takes a second, and a list counts many."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

import hear_core
from hear_core.analysis.complexity import Complexity, complexity
from hear_core.errors import ConfigError
from hear_core.io.files import atomic_write
from hear_core.io.json_files import read_json
from hear_core.zoo.checkpoints import cache_folder


@cache
def cached_complexity(package: ModuleType, backbone: str) -> Complexity:
    """Return the complexity of a backbone on ten seconds of audio, and cache it in a file.

    The file is in the cache folder, under a checksum of the code that it was counted with, so that
    it is counted again when the code changes. A cache that cannot be written is not an error.

    Args:
        package: Package with a ``ZOO``, such as ``hear_mn``.
        backbone: Name of a backbone in the zoo.

    Raises:
        ConfigError: The zoo has no such backbone.
    """
    path = cache_folder() / "complexity" / _fingerprint(package) / f"{backbone}.json"
    if (cached := _read(path)) is not None:
        return cached
    found = complexity(package.ZOO[backbone])
    with suppress(OSError), atomic_write(path) as part:
        part.write_text(json.dumps(found._asdict()), encoding="utf-8")
    return found


def _read(path: Path) -> Complexity | None:
    """Return the complexity in a file; None if it is missing or damaged."""
    try:
        entries = read_json(path)
    except ConfigError:
        return None
    field = entries.pop("receptive_field", None)
    numbers = [*entries.values(), *(field if isinstance(field, list) else [None])]
    known = set(Complexity._fields) - {"receptive_field"}
    if set(entries) != known or not all(type(number) in (int, float) for number in numbers):
        return None
    return Complexity(**entries, receptive_field=(numbers[-2], numbers[-1]))


@cache
def _fingerprint(package: ModuleType) -> str:
    folders = [Path(str(module.__file__)).parent for module in (hear_core, package)]
    sources = [file.read_bytes() for folder in folders for file in sorted(folder.rglob("*.py"))]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16]
