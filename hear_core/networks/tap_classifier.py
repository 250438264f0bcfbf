"""Classifiers of embeddings: a network whose taps are the input of a head with other classes.

Training a classifier on embeddings makes such a network. It is a backbone like any other, so that
everything that takes a checkpoint takes it: taggers, streams, engines, exports and plug-ins.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from hear_core.errors import ConfigError, unknown
from hear_core.networks.backbone import LOGITS_ALIASES, Backbone
from hear_core.networks.batch_norm_folding import inference_copy
from hear_core.networks.taps import (
    FRONTEND_ALIASES,
    LOG_MEL_TAPS,
    TapShape,
    concatenate,
    layout,
    resolve,
)

HEAD_INPUT = "head_input"
"""The tap of a classifier that is the input of its head: the concatenated taps of its network."""


class Standardise(nn.Module):
    """Subtracts a mean from every feature and divides it by a standard deviation.

    Args:
        size: Number of features.

    Attributes:
        mean: Mean of every feature, (size,); a buffer.
        std: Standard deviation of every feature, (size,); a buffer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.std


def build_head(size: int, num_classes: int, hidden: int = 0) -> nn.Sequential:
    """Return a head from embeddings (batch, size) to logits (batch, num_classes).

    Args:
        size: Length of an embedding.
        num_classes: Number of logits.
        hidden: Size of the hidden layer; 0 is a linear classifier.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(standardise=Standardise(size))
    if hidden:
        layers |= {"hidden": nn.Linear(size, hidden), "relu": nn.ReLU()}
    layers["output"] = nn.Linear(hidden or size, num_classes)
    return nn.Sequential(layers)


class TapClassifier(Backbone):
    """A network with a head on its concatenated taps.

    Taps: ``logits`` are those of the head, ``head_input`` is its input, and the others are those of
    the network. Of a frame-wise network, the frames are averaged and only these two are offered.

    In training mode, batch norms of parts whose parameters are all frozen stay in evaluation mode.

    A subclass sets `networks`.

    Args:
        network: Name of the network's class, a key of `networks`.
        arguments: Arguments of its constructor.
        taps: Taps or aliases whose concatenation is classified.
        pooling: Pooling of map taps to vectors, a key of `hear_core.networks.taps.POOLINGS`.
        hidden: Size of the hidden layer; 0 is a linear classifier.
        num_classes: Number of logits.
        n_mels: Mel bands of the input.

    Attributes:
        networks: Constructors of the networks that embeddings are taken from, by name.
        taps: Names of the taps that are classified, without aliases.

    Raises:
        ConfigError: The network, a tap or the pooling is unknown.
    """

    networks: ClassVar[Mapping[str, Callable[..., Backbone]]]

    def __init__(
        self,
        network: str,
        arguments: Mapping[str, Any],
        taps: Sequence[str],
        *,
        pooling: str = "avg",
        hidden: int = 0,
        num_classes: int = 527,
        n_mels: int = 128,
    ) -> None:
        super().__init__()
        if network not in self.networks:
            raise ConfigError(unknown("network", network, self.networks))
        self.backbone = self.networks[network](**arguments)
        self.n_mels, self.pooling = n_mels, pooling
        base = self.backbone.tap_shapes
        shapes = {**dict.fromkeys(LOG_MEL_TAPS, TapShape(n_mels)), **base}
        self.taps = resolve(taps, shapes, {**FRONTEND_ALIASES, **self.backbone.tap_aliases})
        size = layout(self.taps, shapes, pooling)[self.taps[-1]].stop
        self.classifier = build_head(size, num_classes, hidden)
        self.class_layers = ("classifier.output",)
        own = {"logits": TapShape(num_classes), HEAD_INPUT: TapShape(size)}
        self.tap_shapes = own if self.backbone.framewise else {**base, **own}
        self.tap_aliases = {**self.backbone.tap_aliases, **LOGITS_ALIASES}
        self.traceable = self.backbone.traceable
        self.min_frames = max(self.backbone.min_frames, self.backbone.frame_stride or 1)

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        others = [tap for tap in taps if tap not in ("logits", HEAD_INPUT)]
        own = self.taps if len(others) < len(taps) else ()
        wanted = tuple(dict.fromkeys(tap for tap in (*others, *own) if tap not in LOG_MEL_TAPS))
        values = self.backbone(self._aligned(log_mel), wanted) if wanted else {}
        found = {tap: values[tap] for tap in others}
        if own:
            vectors = {t: v.mean(-1) if v.ndim == 3 else v for t, v in values.items()}
            vectors |= {tap: LOG_MEL_TAPS[tap](log_mel) for tap in own if tap in LOG_MEL_TAPS}
            embedding = concatenate(vectors, own, self.pooling)
            found[HEAD_INPUT] = embedding
            if "logits" in taps:
                dtype = next(self.classifier.parameters()).dtype
                found["logits"] = self.classifier(embedding.to(dtype))
        return {tap: found[tap] for tap in taps}

    def train(self, mode: bool = True) -> Self:
        """Set the mode; parts of the network with nothing to train stay in evaluation mode."""
        super().train(mode)
        for module in self.backbone.modules() if mode else ():
            trained = [parameter.requires_grad for parameter in module.parameters()]
            if trained and not any(trained):
                module.eval()
        return self

    def exportable(self, min_channels: int = 1) -> Self:
        """Return a copy for inference, see `Backbone.exportable`."""
        twin = copy.copy(self)
        twin._modules = {
            "backbone": self.backbone.exportable(min_channels),
            "classifier": inference_copy(self.classifier),
        }
        twin.training = False
        return twin

    def channelwise_chains(self) -> Sequence[Sequence[nn.Module]]:
        return self.backbone.channelwise_chains()

    def _aligned(self, log_mel: Tensor) -> Tensor:
        """Return a log-mel with as many frames as a frame-wise network takes."""
        stride = self.backbone.frame_stride
        if stride is None or not self.backbone.whole_frames:
            return log_mel
        return log_mel[:, :, : log_mel.shape[2] // stride * stride]


def plain_networks(
    networks: Mapping[str, Callable[..., Backbone]],
) -> dict[str, Callable[..., Backbone]]:
    """Return the networks that are not classifiers of the taps of others, by name."""
    classifiers = {
        name
        for name, network in networks.items()
        if isinstance(network, type) and issubclass(network, TapClassifier)
    }
    return {name: network for name, network in networks.items() if name not in classifiers}
