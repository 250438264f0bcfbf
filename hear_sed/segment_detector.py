"""Detectors of PANNs: networks that decide for every segment of 32 frames, 320 ms.

From Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern
Recognition" (TASLP 2020), the networks Cnn14_DecisionLevelMax, Avg and Att. They were trained on
whole clips, and so the classes are those of AudioSet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from hear_core.errors import ConfigError
from hear_core.networks.panns import DECISIONS, Panns

_NAMES: Mapping[str, str] = {"sequence": "clf", "logits": "segments", "weak": "logits"}


class SegmentDetector(Panns):
    """A network of PANNs that gives its decisions for segments instead of one for the clip.

    Taps: the maps ``b1``, ``b2`` and so on of the body; ``sequence``, the hidden layer of every
    segment; ``logits``, which a sigmoid turns into the probability of every class in every segment;
    ``weak``, the logits of the whole clip. All are maps (batch, channels, 1, segments), except
    ``weak``, which is (batch, num_classes).

    Args:
        body: A key of `hear_core.networks.panns.BODIES`.
        num_classes: Number of classes.
        n_mels: Mel bands of the input.
        embedding: Length of the hidden layer; that of the body by default.
        decision: Computation of ``weak`` from the segments: ``max``, ``avg`` or ``att``.

    Raises:
        ConfigError: The body or the decision is unknown, or the decision is for whole clips.
    """

    whole_frames = False  # the last frame, centred on the end of the waveform, counts as well

    def __init__(
        self,
        body: str = "cnn14",
        *,
        num_classes: int = 527,
        n_mels: int = 64,
        embedding: int | None = None,
        decision: str = "att",
    ) -> None:
        super().__init__(
            body,
            num_classes=num_classes,
            n_mels=n_mels,
            embedding=embedding,
            decision=decision,
        )
        if decision == "clip":
            msg = f"a detector decides for segments ({', '.join(DECISIONS[1:])}), not for the clip"
            raise ConfigError(msg)
        self.frame_stride = self.min_frames
        self.frame_centre = (self.min_frames - 1) / 2  # a segment is a mean of its frames
        shapes = {name: self.tap_shapes[tap] for name, tap in _NAMES.items()}
        maps = {name: shape for name, shape in self.tap_shapes.items() if name.startswith("b")}
        self.tap_shapes = {**maps, **shapes}
        self.tap_aliases = {"embedding": ("sequence",), "l": ("logits",)}

    def forward(self, log_mel: Tensor, taps: Sequence[str] = ("logits",)) -> dict[str, Tensor]:
        values = super().forward(log_mel, [_NAMES.get(tap, tap) for tap in taps])
        return {tap: values[_NAMES.get(tap, tap)] for tap in taps}
