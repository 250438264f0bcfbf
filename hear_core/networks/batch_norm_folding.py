"""Batch norm folding: networks for inference whose convolutions include their batch norms."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm that directly follows a convolution in a sequence, in place.

    What the network computes in evaluation mode stays the same up to rounding. It can no longer
    be trained, and its state dict no longer fits its checkpoint.

    Args:
        network: Any network; it is put into evaluation mode.
    """
    network.eval()
    for sequence in network.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for (name, layer), (next_name, next_layer) in zip(
            list(sequence.named_children()), list(sequence.named_children())[1:], strict=False
        ):
            if isinstance(layer, nn.Conv2d) and isinstance(next_layer, nn.BatchNorm2d):
                dtype = layer.weight.dtype
                if dtype.itemsize < 4:  # the product is rounded once, not at every step
                    layer, next_layer = _as_float(layer), _as_float(next_layer)
                setattr(sequence, name, fuse_conv_bn_eval(layer, next_layer).to(dtype))
                setattr(sequence, next_name, nn.Identity())


def inference_copy(network: Network) -> Network:
    """Return a copy in evaluation mode with folded batch norms.

    Only folded weights take new memory. The other weights are shared with the original, so that
    a network without batch norms costs nothing to copy; none of them requires a gradient.
    """
    memo: dict[int, object] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in network.buffers():
        memo[id(buffer)] = buffer.detach()
    twin = copy.deepcopy(network, memo)
    fold_batch_norms(twin)
    return twin.requires_grad_(False)


def _as_float(layer: Network) -> Network:
    return copy.deepcopy(layer).float()
