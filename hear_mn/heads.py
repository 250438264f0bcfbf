"""Classification heads: from the last feature map of a network to its logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hear_core.networks.taps import TapShape


class HeadSizes(NamedTuple):
    """Sizes that heads are built from; each kind of head uses some of them."""

    channels: int
    num_classes: int
    hidden: int
    dropout: float
    attention_heads: int


class Head(nn.Module):
    """Base class of heads, from the last map (batch, channels, bands, frames) to taps.

    Attributes:
        tap_shapes: Shapes of the values of the taps that the head computes.
        class_layers: Names of the layers whose shapes depend on the number of classes.
    """

    tap_shapes: Mapping[str, TapShape]
    class_layers: tuple[str, ...]

    def tap(self, feature_map: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Return the requested taps after the last map: its mean ``e1`` and those of the head."""
        values = {"e1": feature_map.mean((2, 3))} if "e1" in taps else {}
        if wanted := [tap for tap in taps if tap in self.tap_shapes]:
            found = self(feature_map)
            values |= {tap: found[tap] for tap in wanted}
        return values


class Mlp(Head, nn.Sequential):
    """Global average, a hidden layer with Hardswish (tap ``clf``), logits."""

    class_layers = ("5",)

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(1),
            nn.Linear(sizes.channels, sizes.hidden),
            nn.Hardswish(),
            nn.Dropout(sizes.dropout),
            nn.Linear(sizes.hidden, sizes.num_classes),
        )
        self.tap_shapes = {
            "clf": TapShape(sizes.hidden),
            "logits": TapShape(sizes.num_classes),
        }

    def forward(self, feature_map: Tensor) -> dict[str, Tensor]:
        *body, dropout, last = self
        clf = feature_map
        for layer in body:
            clf = layer(clf)
        return {"clf": clf, "logits": last(dropout(clf))}


class FullyConvolutional(Head, nn.Sequential):
    """Logits at every point of the map, averaged."""

    class_layers = ("0", "1")

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__(
            nn.Conv2d(sizes.channels, sizes.num_classes, 1, bias=False),
            nn.BatchNorm2d(sizes.num_classes),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(1),
        )
        self.tap_shapes = {"logits": TapShape(sizes.num_classes)}

    def forward(self, feature_map: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(feature_map)}


class MultiHeadAttentionPooling(Head):
    """Logits at every frame, averaged with weights that every head and class has of its own.

    From Gong, Chung and Glass, "PSLA" (TASLP 2021).
    """

    class_layers = ("subspace_proj",)

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.shape = (2, sizes.attention_heads, sizes.num_classes)
        self.head_weight = nn.Parameter(
            torch.full((1, sizes.attention_heads, 1), 1 / sizes.attention_heads)
        )
        self.subspace_proj = nn.Linear(
            sizes.channels, 2 * sizes.attention_heads * sizes.num_classes
        )
        self.tap_shapes = {"logits": TapShape(sizes.num_classes)}

    def forward(self, feature_map: Tensor) -> dict[str, Tensor]:
        frames = feature_map.mean(2).transpose(1, 2)
        attention, values = self.subspace_proj(frames).unflatten(2, self.shape).unbind(2)
        attention = attention.sigmoid().clamp(1e-7, 1 - 1e-7)
        attention = attention / attention.sum(1, keepdim=True)
        per_head = (attention * values).sum(1)
        return {"logits": (per_head * self.head_weight).sum(1)}


HEADS: Mapping[str, Callable[[HeadSizes], Head]] = {
    "mlp": Mlp,
    "fully_convolutional": FullyConvolutional,
    "multihead_attention_pooling": MultiHeadAttentionPooling,
}
