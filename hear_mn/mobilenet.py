"""MobileNets for audio tagging: MobileNetV3-Large, scaled in width, on one-channel log-mels.

The architecture is that of Howard et al., "Searching for MobileNetV3" (ICCV 2019), as changed for
audio by Schmid, Koutini and Widmer, "Efficient Large-Scale Audio Tagging via Transformer-to-CNN
Knowledge Distillation" (ICASSP 2023). Parameters are named as in the checkpoints that EfficientAT
released, so that those load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from hear_core.errors import ConfigError, unknown
from hear_core.networks.backbone import Backbone
from hear_core.networks.channel_padding import pad_channels
from hear_core.networks.mobilenet_blocks import (
    HIDDEN,
    TAP_ALIASES,
    Features,
    block_table,
    initialise,
    make_divisible,
)
from hear_core.networks.taps import TapShape
from hear_mn.heads import HEADS, HeadSizes


class MobileNet(Backbone):
    """A MobileNet backbone.

    Taps: ``b0`` (stem) to ``b15`` and ``b16`` (last convolution) are maps; ``se4`` … are the
    squeeze-and-excitation bottlenecks before their ReLU; ``e1`` is the last convolution averaged
    over frequency and time; ``clf`` is the hidden layer of the mlp head after its Hardswish;
    ``logits`` become probabilities by a sigmoid.

    Args:
        width: Factor on all channel counts.
        num_classes: Number of logits.
        head: A key of `hear_mn.heads.HEADS`.
        attention_heads: Number of heads of the attention pooling head.
        strides: Strides of blocks 2, 4, 7 and 13.
        reduced_tail: Halve the channels of the last blocks.
        dilated: Stretch the kernels of the last three blocks by two; they then have no stride.
        se_dims: Axes of squeeze-and-excitation: any of the letters ``c`` (channels), ``f``
            (frequency) and ``t`` (time), or ``none``.
        se_agg: Aggregation of several axes: ``max``, ``avg``, ``add`` or ``min``.
        se_ratio: Size of what is squeezed over size of its bottleneck.
        n_mels: Mel bands of the input.
        frames: Frames of the input; matters for ``t`` only, which takes no other length.
        dropout: Dropout probability in the mlp head, when training.

    Raises:
        ConfigError: A head, an axis or an aggregation is unknown.
    """

    tap_aliases = TAP_ALIASES

    def __init__(
        self,
        width: float = 1.0,
        *,
        num_classes: int = 527,
        head: str = "mlp",
        attention_heads: int = 4,
        strides: Sequence[int] = (2, 2, 2, 2),
        reduced_tail: bool = False,
        dilated: bool = False,
        se_dims: str = "c",
        se_agg: str = "max",
        se_ratio: int = 4,
        n_mels: int = 128,
        frames: int = 1000,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise ConfigError(unknown("head", head, HEADS))
        self.n_mels = n_mels
        self.features = Features(
            block_table(strides, reduced_tail=reduced_tail, dilated=dilated),
            width,
            n_mels,
            frames=frames,
            se_dims=se_dims,
            se_agg=se_agg,
            se_ratio=se_ratio,
        )
        last = self.features.channels
        hidden = make_divisible((HIDDEN // 2 if reduced_tail else HIDDEN) * width)
        self.classifier = HEADS[head](
            HeadSizes(last, num_classes, hidden, dropout, attention_heads)
        )
        self.class_layers = tuple(f"classifier.{name}" for name in self.classifier.class_layers)
        self.tap_shapes = {
            **self.features.tap_shapes,
            "e1": TapShape(last),
            **self.classifier.tap_shapes,
        }
        initialise(self)

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        x, values = self.features(log_mel, taps)
        return values if len(values) == len(taps) else values | self.classifier.tap(x, taps)

    def exportable(self, min_channels: int = 1) -> Self:
        return pad_channels(super().exportable(), min_channels)

    def channelwise_chains(self) -> Sequence[Sequence[nn.Module]]:
        return [*self.features.channelwise_chains(), (self.classifier,)]
