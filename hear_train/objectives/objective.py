"""The contract of objectives: a network with its loss, and its parameters in groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from typing import Any, Self

import torch
from torch import Tensor, nn

from hear_core.errors import ConfigError
from hear_core.networks.backbone import Backbone
from hear_mn.heads import Mlp
from hear_train.batch import Batch

_FEWEST_BLOCKS = 4


class Objective(nn.Module):
    """Base class of objectives: a network with a loss.

    Attributes:
        network: Network to train.
    """

    network: Backbone
    _frozen = False

    def freeze_backbone(self) -> None:
        """Train the last layer only; everything before it stays in evaluation mode."""
        self._frozen = True
        layers = tuple(f"{name}." for name in self.network.class_layers)
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name.startswith(layers))
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self._frozen:
            self.network.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of a batch as ``loss``, and other terms to record by name."""
        raise NotImplementedError

    def outputs(self, batch: Batch, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        """Return the taps of the network for a batch.

        Clips of several lengths are padded to the longest; the head then averages over the frames
        of each clip only.
        """
        assert batch.log_mel is not None  # noqa: S101 - the preprocessing sets it
        with averaged_over_clips(self.network, batch.frames, batch.log_mel.shape[-1]):
            found: dict[str, Tensor] = self.network(batch.log_mel, taps)
        return found

    def parameter_groups(
        self,
        lr: float,
        *,
        head_lr: float | None = None,
        layer_decay: float = 1.0,
        lrs: Mapping[str, float] | None = None,
        frozen: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """Return the trainable parameters in groups, each with its learning rate ``max_lr``.

        Args:
            lr: Learning rate of the backbone's last block, and of the head without a `head_lr`.
            head_lr: Learning rate of everything after the backbone: the classifier, the sequence
                model of a detector, and what is outside the network.
            layer_decay: Factor on the learning rate from each block to the one before it, as in
                Bao et al., "BEiT" (ICLR 2022).
            lrs: Learning rates by patterns of the names of parameters, which take precedence; the
                first match counts.
            frozen: Patterns of the names of parameters that are not trained, such as
                ``network.features.*``.

        Raises:
            ConfigError: A pattern does not match anything, or nothing is left to train.
        """
        names = [name for name, _ in self.named_parameters()]
        chosen_lrs = lrs or {}
        for key, pattern in (
            *(("frozen", pattern) for pattern in frozen),
            *(("lrs", pattern) for pattern in chosen_lrs),
        ):
            if not any(fnmatch(name, pattern) for name in names):
                msg = (
                    f"{key}: {pattern!r} does not match any parameter; the names are like "
                    f"{names[0]!r}"
                )
                raise ConfigError(msg)
        blocks = block_parameters(self.network)
        rates = {
            id(parameter): lr * layer_decay ** (len(blocks) - 1 - depth)
            for depth, block in enumerate(blocks)
            for parameter in block
        }
        rest = lr if head_lr is None else head_lr
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if any(fnmatch(name, pattern) for pattern in frozen):
                parameter.requires_grad_(False)
            if parameter.requires_grad:
                given = (value for pattern, value in chosen_lrs.items() if fnmatch(name, pattern))
                chosen = next(given, rates.get(id(parameter), rest))
                groups.setdefault(chosen, []).append(parameter)
        if not groups:
            msg = "every parameter is frozen, so that there is nothing to train"
            raise ConfigError(msg)
        return [{"params": group, "max_lr": value} for value, group in groups.items()]


def clip_tap(network: Backbone) -> str:
    """Return the tap with the logits of clips: a detector's ``logits`` are those of frames."""
    return "weak" if network.framewise else "logits"


def takes_lengths(network: nn.Module) -> bool:
    """Return whether the head of a network averages its last map before it does anything else."""
    return isinstance(getattr(network, "classifier", None), Mlp)


@contextmanager
def averaged_over_clips(network: nn.Module, frames: Tensor | None, total: int) -> Iterator[None]:
    """Let the head of a network average its last map over the frames of each clip only.

    The layers before the head process the padding as silence.

    Args:
        network: Network with a head for which `takes_lengths` holds.
        frames: Frames of each clip in the log-mel, (batch,); None averages over all.
        total: Frames of the log-mel.
    """
    if frames is None:
        yield
        return

    def scale(module: nn.Module, maps: tuple[Tensor]) -> Tensor:
        (last,) = maps
        count = last.shape[-1]
        own = (frames * count / total).ceil().clamp(1, count)
        inside = torch.arange(count, device=last.device) < own[:, None]
        return last * (inside * (count / own)[:, None]).to(last.dtype)[:, None, None]

    hook = network.get_submodule("classifier").register_forward_pre_hook(scale)
    try:
        yield
    finally:
        hook.remove()


def block_parameters(network: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters of every block of a backbone, from its input to its output.

    The blocks are the parts of the longest list or sequence of modules in the backbone, or the
    parts of the backbone itself if it has no such list. What comes before them, such as an
    embedding of patches, counts to the first block, and what comes after them to the last one.

    Args:
        network: Network; its backbone is its attribute ``backbone`` if it has one, and else
            everything but its `class_layers`.
    """
    body = getattr(network, "backbone", network)
    heads = _head_names(body)
    containers = [
        module
        for name, module in body.named_modules()
        if (isinstance(module, nn.ModuleList) or type(module) is nn.Sequential)
        and name.split(".")[0] not in heads
    ]
    parts = list(max(containers, key=len, default=nn.Sequential()).children())
    if len(parts) < _FEWEST_BLOCKS:
        parts = [part for name, part in body.named_children() if name not in heads] or [body]
    of = {id(p): depth for depth, part in enumerate(parts) for p in part.parameters()}
    blocks: list[list[nn.Parameter]] = [[] for _ in parts]
    depth = 0
    for name, parameter in body.named_parameters():
        if name.split(".")[0] in heads:
            continue
        if id(parameter) in of:
            depth = of[id(parameter)]
        elif depth:  # after the first of the blocks, so after all of them
            depth = len(parts) - 1
        blocks[depth].append(parameter)
    return blocks


def _head_names(network: nn.Module) -> tuple[str, ...]:
    layers: Sequence[str] = getattr(network, "class_layers", ())
    return tuple(dict.fromkeys(layer.split(".")[0] for layer in layers))
