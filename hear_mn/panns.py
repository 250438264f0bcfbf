"""CNN14 of PANNs: six blocks of two convolutions, on log-mels in decibels.

The architecture is that of Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for
Audio Pattern Recognition" (TASLP 2020), with its variants that decide for every segment of a clip.
Parameters are named as in the checkpoints that the authors released
(https://zenodo.org/record/3987831), so that those load as they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.errors import ConfigError, unknown
from hear_core.networks.backbone import LOGITS_ALIASES, Backbone
from hear_core.networks.taps import TapShape

DECISIONS = ("clip", "max", "avg", "att")
"""Levels at which a CNN14 decides: the whole clip, or segments whose decisions are pooled."""
_CHANNELS = (64, 128, 256, 512, 1024, 2048)
_EPS = 1e-7
_TAP_ALIASES: Mapping[str, tuple[str, ...]] = {**LOGITS_ALIASES, "embedding": ("clf",)}


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions, each with batch norm and ReLU, that keep the size of the map."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, channels in enumerate((in_channels, out_channels), start=1):
            layers[f"conv{index}"] = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
            layers[f"bn{index}"] = nn.BatchNorm2d(out_channels)
            layers[f"relu{index}"] = nn.ReLU(inplace=True)
        super().__init__(layers)


class AttentionBlock(nn.Module):
    """Class probabilities of segments, averaged with weights that depend on the segment and class.

    Shape:
        (batch, channels, segments) to logits of the segments (batch, num_classes, segments), and
        of the clip (batch, num_classes).
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.att = nn.Conv1d(channels, num_classes, 1)
        self.cla = nn.Conv1d(channels, num_classes, 1)
        self.bn_att = nn.BatchNorm1d(num_classes)  # in the released files, though never used

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.att(hidden).clamp(-10, 10).softmax(2)
        segments = self.cla(hidden)
        return segments, (weights * segments.sigmoid()).sum(2).logit(_EPS)


class Cnn14(Backbone):
    """The CNN14 backbone.

    Taps: ``b1`` to ``b6`` are maps, the outputs of the blocks; the first five are pooled 2x2.
    ``logits`` become probabilities by a sigmoid. If the decision is for the whole clip, ``e1`` is
    the last map, averaged over frequency, its maximum plus its mean over time; ``clf`` is the
    hidden layer after its ReLU, which PANNs calls the embedding. If it is for segments, of 32
    frames each, ``clf`` is that layer for every segment, and ``segments`` are the logits of every
    segment, both as maps with one band.

    Args:
        num_classes: Number of logits.
        decision: Level of the decision: ``clip``, or segments whose probabilities are pooled by
            their maximum (``max``), their mean (``avg``) or attention (``att``), as in
            Cnn14_DecisionLevelMax, Avg and Att.

    Raises:
        ConfigError: The decision is unknown.
    """

    n_mels = 64
    tap_aliases = _TAP_ALIASES
    min_frames = 2 ** (len(_CHANNELS) - 1)

    def __init__(self, *, num_classes: int = 527, decision: str = "clip") -> None:
        super().__init__()
        if decision not in DECISIONS:
            raise ConfigError(unknown("decision", decision, DECISIONS))
        self.decision = decision
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
        if decision == "att":
            self.att_block = AttentionBlock(last, num_classes)
            self.class_layers = ("att_block.att", "att_block.cla", "att_block.bn_att")
        else:
            self.fc_audioset = nn.Linear(last, num_classes)
            self.class_layers = ("fc_audioset",)
        if decision == "clip":
            head = {"e1": TapShape(last), "clf": TapShape(last)}
        else:
            head = {"clf": TapShape(last, 1), "segments": TapShape(num_classes, 1)}
        self.tap_shapes = {**shapes, **head, "logits": TapShape(num_classes)}
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
        head = self._clip_head(frames) if self.decision == "clip" else self._segment_head(frames)
        return values | {tap: head[tap] for tap in taps if tap in head}

    def _clip_head(self, frames: Tensor) -> dict[str, Tensor]:
        e1 = frames.amax(2) + frames.mean(2)
        clf = F.relu(self.fc1(self.dropout_head(e1)))
        return {"e1": e1, "clf": clf, "logits": self.fc_audioset(clf)}

    def _segment_head(self, frames: Tensor) -> dict[str, Tensor]:
        near = F.max_pool1d(frames, 3, 1, 1) + F.avg_pool1d(frames, 3, 1, 1)
        clf = F.relu(self.fc1(self.dropout_head(near).transpose(1, 2)))
        if self.decision == "att":
            segments, logits = self.att_block(clf.transpose(1, 2))
        else:
            segments = self.fc_audioset(clf).transpose(1, 2)
            if self.decision == "max":
                logits = segments.amax(2)
            else:
                logits = segments.sigmoid().mean(2).logit(_EPS)
        clf = clf.transpose(1, 2).unsqueeze(2)
        return {"clf": clf, "segments": segments.unsqueeze(2), "logits": logits}

    def _initialise(self) -> None:
        for module in self.modules():
            if any(p.is_meta for p in module.parameters(recurse=False)):
                continue  # a skeleton has no weights
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
