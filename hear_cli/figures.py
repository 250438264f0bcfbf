"""Figures of the backbones, kept between runs: counting takes a second, and a list counts many."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

import hear_core
from hear_core.analysis.complexity import Complexity, complexity
from hear_core.io.files import atomic_write
from hear_core.zoo.checkpoints import cache_folder


@cache
def kept_complexity(package: ModuleType, backbone: str) -> Complexity:
    """Return what a backbone of a plug-in package costs on ten seconds of audio.

    It is kept in the cache folder, under a name made of the code that it was counted with.
    """
    path = cache_folder() / "complexity" / _fingerprint(package) / f"{backbone}.json"
    try:
        return Complexity(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not kept, or not wholly written
        found = complexity(package.ZOO[backbone])
    # A cache that cannot be written to is done without.
    with suppress(OSError), atomic_write(path) as part:
        part.write_text(json.dumps(found._asdict()), encoding="utf-8")
    return found


@cache
def _fingerprint(package: ModuleType) -> str:
    folders = [Path(str(module.__file__)).parent for module in (hear_core, package)]
    sources = [file.read_bytes() for folder in folders for file in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()[:16]


def short(number: float) -> str:
    """Write a number with three digits: 983599 is 984k, 541085095 is 541M."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * factor:
            digits = 2 - sum(number / factor >= bound for bound in (9.995, 99.95))
            return f"{number / factor:.{digits}f}{letter}"
    return f"{number:g}"
