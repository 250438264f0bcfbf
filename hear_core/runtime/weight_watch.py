"""Detection of changed weights, fast enough to run before every batch."""

from __future__ import annotations

from itertools import chain
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn


class WeightWatch:
    """A record of the weights of a module, to tell later whether they have changed.

    Weights count as changed if a layer, parameter or buffer is another object, has other memory,
    was written to (PyTorch counts in-place writes), or has another first value. The last also
    covers most writes that bypass the counters, through ``.data`` or NumPy. For the 317 tensors of
    mn04, a check takes about 0.1 ms.

    Args:
        module: Module to watch. Its present tensors are kept alive until the record is dropped, so
            that no new tensor can have the address of an old one.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        # Plain dictionaries: to walk through the modules again would take several times as long.
        self._contents: list[dict[str, Any]] = [
            contents
            for child in module.modules()
            for contents in (child._modules, child._parameters, child._buffers)
            if contents
        ]
        self._tensors = [*module.parameters(), *module.buffers()]
        # Tensors made in inference mode cannot be written to outside of it, and have no counter.
        self._counted = [tensor for tensor in self._tensors if not tensor.is_inference()]
        self._first_values = [
            tensor.detach().as_strided((1,), (1,))
            for tensor in self._tensors
            if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta
        ]
        self._state = self._read()

    def changed(self, module: nn.Module) -> bool:
        """Return whether `module` is another one than was recorded, or has other weights."""
        return module is not self._module or self._read() != self._state

    def _read(self) -> tuple[list[int], list[int], list[int], bytes]:
        values = torch.cat(self._first_values).float().cpu() if self._first_values else None
        return (
            list(map(id, chain.from_iterable(map(dict.values, self._contents)))),
            list(map(Tensor.data_ptr, self._tensors)),
            list(map(attrgetter("_version"), self._counted)),
            b"" if values is None else values.numpy().tobytes(),
        )
