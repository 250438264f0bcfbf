"""The contract of objectives: a network with its loss, and its parameters in groups."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from torch import Tensor, nn

from hear_core.errors import ConfigError
from hear_core.networks.backbone import Backbone
from hear_train.batch import Batch

_BLOCK = re.compile(r"^(\w+(?:\.\d+)?)")


class Objective(nn.Module):
    """Base class of objectives: a network with a loss.

    Attributes:
        network: Network to train.
    """

    network: Backbone

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch as ``loss``, and other terms to record by name."""
        raise NotImplementedError

    def parameter_groups(
        self,
        lr: float,
        *,
        head_lr: float | None = None,
        layer_decay: float = 1.0,
        frozen: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """Return the trainable parameters in groups, each with its learning rate ``max_lr``.

        Args:
            lr: Learning rate of the backbone's last block, and of the head without a `head_lr`.
            head_lr: Learning rate of the classifier and of everything outside the network.
            layer_decay: Factor on the learning rate from each block to the one before it, as in
                Bao et al., "BEiT" (ICLR 2022).
            frozen: Patterns of the names of parameters that are not trained, such as
                ``network.features.*``.

        Raises:
            ConfigError: A pattern matches nothing, or nothing is left to train.
        """
        names = [name for name, _ in self.named_parameters()]
        for pattern in frozen:
            if not any(fnmatch(name, pattern) for name in names):
                msg = f"frozen: {pattern!r} matches no parameter; the names are like {names[0]!r}"
                raise ConfigError(msg)
        blocks = backbone_blocks(self.network) if layer_decay != 1 else {}
        groups: dict[float, list[nn.Parameter]] = {}
        heads = tuple(f"network.{name}" for name in _head_names(self.network))
        for name, parameter in self.named_parameters():
            if any(fnmatch(name, pattern) for pattern in frozen):
                parameter.requires_grad_(False)
                continue
            if not parameter.requires_grad:
                continue
            if not name.startswith("network.") or name.startswith(heads):
                chosen = lr if head_lr is None else head_lr
            else:
                depth = blocks.get(_block_of(name.removeprefix("network.")), len(blocks) - 1)
                chosen = lr * layer_decay ** max(0, len(blocks) - 1 - depth)
            groups.setdefault(chosen, []).append(parameter)
        if not groups:
            msg = "every parameter is frozen, so that there is nothing to train"
            raise ConfigError(msg)
        return [{"params": group, "max_lr": value} for value, group in groups.items()]


def backbone_blocks(network: nn.Module) -> Mapping[str, int]:
    """Return the depth of every block of a backbone, from 0 at its input, by the block's name."""
    heads = _head_names(network)
    names = (_block_of(name) for name, _ in network.named_parameters())
    body = dict.fromkeys(name for name in names if name.split(".")[0] not in heads)
    return {name: depth for depth, name in enumerate(body)}


def _head_names(network: nn.Module) -> tuple[str, ...]:
    layers: Sequence[str] = getattr(network, "class_layers", ())
    return tuple(dict.fromkeys(layer.split(".")[0] for layer in layers))


def _block_of(name: str) -> str:
    match = _BLOCK.match(name)
    return match.group(1) if match else name
