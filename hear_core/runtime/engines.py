"""Engines: what runs an extractor on batches of windows."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import itertools
import logging
import os
import platform
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from hear_core.audio.framing import Array
from hear_core.networks.extractor import Extractor
from hear_core.runtime.onnx_graph import extractor_to_onnx
from hear_core.zoo.checkpoints import cache_folder

Place = TypeVar("Place")

log = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "onnx")
_CACHE_BYTES = 4 << 30
_DIGEST = hashlib.sha256().digest_size
_VECTOR = 16
"""Numbers in the widest vectors of x86 CPUs. Others have shorter ones, which suit narrow maps."""


@cache
def onnx_available() -> bool:
    """Say whether what the engine needs is installed, without importing it."""
    return all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))


class TorchEngine:
    """Runs an extractor with torch, on the device that it is on.

    Attributes:
        at_once: How many batches are run at the same time.
    """

    at_once = 1

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor

    def map(self, batches: Iterable[tuple[Place, Array]]) -> Iterator[tuple[Place, Array]]:
        """Do what the extractor does to every batch; see `OnnxEngine.map`."""
        device = next(self._extractor.parameters()).device
        for place, batch in batches:
            with torch.inference_mode():
                found = self._extractor(torch.as_tensor(batch, device=device))
            is_array = isinstance(batch, np.ndarray)
            yield place, found.cpu().numpy() if is_array else found.to(batch.device)


class OnnxEngine:
    """Runs an extractor with ONNX Runtime on the CPU, with as many threads as torch has.

    The graph is kept in the cache folder under a name made of what it depends on: weights, taps,
    `recipe`, and the code of the packages involved. One that is damaged is made again.

    Args:
        extractor: On the CPU.
        recipe: What determines the extractor besides its weights and taps, in words.

    Attributes:
        at_once: How many batches are run at the same time.
    """

    def __init__(self, extractor: Extractor, recipe: str) -> None:
        self.at_once = torch.get_num_threads()
        self._graph = _graph(extractor, recipe)

    def map(
        self, batches: Iterable[tuple[Place, np.ndarray]]
    ) -> Iterator[tuple[Place, np.ndarray]]:
        """Do what the extractor does to every batch, and keep their order.

        One batch is run by all threads together. Several are run by one thread each, which takes
        less time, as threads that share a batch wait for one another after every layer.

        Batches are arrays and not tensors because torch has threads of its own: once they have
        worked, they spin for some milliseconds, and halve the speed of these.

        Args:
            batches: Each with a mark that goes along with it, such as where its results belong.
        """
        batches = iter(batches)
        first = list(itertools.islice(batches, 2))
        if len(first) == 1 or self.at_once == 1:
            for place, batch in itertools.chain(first, batches):
                yield place, _run(self._wide, batch)
            return
        running: deque[tuple[Place, Future[np.ndarray]]] = deque()
        for place, batch in itertools.chain(first, batches):
            running.append((place, self._pool.submit(_run, self._narrow, batch)))
            if len(running) > self.at_once:
                place, future = running.popleft()
                yield place, future.result()
        for place, future in running:
            yield place, future.result()

    @cached_property
    def _wide(self) -> Any:
        return self._session(self.at_once)

    @cached_property
    def _narrow(self) -> Any:
        return self._session(1)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.at_once)

    def _session(self, threads: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(self._graph, options, ["CPUExecutionProvider"])


def _run(session: Any, batch: np.ndarray) -> np.ndarray:
    (embeddings,) = session.run(None, {"waveform": batch})
    return embeddings


def _graph(extractor: Extractor, recipe: str) -> bytes:
    path = cache_folder() / "graphs" / _key(extractor, recipe)
    if path.is_file():
        content = path.read_bytes()
        digest, graph = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(graph).digest() == digest:
            path.touch()
            return graph
        log.warning("%s is damaged and is made again", path)
    on_x86 = platform.machine() in ("x86_64", "AMD64")
    graph = extractor_to_onnx(extractor, min_channels=_VECTOR if on_x86 else 1)
    try:
        _keep(path, hashlib.sha256(graph).digest() + graph)
    except OSError as error:
        log.warning("the graph could not be kept for the next time: %s", error)
    return graph


def _key(extractor: Extractor, recipe: str) -> str:
    """Return a name that is another one whenever the graph would be."""
    key = hashlib.sha256(f"{torch.__version__} {recipe} {extractor.taps}".encode())
    packages = {type(module).__module__.split(".")[0] for module in extractor.modules()}
    for package in sorted(packages - {"torch"}):
        for source in sorted(Path(inspect.getfile(import_module(package))).parent.rglob("*.py")):
            key.update(source.read_bytes())
    for name, tensor in extractor.state_dict().items():
        key.update(name.encode())
        key.update(tensor.contiguous().numpy())
    return key.hexdigest()


def _keep(path: Path, content: bytes) -> None:
    """Write a graph, and drop those that were not used for longest if there are too many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
    kept = sorted(path.parent.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
    total = 0
    for file in kept:
        total += file.stat().st_size
        if total > _CACHE_BYTES:
            file.unlink(missing_ok=True)
