"""A cache of ONNX graphs on disk. It saves time, and no problem with it is an error."""

from __future__ import annotations

import hashlib
import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from hear_core.io.files import atomic_write
from hear_core.networks.extractor import Extractor
from hear_core.zoo.checkpoints import cache_folder

log = logging.getLogger(__name__)

_MAX_BYTES = 4 << 30
_DIGEST = hashlib.sha256().digest_size


def cached_graph(extractor: Extractor, cache_key: str, make: Callable[[], bytes]) -> bytes:
    """Return the graph of an extractor, from the cache if it is there.

    A graph is stored under a hash of everything that it depends on: weights, taps, `cache_key`
    and the code of the packages involved. A damaged one is replaced. Of more than 4 GiB, those
    that were not used for longest are deleted.

    Args:
        extractor: Extractor on the CPU.
        cache_key: Everything else that determines the graph besides weights, taps and code.
        make: Function that makes the graph.
    """
    try:
        path = cache_folder() / "graphs" / _hash(extractor, cache_key)
        graph = _read(path)
    except (OSError, RuntimeError, TypeError) as error:  # also: no home folder, no source files
        log.warning("the cache of graphs cannot be used: %s", error)
        return make()
    if graph is None:
        graph = make()
        try:
            _write(path, graph)
        except OSError as error:
            log.warning("the graph could not be cached: %s", error)
    return graph


def _read(path: Path) -> bytes | None:
    """Return a graph, or None if it is not there or is damaged."""
    try:
        with path.open("rb") as file:
            digest, graph = file.read(_DIGEST), file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if hashlib.sha256(graph).digest() != digest:
        log.warning("%s is damaged and is made again", path)
        return None
    try:
        path.touch()  # most recently used
    except OSError as error:
        log.debug("%s", error)  # a cache that is read-only never deletes anything either
    return graph


def _write(path: Path, graph: bytes) -> None:
    """Write a graph, and delete the least recently used ones if there are too many."""
    # To join both first would copy the graph.
    with atomic_write(path) as part, part.open("wb") as out:
        out.write(hashlib.sha256(graph).digest())
        out.write(graph)
    files = sorted(path.parent.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > _MAX_BYTES:
            file.unlink(missing_ok=True)


def _hash(extractor: Extractor, cache_key: str) -> str:
    """Return a name that changes whenever the graph would."""
    key = hashlib.sha256(f"{torch.__version__} {cache_key} {extractor.taps}".encode())
    names = {type(module).__module__.split(".")[0] for module in extractor.modules()}
    for name in sorted(names - {"torch"}):
        code = sys.modules[name]
        file = Path(inspect.getfile(code))  # of a package, this is its ``__init__.py``
        is_package = hasattr(code, "__path__")
        for source in sorted(file.parent.rglob("*.py")) if is_package else [file]:
            key.update(source.read_bytes())
    for name, tensor in extractor.state_dict().items():
        key.update(name.encode())
        key.update(tensor.contiguous().numpy())
    return key.hexdigest()
