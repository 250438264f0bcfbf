"""Memory of activations, measured by running a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def peak_activations(network: nn.Module, *inputs: Tensor) -> int:
    """Return the largest number of bytes that go into and come out of one layer.

    The network is run once, in inference mode. Weights are not counted.
    """
    peak = 0

    def measure(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        nonlocal peak
        tensors = [t for t in (*args, output) if isinstance(t, Tensor)]
        peak = max(peak, sum(t.nbytes for t in tensors))

    layers = [module for module in network.modules() if not any(module.children())]
    hooks = [layer.register_forward_hook(measure) for layer in layers]
    try:
        with torch.inference_mode():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return peak
