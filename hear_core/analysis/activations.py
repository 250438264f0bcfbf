"""Memory of activations, measured by running a network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from hear_core.networks.backbone import Backbone


def peak_activations(network: nn.Module, *inputs: Tensor) -> int:
    """Return the largest number of bytes that go into and come out of one layer.

    The network is run once, in inference mode. Weights are not counted. Attention counts with the
    scores of all pairs before and after the softmax, as not every runtime fuses them.
    """
    peak = 0

    def count(*tensors: Any) -> None:
        nonlocal peak
        peak = max(peak, sum(t.nbytes for t in tensors if isinstance(t, Tensor)))

    def measure(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        count(*args, output)

    class Attention(TorchFunctionMode):
        def __torch_function__(
            self,
            func: Callable[..., Any],
            types: Sequence[type],
            args: Sequence[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
        ) -> Any:
            if func is F.scaled_dot_product_attention:
                query, key = args[:2]
                scores = query.new_empty((*query.shape[:-1], key.shape[-2]), device="meta")
                count(*args, *(kwargs or {}).values(), scores, scores)
            return func(*args, **(kwargs or {}))

    layers = [module for module in network.modules() if not any(module.children())]
    hooks = [layer.register_forward_hook(measure) for layer in layers]
    try:
        with torch.inference_mode(), Attention():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return peak


def peak_activations_of_frames(backbone: Backbone, n_mels: int, frames: int) -> int:
    """Return `peak_activations` of a backbone for one log-mel, without computing anything.

    Args:
        backbone: Network, which may be as large as you like: its weights are neither read nor
            copied.
        n_mels: Number of mel bands.
        frames: Number of log-mel frames.
    """
    tensors = [*backbone.parameters(), *backbone.buffers()]
    memo: dict[int, Any] = {
        id(t): nn.Parameter(t.detach().to("meta"), requires_grad=False)
        if isinstance(t, nn.Parameter)
        else t.to("meta")
        for t in tensors
    }
    skeleton = copy.deepcopy(backbone, memo)
    log_mel = torch.empty(1, n_mels, frames, dtype=tensors[0].dtype, device="meta")
    return peak_activations(skeleton, log_mel)
