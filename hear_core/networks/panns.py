"""Networks of PANNs: convolutional bodies on log-mels in decibels, which share one kind of head.

The architectures are those of Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for
Audio Pattern Recognition" (TASLP 2020), whose bodies follow VGG, ResNet, MobileNet and a learned
spectrogram, the wavegram. Parameters are named as in the checkpoints that the authors released
(https://zenodo.org/record/3987831), so that those load as they are.

Taggers and detectors are made of these networks, and so they are here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.errors import ConfigError, unknown
from hear_core.networks.backbone import LOGITS_ALIASES, Backbone
from hear_core.networks.taps import TapShape

DECISIONS = ("clip", "max", "avg", "att")
"""Levels of the decision: the whole clip, or segments whose decisions are pooled."""
WAVEGRAM_HOP = 320
"""Number of samples of a frame of the wavegram."""
_WAVEGRAM_BANDS = 32
_EPS = 1e-7
_TAP_ALIASES: Mapping[str, tuple[str, ...]] = {**LOGITS_ALIASES, "embedding": ("clf",)}


class ConvBlock(nn.Sequential):
    """Convolutions, each with batch norm and ReLU, that keep the size of the map."""

    def __init__(self, in_channels: int, out_channels: int, kernels: Sequence[int] = (3, 3)):
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, kernel in enumerate(kernels, start=1):
            layers[f"conv{index}"] = _conv(in_channels, out_channels, kernel)
            layers[f"bn{index}"] = nn.BatchNorm2d(out_channels)
            layers[f"relu{index}"] = nn.ReLU(inplace=True)
            in_channels = out_channels
        super().__init__(layers)


class WaveBlock(nn.Sequential):
    """Two convolutions of a waveform's features, the second dilated; then the maximum of four."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, channels in enumerate((in_channels, out_channels), start=1):
            layers[f"conv{index}"] = nn.Conv1d(
                channels, out_channels, 3, padding=index, dilation=index, bias=False
            )
            layers[f"bn{index}"] = nn.BatchNorm1d(out_channels)
            layers[f"relu{index}"] = nn.ReLU(inplace=True)
        super().__init__(layers)
        self.pool = nn.MaxPool1d(4)


class ResidualBlock(nn.Sequential):
    """A block of a ResNet, whose strides are average poolings.

    Args:
        in_channels: Number of channels of the input.
        channels: Number of channels inside the block.
        stride: 1 or 2, along both axes.
        bottleneck: Use kernels of 1, 3 and 1 with four times the channels at the end, instead of
            two kernels of 3.
    """

    expansions: Mapping[bool, int] = {False: 1, True: 4}

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, *, bottleneck: bool = False
    ) -> None:
        out = channels * self.expansions[bottleneck]
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = in_channels
        for index, kernel in enumerate(kernels, start=1):
            last = index == len(kernels)
            layers[f"conv{index}"] = _conv(width, out if last else channels, kernel)
            layers[f"bn{index}"] = nn.BatchNorm2d(out if last else channels)
            if not last:
                layers[f"relu{index}"] = nn.ReLU(inplace=True)
            if index == len(kernels) - 1:
                layers["dropout"] = nn.Dropout(0.1)
            width = channels
        super().__init__(layers)
        self._main, self.stride = tuple(layers), stride
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out:
            shortcut = [_conv(in_channels, out, 1), nn.BatchNorm2d(out)]
            pooling = [nn.AvgPool2d(stride)] if stride != 1 else []
            self.downsample = nn.Sequential(*pooling, *shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool2d(x, self.stride) if self.stride != 1 else x
        for name in self._main:
            y = self.get_submodule(name)(y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class LinearBottleneck(nn.Module):
    """A block of MobileNetV2, whose stride is an average pooling."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = [_conv(in_channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
        self.residual = stride == 1 and in_channels == out_channels
        self.conv = _numbered(
            *(expand if expansion != 1 else []),
            _conv(hidden, hidden, 3, groups=hidden),
            _pool(stride),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            _conv(hidden, out_channels, 1),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.residual else y


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


class Stage(NamedTuple):
    """One step of a body.

    Attributes:
        layer: Name of the layer.
        channels: Number of channels of its output.
        stride: Factor by which the layer itself shrinks its input along both axes.
        pool: Factor by which an average pooling after the layer does.
        dropout: Whether a dropout follows, when training.
    """

    layer: str
    channels: int
    stride: int = 1
    pool: int = 1
    dropout: bool = False


@dataclass(frozen=True)
class Body:
    """The layers of a network up to its last map.

    Attributes:
        layers: Layers by the name that their parameters begin with.
        stages: Steps through the layers, each of which is a tap.
        embedding: Length of the embedding.
        dropout: Dropout before the embedding, when training.
        wavegram: Whether the input has the waveform as well.
        joined: Whether the wavegram is joined with the first stage, or takes its place.
    """

    layers: Mapping[str, nn.Module]
    stages: tuple[Stage, ...]
    embedding: int
    dropout: float = 0.5
    wavegram: bool = False
    joined: bool = True


def _cnn(channels: Sequence[int], kernels: Sequence[int] = (3, 3), *, pooled: int) -> Body:
    """Return a body of convolutional blocks, of which the first `pooled` are pooled."""
    layers, stages, last = dict[str, nn.Module](), [], 1
    for index, width in enumerate(channels):
        name = f"conv_block{index + 1}"
        layers[name] = ConvBlock(last, width, kernels)
        stages.append(Stage(name, width, pool=2 if index < pooled else 1, dropout=True))
        last = width
    return Body(layers, tuple(stages), last)


def _resnet(blocks: Sequence[int], *, bottleneck: bool = False) -> Body:
    """Return a residual body, with numbers of blocks of four widths."""
    widths, resnet = (64, 128, 256, 512), nn.Module()
    stages, last = [Stage("conv_block1", 64, pool=2, dropout=True)], 64
    for index, (count, width) in enumerate(zip(blocks, widths, strict=True)):
        layers = []
        for number in range(count):
            stride = 2 if index and not number else 1
            layers.append(ResidualBlock(last, width, stride, bottleneck=bottleneck))
            last = width * ResidualBlock.expansions[bottleneck]
        resnet.add_module(f"layer{index + 1}", nn.Sequential(*layers))
        ends = width == widths[-1]
        layer, stride = f"resnet.layer{index + 1}", 2 if index else 1
        stages.append(Stage(layer, last, stride, pool=2 if ends else 1, dropout=ends))
    stages.append(Stage("conv_block_after1", 2048, dropout=True))
    after = ConvBlock(last, 2048)
    first = ConvBlock(1, 64)
    layers_by_name = {"conv_block1": first, "resnet": resnet, "conv_block_after1": after}
    return Body(layers_by_name, tuple(stages), 2048)


# Channels and stride of each block of MobileNetV1, and the expansion, channels, number and stride
# of those of MobileNetV2.
_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2))
_V1 = (*_V1, (1024, 1))
_V2 = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 2), (6, 160, 3, 1), (6, 320, 1, 1)),
)


def _mobilenet_v1() -> Body:
    features, strides, last = [_stem(nn.ReLU)], [2], 32
    for channels, stride in _V1:
        features.append(
            _numbered(
                _conv(last, last, 3, groups=last),
                _pool(stride),
                nn.BatchNorm2d(last),
                nn.ReLU(inplace=True),
                _conv(last, channels, 1),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            )
        )
        strides.append(stride)
        last = channels
    widths = [32, *(channels for channels, _ in _V1)]
    return Body(*_features(features, widths, strides), embedding=1024)


def _mobilenet_v2() -> Body:
    features: list[nn.Module] = [_stem(nn.ReLU6)]
    widths, strides, last = [32], [2], 32
    for expansion, channels, count, first in _V2:
        for number in range(count):
            stride = 1 if number else first
            features.append(LinearBottleneck(last, channels, stride, expansion))
            widths.append(channels)
            strides.append(stride)
            last = channels
    features.append(
        nn.Sequential(_conv(last, 1280, 1), nn.BatchNorm2d(1280), nn.ReLU6(inplace=True))
    )
    layers, stages = _features(features, [*widths, 1280], [*strides, 1])
    return Body(layers, stages, embedding=1024, dropout=0.0)


def _wavegram(*, joined: bool) -> Body:
    """Return the body of CNN14 with a wavegram."""
    plain = _cnn(_CNN14, pooled=5)
    layers = {
        "pre_conv0": nn.Conv1d(1, 64, 11, stride=5, padding=5, bias=False),
        "pre_bn0": nn.BatchNorm1d(64),
        "pre_block1": WaveBlock(64, 64),
        "pre_block2": WaveBlock(64, 128),
        "pre_block3": WaveBlock(128, 128),
        "pre_block4": ConvBlock(4, 64),
        **plain.layers,
    }
    if joined:  # otherwise the first block is in the released file, though never used
        layers["conv_block2"] = ConvBlock(128, 128)
    first = plain.stages[0]._replace(channels=128 if joined else 64)
    stages = (first, *plain.stages[1:])
    return Body(layers, stages, plain.embedding, wavegram=True, joined=joined)


_CNN14 = (64, 128, 256, 512, 1024, 2048)

BODIES: Mapping[str, Callable[[], Body]] = {
    "cnn6": partial(_cnn, _CNN14[:4], (5,), pooled=4),
    "cnn10": partial(_cnn, _CNN14[:4], pooled=4),
    "cnn14": partial(_cnn, _CNN14, pooled=5),
    "resnet22": partial(_resnet, (2, 2, 2, 2)),
    "resnet38": partial(_resnet, (3, 4, 6, 3)),
    "resnet54": partial(_resnet, (3, 4, 6, 3), bottleneck=True),
    "mobilenet_v1": _mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
    "wavegram": partial(_wavegram, joined=False),
    "wavegram_logmel": partial(_wavegram, joined=True),
}
"""Bodies by name."""


class Panns(Backbone):
    """A network of PANNs.

    Taps: ``b1``, ``b2`` and so on are maps, the outputs of the stages of the body after their
    pooling. ``logits`` become probabilities by a sigmoid. If the decision is for the whole clip,
    ``e1`` is the last map, averaged over frequency, its maximum plus its mean over time; ``clf`` is
    the hidden layer after its ReLU, which PANNs calls the embedding. If it is for segments, of 32
    frames each, ``clf`` is that layer for every segment, and ``segments`` are the logits of every
    segment, both as maps with one band.

    Args:
        body: A key of `BODIES`.
        num_classes: Number of logits.
        n_mels: Mel bands of the input. A body with a wavegram takes `WAVEGRAM_HOP` rows more, the
            samples of the frame, see `hear_core.frontends.log_mel.DecibelMelAndWaveform`.
        embedding: Length of the embedding; that of the body by default.
        decision: Level of the decision: ``clip``, or segments whose probabilities are pooled by
            their maximum (``max``), their mean (``avg``) or attention (``att``), as in
            Cnn14_DecisionLevelMax, Avg and Att.

    Raises:
        ConfigError: The body or the decision is unknown.
    """

    tap_aliases = _TAP_ALIASES

    def __init__(
        self,
        body: str = "cnn14",
        *,
        num_classes: int = 527,
        n_mels: int = 64,
        embedding: int | None = None,
        decision: str = "clip",
    ) -> None:
        super().__init__()
        if body not in BODIES:
            raise ConfigError(unknown("body", body, BODIES))
        if decision not in DECISIONS:
            raise ConfigError(unknown("decision", decision, DECISIONS))
        parts = BODIES[body]()
        self.decision, self.stages = decision, parts.stages
        self.n_mels = n_mels + (WAVEGRAM_HOP if parts.wavegram else 0)
        self._bands, self._wavegram, self._joined = n_mels, parts.wavegram, parts.joined
        self.bn0 = nn.BatchNorm1d(n_mels)
        for name, layer in parts.layers.items():
            self.add_module(name, layer)
        self.dropout = nn.Dropout(0.2)
        shapes, bands, self.min_frames = {}, n_mels, 1
        for index, stage in enumerate(parts.stages, start=1):
            factor = stage.stride * stage.pool
            bands, self.min_frames = bands // factor, self.min_frames * factor
            shapes[f"b{index}"] = TapShape(stage.channels, bands)
        last, hidden = parts.stages[-1].channels, embedding or parts.embedding
        self.min_frames += parts.wavegram  # the waveform has a frame less than the log-mel
        self.dropout_embedding = nn.Dropout(parts.dropout)
        self.fc1 = nn.Linear(last, hidden)
        self.dropout_segments = nn.Dropout(0.0 if decision == "clip" else 0.5)
        if decision == "att":
            self.att_block = AttentionBlock(hidden, num_classes)
            self.class_layers = ("att_block.att", "att_block.cla", "att_block.bn_att")
        else:
            self.fc_audioset = nn.Linear(hidden, num_classes)
            self.class_layers = ("fc_audioset",)
        if decision == "clip":
            head = {"e1": TapShape(last), "clf": TapShape(hidden)}
        else:
            head = {"clf": TapShape(hidden, 1), "segments": TapShape(num_classes, 1)}
        self.tap_shapes = {**shapes, **head, "logits": TapShape(num_classes)}
        self._initialise()

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        x = log_mel
        for index, stage in enumerate(self.stages, start=1):
            x = self._first(x, stage) if index == 1 else self._run(x, stage)
            if f"b{index}" in taps:
                values[f"b{index}"] = x.transpose(2, 3)
            if len(values) == len(taps):
                return values
            x = self.dropout(x) if stage.dropout else x
        frames = x.mean(3)
        head = self._clip_head(frames) if self.decision == "clip" else self._segment_head(frames)
        return values | {tap: head[tap] for tap in taps if tap in head}

    def _first(self, log_mel: Tensor, stage: Stage) -> Tensor:
        """Return the output of the first stage, with the wavegram if there is one."""
        # The kernels were trained on maps of time by frequency; ours are frequency by time.
        maps = []
        if not self._wavegram or self._joined:
            bands = self.bn0(log_mel[:, : self._bands])
            maps.append(self._run(bands.transpose(1, 2).unsqueeze(1), stage))
        if self._wavegram:
            maps.append(self._wavegram_of(log_mel[:, self._bands :]))
        if len(maps) == 1:
            return maps[0]
        # The waveform has one frame less than the log-mel, whose last is centred on its end.
        frames = min(each.shape[2] for each in maps)
        return torch.cat([each[:, :, :frames] for each in maps], dim=1)

    def _run(self, x: Tensor, stage: Stage) -> Tensor:
        x = self.get_submodule(stage.layer)(x)
        return F.avg_pool2d(x, stage.pool) if stage.pool != 1 else x

    def _wavegram_of(self, samples: Tensor) -> Tensor:
        """Return a learned map (batch, 64, frames / 2, bands) of samples (batch, hop, frames)."""
        # The last frame is that on the end of the waveform, and has none of its samples.
        x = samples[:, :, :-1].transpose(1, 2).flatten(1).unsqueeze(1)
        x = F.relu(self.get_submodule("pre_bn0")(self.get_submodule("pre_conv0")(x)))
        for index in (1, 2, 3):
            x = self.get_submodule(f"pre_block{index}")(x)
        x = x.unflatten(1, (-1, _WAVEGRAM_BANDS)).transpose(2, 3)
        return F.avg_pool2d(self.get_submodule("pre_block4")(x), (2, 1))

    def _clip_head(self, frames: Tensor) -> dict[str, Tensor]:
        e1 = frames.amax(2) + frames.mean(2)
        clf = F.relu(self.fc1(self.dropout_embedding(e1)))
        return {"e1": e1, "clf": clf, "logits": self.fc_audioset(clf)}

    def _segment_head(self, frames: Tensor) -> dict[str, Tensor]:
        near = F.max_pool1d(frames, 3, 1, 1) + F.avg_pool1d(frames, 3, 1, 1)
        clf = F.relu(self.fc1(self.dropout_embedding(near).transpose(1, 2)))
        hidden = self.dropout_segments(clf)
        if self.decision == "att":
            segments, logits = self.att_block(hidden.transpose(1, 2))
        else:
            segments = self.fc_audioset(hidden).transpose(1, 2)
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
            elif isinstance(module, ResidualBlock):  # it starts as its shortcut
                last = [layer for layer in module if isinstance(layer, nn.BatchNorm2d)][-1]
                nn.init.zeros_(last.weight)


def _conv(in_channels: int, out_channels: int, kernel: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False
    )


def _pool(stride: int) -> nn.Module | None:
    return None if stride == 1 else nn.AvgPool2d(stride)


def _numbered(*layers: nn.Module | None) -> nn.Sequential:
    """Return a sequence of layers named by their places; a place may be empty."""
    named = ((str(place), layer) for place, layer in enumerate(layers))
    return nn.Sequential(OrderedDict((name, layer) for name, layer in named if layer is not None))


def _stem(activation: type[nn.Module]) -> nn.Sequential:
    """Return the first layer of a MobileNet."""
    return _numbered(_conv(1, 32, 3), _pool(2), nn.BatchNorm2d(32), activation(inplace=True))


def _features(
    layers: Sequence[nn.Module], widths: Sequence[int], strides: Sequence[int]
) -> tuple[dict[str, nn.Module], tuple[Stage, ...]]:
    """Return the layers and stages of a MobileNet."""
    stages = tuple(
        Stage(f"features.{index}", width, stride)
        for index, (width, stride) in enumerate(zip(widths, strides, strict=True))
    )
    return {"features": nn.Sequential(*layers)}, stages
