"""Narrow maps made wider by channels of zeros, for runtimes that work on many channels at once."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn import functional as F

from hear_core.networks.mobilenet_blocks import Features
from hear_core.networks.squeeze_excitation import SqueezeExcitation

Network = TypeVar("Network", bound=nn.Module)


def pad_channels(network: Network, least: int) -> Network:
    """Return a network that gives the same, with no narrower map in the chain of a MobileNet.

    ONNX Runtime keeps maps in blocks of as many channels as a vector of the CPU has numbers, but
    maps of fewer channels it reorders after every layer. That takes longer than the zeros do.

    Args:
        network: It is copied, unless there is nothing to do, or it still has batch norms, or
            squeeze-and-excitation that averages over channels.
        least: Channels that every map shall have, but for the log-mel.
    """
    modules = list(network.modules())
    if any(isinstance(module, nn.BatchNorm2d) or _averages_channels(module) for module in modules):
        return network
    if not any(_is_narrow(module, least) for module in modules):
        return network
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, Features):
            _widen(module, least)
    return network


def _averages_channels(module: nn.Module) -> bool:
    return isinstance(module, SqueezeExcitation) and set(module.dims) != {"c"}


def _is_narrow(module: nn.Module, least: int) -> bool:
    return isinstance(module, Features) and any(
        conv.out_channels < least for conv in module.modules() if isinstance(conv, nn.Conv2d)
    )


def _widen(chain: Features, least: int) -> None:
    channels = 1
    for module in chain.modules():  # in the order in which they are run
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups > 1
            out = max(module.out_channels, least)
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
    """Add weights that are zero to a layer, until it has so many outputs and inputs for each."""
    more_out, more_inputs = out - layer.weight.shape[0], inputs - layer.weight.shape[1]
    by_axis = (0, 0) * (layer.weight.ndim - 2) + (0, more_inputs, 0, more_out)
    layer.weight = nn.Parameter(F.pad(layer.weight, by_axis), requires_grad=False)
    if layer.bias is not None:
        layer.bias = nn.Parameter(F.pad(layer.bias, (0, more_out)), requires_grad=False)
