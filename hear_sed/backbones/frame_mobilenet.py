"""Frame-wise MobileNets: MobileNetV3-Large that gives a vector every 40 ms instead of one a clip.

The architecture is that of Schmid et al., "Effective Pre-Training of Audio Transformers for Sound
Event Detection" (ICASSP 2025), and Morocutti et al., "Exploring Performance-Complexity Trade-Offs
in Sound Event Detection Models" (EUSIPCO 2025): all strides of a MobileNet but the first two are
along frequency only. Parameters are named as in the checkpoints that EfficientSED released.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Self

from torch import Tensor, nn

from hear_core.errors import ConfigError
from hear_core.frontends.log_mel import LogMel
from hear_core.networks.channel_padding import pad_channels
from hear_core.networks.mobilenet_blocks import (
    TAP_ALIASES,
    BlockRow,
    Features,
    block_table,
    initialise,
)
from hear_core.networks.taps import TapShape
from hear_sed.backbones.base import BackboneRecord, FrameBackbone

_STRIDES = {2: (2, 2), 3: (2, 1), 6: (2, 1), 8: (2, 1), 11: (2, 1), 15: (2, 1)}
"""Along frequency and time, of the blocks that have any."""
_MOST_MELS = 2 ** (1 + len(_STRIDES))


def frame_block_table() -> list[BlockRow]:
    """List the 15 blocks: those of MobileNetV3-Large with other strides."""
    strides = (_STRIDES.get(number, (1, 1)) for number in range(1, 16))
    return [
        row._replace(stride=frequency, time_stride=time)
        for row, (frequency, time) in zip(block_table(), strides, strict=True)
    ]


class FrameMobileNet(FrameBackbone):
    """A frame-wise MobileNet backbone, without a head.

    Taps: ``b0`` (stem) to ``b15`` and ``b16`` (last convolution) are maps; ``se4`` … are the
    squeeze-and-excitation bottlenecks before their ReLU; ``frames`` is the last map, of which
    there is one band left: a vector for every fourth frame of the log-mel.

    Args:
        width: Factor on all channel counts.
        n_mels: Mel bands of the input, at most 128.

    Attributes:
        channels: Number of channels of every frame.

    Raises:
        ConfigError: There are more mel bands than the strides make one of.
    """

    kind = "fmn"
    tap_aliases = TAP_ALIASES
    frame_stride = 4

    def __init__(self, width: float = 1.0, *, n_mels: int = 128) -> None:
        super().__init__()
        if not 1 <= n_mels <= _MOST_MELS:
            msg = f"n_mels must be from 1 to {_MOST_MELS}, of which one band is left, not {n_mels}"
            raise ConfigError(msg)
        self.n_mels = n_mels
        self.features = Features(frame_block_table(), width, n_mels)
        self.channels = self.features.channels
        self.tap_shapes = {**self.features.tap_shapes, "frames": TapShape(self.channels, 1)}
        initialise(self)

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("frames",)) -> dict[str, Tensor]:
        """Return the requested taps, see `Backbone.forward`.

        Args:
            log_mel: Log-mel spectrograms (batch, n_mels, frames).
            taps: Keys of `tap_shapes`. ``frames`` is (batch, channels, 1, ceil(frames / 4)).
        """
        x, values = self.features(log_mel, taps)
        return values | ({"frames": x} if "frames" in taps else {})

    def exportable(self, min_channels: int = 1) -> Self:
        return pad_channels(super().exportable(), min_channels)

    def channelwise_chains(self) -> Sequence[Sequence[nn.Module]]:
        return self.features.channelwise_chains()


def _rename(key: str) -> str:
    """Return the key of a detector for a key of EfficientSED or, third, of PretrainedSED.

    >>> _rename("net.model.features.0.0.weight"), _rename("model.frame_mn.features.0.0.weight")
    ('model.fmn.features.0.0.weight', 'model.fmn.features.0.0.weight')
    """
    return re.sub(r"^(?:net\.model|model\.model|model\.frame_mn)\.", "model.fmn.", key)


FRONTEND = partial(
    LogMel, sample_rate=16000, hop=160, window=400, n_fft=512, fmax=7000.0, floor=1e-7
)
"""The front-end of frame-wise MobileNets: 10 ms frames, of which a network makes one of four."""

BACKBONES: Mapping[str, BackboneRecord] = {
    name: BackboneRecord(partial(FrameMobileNet, width), FRONTEND, _rename)
    for name, width in {
        "fmn04": 0.4,
        "fmn06": 0.6,
        "fmn10": 1.0,
        "fmn20": 2.0,
        "fmn30": 3.0,
    }.items()
}
"""The frame-wise MobileNets that EfficientSED released, by name."""
