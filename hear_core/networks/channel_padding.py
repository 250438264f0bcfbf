"""Channel padding: narrow maps widened by channels of zeros, for runtimes with wide vectors."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn import functional as F

from hear_core.networks.mobilenet_blocks import Features
from hear_core.networks.squeeze_excitation import SqueezeExcitation

Network = TypeVar("Network", bound=nn.Module)


def pad_channels(network: Network, min_channels: int) -> Network:
    """Return a network with the same outputs whose maps have at least `min_channels` channels.

    ONNX Runtime stores maps in blocks of as many channels as a vector register of the CPU holds.
    It reorders maps of fewer channels after every layer, which takes longer than computing zeros.

    Args:
        network: Network to copy. It is returned as it is if there is nothing to pad, if it still
            has batch norms, or if its squeeze-and-excitation averages over channels.
        min_channels: Smallest number of channels of every map but the log-mel.
    """
    modules = list(network.modules())
    if any(isinstance(module, nn.BatchNorm2d) or _averages_channels(module) for module in modules):
        return network
    if not any(_is_narrow(module, min_channels) for module in modules):
        return network
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, Features):
            _widen(module, min_channels)
    return network


def _averages_channels(module: nn.Module) -> bool:
    return isinstance(module, SqueezeExcitation) and set(module.dims) != {"c"}


def _is_narrow(module: nn.Module, min_channels: int) -> bool:
    return isinstance(module, Features) and any(
        conv.out_channels < min_channels for conv in module.modules() if isinstance(conv, nn.Conv2d)
    )


def _widen(chain: Features, min_channels: int) -> None:
    channels = 1
    for module in chain.modules():  # in the order in which they are run
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups > 1
            out = max(module.out_channels, min_channels)
            _grow(module, out, 1 if depthwise else channels)
            module.in_channels, module.out_channels = out if depthwise else channels, out
            module.groups = out if depthwise else 1
            channels = out
        elif isinstance(module, SqueezeExcitation):
            for branch in module.conc_se_layers:
                _grow(branch.fc1, branch.fc1.out_features, channels)
                _grow(branch.fc2, channels, branch.fc2.in_features)
                branch.shape[1] = channels


def _grow(layer: nn.Conv2d | nn.Linear, out: int, inputs: int) -> None:
    """Add zero weights to a layer until it has `out` outputs with `inputs` inputs each."""
    more_out, more_inputs = out - layer.weight.shape[0], inputs - layer.weight.shape[1]
    by_axis = (0, 0) * (layer.weight.ndim - 2) + (0, more_inputs, 0, more_out)
    layer.weight = nn.Parameter(F.pad(layer.weight, by_axis), requires_grad=False)
    if layer.bias is not None:
        layer.bias = nn.Parameter(F.pad(layer.bias, (0, more_out)), requires_grad=False)
