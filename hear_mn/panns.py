"""CNN14 of PANNs: six blocks of two convolutions, on log-mels in decibels.

The architecture is that of Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for
Audio Pattern Recognition" (TASLP 2020). Parameters are named as in the checkpoints that they
released (https://zenodo.org/record/3987831), so that those load as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.networks.backbone import LOGITS_ALIASES, Backbone
from hear_core.networks.taps import TapShape

_TAP_ALIASES: Mapping[str, tuple[str, ...]] = {**LOGITS_ALIASES, "embedding": ("clf",)}
_CHANNELS = (64, 128, 256, 512, 1024, 2048)


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions, each with batch norm and ReLU, that keep the size of the map."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, channels in enumerate((in_channels, out_channels), start=1):
            layers[f"conv{index}"] = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
            layers[f"bn{index}"] = nn.BatchNorm2d(out_channels)
            layers[f"relu{index}"] = nn.ReLU(inplace=True)
        super().__init__(layers)


class Cnn14(Backbone):
    """The CNN14 backbone.

    Taps: ``b1`` to ``b6`` are maps, the outputs of the blocks; the first five are pooled 2x2.
    ``e1`` is the last of them, averaged over frequency, its maximum plus its mean over time;
    ``clf`` is the hidden layer after its ReLU, which PANNs calls the embedding; ``logits`` are
    what a sigmoid turns into probabilities.

    Args:
        num_classes: Number of logits.
    """

    n_mels = 64
    class_layers = ("fc_audioset",)
    tap_aliases = _TAP_ALIASES
    min_frames = 2 ** (len(_CHANNELS) - 1)

    def __init__(self, *, num_classes: int = 527) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm1d(self.n_mels)
        shapes, last, bands = {}, 1, self.n_mels
        for index, channels in enumerate(_CHANNELS, start=1):
            self.add_module(f"conv_block{index}", ConvBlock(last, channels))
            if index < len(_CHANNELS):
                bands //= 2
            shapes[f"b{index}"] = TapShape(channels, bands)
            last = channels
        self.dropout = nn.Dropout(0.2)
        self.dropout_head = nn.Dropout(0.5)
        self.fc1 = nn.Linear(last, last)
        self.fc_audioset = nn.Linear(last, num_classes)
        self.tap_shapes = {
            **shapes,
            "e1": TapShape(last),
            "clf": TapShape(last),
            "logits": TapShape(num_classes),
        }
        self._initialise()

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        # The kernels were trained on maps of time by frequency; ours are frequency by time.
        x = self.bn0(log_mel).transpose(1, 2).unsqueeze(1)
        for index in range(1, len(_CHANNELS) + 1):
            x = self.get_submodule(f"conv_block{index}")(x)
            if index < len(_CHANNELS):
                x = F.avg_pool2d(x, 2)
            if f"b{index}" in taps:
                values[f"b{index}"] = x.transpose(2, 3)
            if len(values) == len(taps):
                return values
            x = self.dropout(x)
        frames = x.mean(3)
        e1 = frames.amax(2) + frames.mean(2)
        clf = F.relu(self.fc1(self.dropout_head(e1)))
        head = {"e1": e1, "clf": clf, "logits": self.fc_audioset(clf)}
        return values | {tap: head[tap] for tap in taps if tap in head}

    def _initialise(self) -> None:
        for module in self.modules():
            if any(p.is_meta for p in module.parameters(recurse=False)):
                continue  # an outline has no weights
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
