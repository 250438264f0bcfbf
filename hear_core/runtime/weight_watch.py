"""Detection of changed weights, fast enough to run before every batch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter, eq, is_

import numpy as np
import torch
from torch import Tensor, nn


class WeightWatch:
    """A record of the weights of a module, to tell later whether they have changed.

    Weights count as changed if a layer, parameter or buffer is another object, has other memory,
    was written to (PyTorch counts in-place writes), or has another first value. The last also
    covers most writes that bypass the counters, through ``.data`` or NumPy. For the 271 tensors of
    mn04, a check takes 0.1 ms, and 0.4 ms after a batch, which pushes them out of the caches.

    Args:
        module: Module to watch. Its present tensors are kept alive until the record is dropped, so
            that no new tensor can have the address of an old one.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        # Views of dictionaries, which show what they hold later: to walk through the modules again
        # would take several times as long.
        self._contents = [
            contents.values()
            for child in module.modules()
            for contents in (child._modules, child._parameters, child._buffers)
            if contents
        ]
        self._objects = [*chain.from_iterable(self._contents), _END]
        # Whole numbers are counts of batches, which no output depends on.
        tensors = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
        self._tensors, self._pointers = tensors, list(map(Tensor.data_ptr, tensors))
        # Tensors made in inference mode cannot be written to outside of it, and have no counter.
        self._counted = [tensor for tensor in tensors if not tensor.is_inference()]
        self._versions = list(map(_version, self._counted))
        self._first_values = _first_values(tensors)
        self._first = self._first_values()

    def changed(self, module: nn.Module) -> bool:
        """Return whether `module` is another one than was recorded, or has other weights."""
        # Compared one by one: lists of the present state would have to be made, in memory that
        # the network has pushed out of the caches since the last call.
        same = (
            module is self._module
            and all(map(is_, chain(chain.from_iterable(self._contents), (_END,)), self._objects))
            and all(map(eq, map(Tensor.data_ptr, self._tensors), self._pointers))
            and all(map(eq, map(_version, self._counted), self._versions))
            and self._first_values() == self._first
        )
        return not same


_END = object()  # behind the last of the objects, so that neither more nor fewer equal them
_version = attrgetter("_version")


def _first_values(tensors: Sequence[Tensor]) -> Callable[[], bytes]:
    """Return a function that reads the first value of every tensor."""
    firsts = [
        tensor.detach().as_strided((1,), (1,))
        for tensor in tensors
        if tensor.numel() and not tensor.is_meta
    ]
    if firsts and all(first.device.type == "cpu" and first.itemsize == 4 for first in firsts):
        return _gather([first.data_ptr() for first in firsts])
    return lambda: torch.cat(firsts).float().cpu().numpy().tobytes()


def _gather(addresses: Sequence[int]) -> Callable[[], bytes]:
    """Return a function that reads the four bytes at each of some addresses.

    It touches nothing but these bytes: an array for each of them would have to be fetched into the
    caches as well. The addresses must be multiples of four, and valid when the function is called.
    """
    first = min(addresses)
    span = max(addresses) - first + 4
    memory = np.frombuffer(memoryview((ctypes.c_uint8 * span).from_address(first)), np.uint32)
    places = (np.array(addresses, np.int64) - first) // 4
    return lambda: memory[places].tobytes()
