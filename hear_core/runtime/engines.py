"""Engines: what runs an extractor on batches of windows.

An engine belongs to the weights, data type and device that its extractor had when it was made.
`hear_core.plugins.plugin_model.PluginModel` makes another one when they change.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import os
import platform
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch

from hear_core.audio.framing import Array
from hear_core.networks.batch_norm_folding import inference_copy
from hear_core.networks.extractor import Extractor
from hear_core.runtime.graph_cache import cached_graph
from hear_core.runtime.heap import release_freed_memory
from hear_core.runtime.onnx_graph import extractor_to_onnx

Place = TypeVar("Place")

ENGINES = ("auto", "torch", "onnx")
_LARGE = 64 << 20
"""Size of a graph in bytes from which its weights take more memory than its batches."""
_VECTOR = 16
"""Numbers in the widest vectors of x86 CPUs. Those of others are shorter and suit narrow maps."""


@cache
def onnx_available() -> bool:
    """Return whether ONNX and ONNX Runtime are installed, without importing them."""
    return all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))


class Engine(Protocol):
    """Runs an extractor on batches.

    Attributes:
        name: Name of the engine.
        device_type: Type of the device that batches are run on, such as ``cpu``.
        concurrent_batches: Number of batches that are run at the same time.
        splits_batches: Whether windows may be run in several batches.
    """

    name: ClassVar[str]
    splits_batches: ClassVar[bool]
    device_type: str

    @property
    def concurrent_batches(self) -> int: ...

    def map(self, batches: Iterable[tuple[Place, Array]]) -> Iterator[tuple[Place, Array]]:
        """Yield the embeddings of every batch, in order.

        Args:
            batches: Batches (windows, samples), each with a mark such as where its results belong.
        """


class TorchEngine:
    """Runs a copy of an extractor with PyTorch, on its device.

    The copy is in evaluation mode, with folded batch norms and channels-last: on a CPU, a
    MobileNet then takes a third of its time.

    Args:
        extractor: Extractor on any device.
    """

    name: ClassVar[str] = "torch"
    splits_batches: ClassVar[bool] = True
    concurrent_batches = 1

    def __init__(self, extractor: Extractor) -> None:
        copy = inference_copy(extractor)
        self._extractor: Extractor = copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = next(copy.parameters()).device
        self.device_type = self._device.type
        _engines.add(self)

    def map(self, batches: Iterable[tuple[Place, Array]]) -> Iterator[tuple[Place, Array]]:
        """Yield the embeddings of every batch, see `Engine`."""
        for place, batch in batches:
            with torch.inference_mode():
                found = self._extractor(torch.as_tensor(batch, device=self._device))
            is_array = isinstance(batch, np.ndarray)
            yield place, found.cpu().numpy() if is_array else found.to(batch.device)


class GradientEngine:
    """Runs an extractor itself, in the mode that it is in, so that gradients reach its weights.

    Args:
        extractor: Extractor on any device.
    """

    name: ClassVar[str] = "gradient"
    splits_batches: ClassVar[bool] = False  # batch norms in training mode need the whole batch
    concurrent_batches = 1

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self.device_type = next(extractor.parameters()).device.type

    def map(self, batches: Iterable[tuple[Place, Array]]) -> Iterator[tuple[Place, Array]]:
        """Yield the embeddings of every batch, see `Engine`."""
        for place, batch in batches:
            yield place, self._extractor(batch)


class OnnxEngine:
    """Runs an extractor with ONNX Runtime on the CPU, with as many threads as PyTorch has.

    Of a large network, the weights are in memory once, besides those of the extractor: there is one
    session, and no graph once it is read. All threads then share a batch, and hardly wait for one
    another, as its layers take long.

    Args:
        extractor: Extractor on the CPU, in float32.
        cache_key: Key of the graph in the cache, see `cached_graph`; None to not use the cache.
    """

    name: ClassVar[str] = "onnx"
    splits_batches: ClassVar[bool] = True
    device_type = "cpu"

    def __init__(self, extractor: Extractor, cache_key: str | None) -> None:
        on_x86 = platform.machine() in ("x86_64", "AMD64")

        def make() -> bytes:
            return extractor_to_onnx(extractor, min_channels=_VECTOR if on_x86 else 1)

        def graph() -> bytes:
            return make() if cache_key is None else cached_graph(extractor, cache_key, make)

        self._make_graph = graph
        self._graph: bytes | None = graph()
        self._sessions: _Sessions | None = None
        _engines.add(self)

    @property
    def concurrent_batches(self) -> int:
        """Number of batches that are run at the same time."""
        return self._current_sessions().concurrent

    def map(
        self, batches: Iterable[tuple[Place, np.ndarray]]
    ) -> Iterator[tuple[Place, np.ndarray]]:
        """Yield the embeddings of every batch, see `Engine`.

        A single batch is run by all threads together. Several batches are run by one thread each,
        which takes less time, as threads that share a batch wait for one another after every layer.

        Batches are arrays and not tensors because PyTorch has threads of its own: after work, they
        spin for some milliseconds and halve the speed of these.
        """
        sessions = self._current_sessions()
        batches = iter(batches)
        first = list(itertools.islice(batches, 2))
        if len(first) == 1 or sessions.concurrent == 1:
            for place, batch in itertools.chain(first, batches):
                yield place, _run(sessions.shared, batch)
            return
        running: deque[tuple[Place, Future[np.ndarray]]] = deque()
        for place, batch in itertools.chain(first, batches):
            running.append((place, sessions.pool.submit(_run, sessions.single, batch)))
            if len(running) > sessions.concurrent:
                place, future = running.popleft()
                yield place, future.result()
        for place, future in running:
            yield place, future.result()

    def abandon_sessions(self) -> None:
        """Let go of the sessions of the process that this one was forked from, but leave them open.

        Their threads do not exist here, and closing them would wait for these for ever.
        """
        if self._sessions is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._sessions))
            self._sessions = None

    def _current_sessions(self) -> _Sessions:
        sessions = self._sessions
        if sessions is None:
            graph, self._graph = self._graph or self._make_graph(), None
            sessions = self._sessions = _Sessions(graph, torch.get_num_threads())
            if sessions.graph is not None:
                self._graph = graph  # for a process that is forked from this one
        return sessions


class _Sessions:
    """Sessions of ONNX Runtime and threads that use them; they belong to one process.

    Attributes:
        graph: The graph; None if it is large, and no session will be made of it any more.
        threads: Number of threads.
        concurrent: Number of batches that are run at the same time.
    """

    def __init__(self, graph: bytes, threads: int) -> None:
        self.graph: bytes | None = graph
        self.threads, self.concurrent = threads, threads
        if len(graph) >= _LARGE:
            self.concurrent = 1
            _ = self.shared
            self.graph = None
            release_freed_memory()

    @cached_property
    def shared(self) -> Any:
        """A session whose batches are run by all threads together."""
        return self._session(self.threads)

    @cached_property
    def single(self) -> Any:
        """A session whose batches are run by the thread that calls it."""
        return self._session(1)

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.concurrent)

    def _session(self, threads: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Weights get memory of their size, not parts of the pool, which grows by powers of two.
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        session = onnxruntime.InferenceSession(self.graph, options, ["CPUExecutionProvider"])
        session._model_bytes = None  # it would be kept for other devices than the CPU
        return session


def _run(session: Any, batch: np.ndarray) -> np.ndarray:
    (embeddings,) = session.run(None, {"waveform": batch})
    return embeddings


_engines: weakref.WeakSet[TorchEngine | OnnxEngine] = weakref.WeakSet()


def _after_fork() -> None:
    """Make the engines usable in a process that was just forked, where no other thread exists."""
    if _engines:
        # The threads of PyTorch are missing too, and it would wait for them. The workers of a
        # DataLoader have one thread each in any case.
        torch.set_num_threads(1)
    for engine in _engines:
        if isinstance(engine, OnnxEngine):
            engine.abandon_sessions()


if hasattr(os, "register_at_fork"):  # not on Windows, where processes are not forked
    os.register_at_fork(after_in_child=_after_fork)
