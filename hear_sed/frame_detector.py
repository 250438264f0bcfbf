"""Detector networks: a frame-wise backbone, a sequence model and two linear heads.

From Morocutti et al., "Exploring Performance-Complexity Trade-Offs in Sound Event Detection Models"
(EUSIPCO 2025). Parameters are named as in EfficientSED.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from torch import Tensor, nn
from torch.nn import functional as F

from hear_core.errors import ConfigError, unknown
from hear_core.networks.backbone import Backbone
from hear_core.networks.taps import TapShape
from hear_sed.backbones.base import FrameBackbone
from hear_sed.backbones.registry import find_backbone
from hear_sed.sequence import registry as sequence_models


def _weak_of_mean(sequence: Tensor, strong: Tensor, head: nn.Linear) -> Tensor:
    """Return the logits of clips, computed from the mean of their frames."""
    return head(sequence.mean(1))


def _weak_by_attention(sequence: Tensor, strong: Tensor, head: nn.Linear) -> Tensor:
    """Return the logits of clips whose probabilities are weighted means over frames.

    From Wang, Li and Metze, "A Comparison of Five Multiple Instance Learning Pooling Functions"
    (ICASSP 2019), but with weights that are a softmax over classes, as in EfficientSED.
    """
    weights = head(sequence).softmax(2).clamp(1e-7, 1.0)
    probabilities = (strong.sigmoid() * weights).sum(1) / weights.sum(1)
    return probabilities.logit(1e-7)


HEADS: Mapping[str, Callable[[Tensor, Tensor, nn.Linear], Tensor]] = {
    "linear": _weak_of_mean,
    "attention": _weak_by_attention,
}
"""Functions from a sequence (batch, frames, channels), its strong logits (batch, frames, classes)
and the linear layer of the weak head to weak logits (batch, classes)."""

_HEADS_IN_FILES = re.compile(r"^(?:net|model)\.(?=seq_model\.|strong_head\.|weak_head\.)")
_AFTER_FRAMES = ("sequence", "logits", "weak")


def rename_key(backbone: Callable[[str], str], key: str) -> str:
    """Return the key of a detector for a key of a released file.

    Args:
        backbone: The renaming of the backbone's keys.
        key: A key of the file.

    >>> rename_key(str, "net.strong_head.bias")
    'strong_head.bias'
    """
    return _HEADS_IN_FILES.sub("", backbone(key))


class FrameDetector(Backbone):
    """A network that detects sound events: logits for every frame, and for the whole clip.

    Taps: those of the backbone, among them ``frames``; ``sequence``, the output of the sequence
    model, which is the same as ``frames`` without one; ``logits``, which a sigmoid turns into the
    probability of every class in every frame; ``weak``, the logits of the whole clip. All are maps
    (batch, channels, 1, frames), except ``weak``, which is (batch, weak_classes).

    Args:
        backbone: A key of `hear_sed.backbones.registry.BACKBONES`, or a network.
        sequence_model: A key of `hear_sed.sequence.registry.SEQUENCE_MODELS`, or None for none.
        dim: Width of the sequence model.
        num_classes: Number of classes of the strong head.
        weak_classes: Number of classes of the weak head, by default that of the strong head.
        head: A key of `HEADS`, the computation of ``weak`` logits from the frames of a clip.
        resized_to: Number of frames to resize every sequence to, whatever the length of its audio,
            as the original does with 250: by adaptive averaging if it is longer, and by linear
            interpolation if it is shorter. If None, sequences are not resized.

    Raises:
        ConfigError: A name is unknown, or the numbers of classes do not match.
    """

    def __init__(
        self,
        backbone: str | FrameBackbone = "fmn10",
        sequence_model: str | None = None,
        dim: int = 256,
        *,
        num_classes: int = 447,
        weak_classes: int | None = None,
        head: str = "linear",
        resized_to: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(backbone, str):
            backbone = find_backbone(backbone).make()
        if head not in HEADS:
            raise ConfigError(unknown("head", head, HEADS))
        if head == "attention" and weak_classes not in (None, num_classes):
            msg = (
                f"the head 'attention' weighs every strong class, so that weak_classes must be "
                f"{num_classes} as num_classes, not {weak_classes}"
            )
            raise ConfigError(msg)
        self.n_mels, self.head, self.resized_to = backbone.n_mels, head, resized_to
        self.frame_stride = backbone.frame_stride if resized_to is None else None
        self.min_frames, self.tap_aliases = backbone.min_frames, backbone.tap_aliases
        self.whole_frames = backbone.whole_frames
        self._source = "frames" if resized_to is None else backbone.sequence_tap
        self.model = nn.ModuleDict({backbone.kind: backbone})
        channels = backbone.channels
        self.seq_model = None
        if sequence_model is not None:
            self.seq_model = sequence_models.build_sequence_model(sequence_model, channels, dim)
            channels = self.seq_model.out_channels
        weak = num_classes if weak_classes is None else weak_classes
        self.strong_head = nn.Linear(channels, num_classes)
        self.weak_head = nn.Linear(channels, weak)
        self.class_layers = ("strong_head", *(["weak_head"] if weak_classes is None else []))
        self.tap_shapes = {
            **backbone.tap_shapes,
            "sequence": TapShape(channels, 1),
            "logits": TapShape(num_classes, 1),
            "weak": TapShape(weak),
        }
        if self._source != backbone.sequence_tap:  # it has another frame rate
            del self.tap_shapes[backbone.sequence_tap]

    @property
    def backbone(self) -> FrameBackbone:
        """The backbone, which gives the frames."""
        (backbone,) = self.model.values()
        return backbone  # type: ignore[return-value]

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        after = [tap for tap in taps if tap in _AFTER_FRAMES]
        before = {tap for tap in taps if tap not in after}
        values = self.backbone(log_mel, [*(before | {self._source} if after else before)])
        if not after:
            return values
        frames = values[self._source] if self._source in taps else values.pop(self._source)
        return values | self.detect(frames, after)

    def exportable(self, min_channels: int = 1) -> Self:
        twin = super().exportable()
        ((kind, _),) = twin.model.items()
        twin.model[kind] = self.backbone.exportable(min_channels)
        return twin

    def channelwise_chains(self) -> Sequence[Sequence[nn.Module]]:
        return self.backbone.channelwise_chains()

    def detect(self, frames: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Return the taps that follow the frames, `FrameDetector.forward` without the backbone.

        Args:
            frames: Frames of the backbone (batch, channels, 1, frames).
            taps: ``sequence``, ``logits`` or ``weak``, or several of them.
        """
        sequence = frames.squeeze(2)
        if self.resized_to is not None:
            sequence = _resized(sequence, self.resized_to)
        sequence = sequence.transpose(1, 2)
        if self.seq_model is not None:
            sequence = self.seq_model(sequence)
        values = {"sequence": _as_map(sequence)}
        if set(taps) != set(values):
            strong = self.strong_head(sequence)
            values["logits"] = _as_map(strong)
            if "weak" in taps:
                values["weak"] = HEADS[self.head](sequence, strong, self.weak_head)
        return {tap: values[tap] for tap in taps}


def _as_map(sequence: Tensor) -> Tensor:
    """Return a sequence (batch, frames, channels) as a map (batch, channels, 1, frames)."""
    return sequence.transpose(1, 2).unsqueeze(2)


def _resized(sequence: Tensor, frames: int) -> Tensor:
    """Resize (batch, channels, length) to (batch, channels, frames)."""
    if sequence.shape[2] > frames:
        return F.adaptive_avg_pool1d(sequence, frames)
    if sequence.shape[2] < frames:
        return F.interpolate(sequence, frames, mode="linear", align_corners=False)
    return sequence
