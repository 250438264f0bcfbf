"""The zoo of hear_sed: every released detector, as a table, and rows for those that are not.

Names, settings and figures are those of EfficientSED (https://github.com/theMoro/EfficientSED,
MIT). PSDS1 is on the evaluation set of AudioSet Strong, the mean over classes in per cent; they
publish it of a setting, whose released checkpoint may differ a little.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hear_core.frontends.log_mel import LogMel
from hear_core.zoo.checkpoints import Checkpoint
from hear_core.zoo.labels import audioset_labels
from hear_core.zoo.registry import NetworkRecord, Zoo
from hear_sed.frame_detector import FrameDetector, rename
from hear_sed.labels import strong_labels

_RELEASE = "https://github.com/theMoro/EfficientSED/releases/download/v0.0.1/"
FRONTEND = partial(
    LogMel, sample_rate=16000, hop=160, window=400, n_fft=512, fmax=7000.0, floor=1e-7
)
"""The front-end of frame-wise MobileNets: 10 ms frames, of which a network makes one of four."""


def build_detector(
    backbone: str,
    sequence_model: str | None = None,
    dim: int = 256,
    *,
    stage: str = "strong",
    psds1: float | None = None,
    released: bool = False,
    **other: Any,
) -> NetworkRecord:
    """Return the row of any backbone with any sequence model.

    Args:
        backbone: A key of `hear_sed.frame_detector.BACKBONES`.
        sequence_model: A key of `hear_sed.sequence.registry.SEQUENCE_MODELS`, or None for none.
        dim: Width of the sequence model.
        stage: What it was trained on, as its file is called: ``weak`` (AudioSet, whole clips),
            ``strong`` (then AudioSet Strong, frames) or another. The head of the other kind was no
            part of that, and may be missing in the file.
        psds1: Published of it.
        released: If not, there is no URL; the file must be had.
        other: Arguments of `FrameDetector`.
    """
    weak = stage == "weak"
    arguments: dict[str, Any] = {"backbone": backbone, **other}
    if sequence_model is not None:
        arguments |= {"sequence_model": sequence_model, "dim": dim}
    if weak:
        arguments["weak_classes"] = len(audioset_labels())
    name = backbone if sequence_model is None else f"{backbone}+{sequence_model}-{dim}"
    file = f"{name}_{stage}.pt"
    return NetworkRecord(
        network=FrameDetector,
        arguments=arguments,
        frontend=FRONTEND,
        checkpoint=Checkpoint(file, f"{_RELEASE}{file}" if released else ""),
        rename=rename,
        optional=("strong_head",) if weak else ("weak_head",),
        features="sequence",
        labels=() if weak else strong_labels(),
        figures={} if psds1 is None else {"PSDS1": psds1},
    )


_released = partial(build_detector, released=True)

# fmt: off
ZOO = Zoo({
    # Trained on AudioSet; the tap `weak` is its 527 classes, `logits` are untrained.
    "fmn04_weak": _released("fmn04", stage="weak"),
    "fmn06_weak": _released("fmn06", stage="weak"),
    "fmn10_weak": _released("fmn10", stage="weak"),
    "fmn20_weak": _released("fmn20", stage="weak"),
    "fmn30_weak": _released("fmn30", stage="weak"),
    # … and then on AudioSet Strong.
    "fmn04": _released("fmn04", psds1=39.52),
    "fmn06": _released("fmn06", psds1=40.75),
    "fmn10": _released("fmn10", psds1=42.28),
    "fmn20": _released("fmn20", psds1=43.86),
    "fmn30": _released("fmn30", psds1=44.24),
    # … with a sequence model: transformer blocks,
    "fmn04+tf:104": _released("fmn04", "tf", 104, psds1=40.10),
    "fmn06+tf:160": _released("fmn06", "tf", 160, psds1=41.78),
    "fmn10+tf:128": _released("fmn10", "tf", 128, psds1=42.75),
    "fmn10+tf:256": _released("fmn10", "tf", 256, psds1=43.86),
    "fmn10+tf:512": _released("fmn10", "tf", 512, psds1=44.11),
    "fmn10+tf:1024": _released("fmn10", "tf", 1024, psds1=44.55),
    "fmn20+tf:512": _released("fmn20", "tf", 512, psds1=45.13),
    "fmn30+tf:768": _released("fmn30", "tf", 768, psds1=45.64),
    # recurrence beside attention,
    "fmn04+hybrid:104": _released("fmn04", "hybrid", 104, psds1=41.37),
    "fmn06+hybrid:160": _released("fmn06", "hybrid", 160, psds1=42.54),
    "fmn10+hybrid:128": _released("fmn10", "hybrid", 128, psds1=43.45),
    "fmn10+hybrid:256": _released("fmn10", "hybrid", 256, psds1=44.05),
    "fmn10+hybrid:512": _released("fmn10", "hybrid", 512, psds1=44.32),
    "fmn10+hybrid:1024": _released("fmn10", "hybrid", 1024, psds1=44.48),
    "fmn20+hybrid:512": _released("fmn20", "hybrid", 512, psds1=45.44),
    "fmn30+hybrid:768": _released("fmn30", "hybrid", 768, psds1=45.67),
    # a gated recurrence.
    "fmn04+gru:104": _released("fmn04", "gru", 104, psds1=40.81),
    "fmn06+gru:160": _released("fmn06", "gru", 160, psds1=40.37),
    "fmn10+gru:128": _released("fmn10", "gru", 128, psds1=43.13),
    "fmn10+gru:256": _released("fmn10", "gru", 256, psds1=43.53),
    "fmn10+gru:512": _released("fmn10", "gru", 512, psds1=43.96),
    "fmn10+gru:1024": _released("fmn10", "gru", 1024, psds1=44.50),
    "fmn20+gru:512": _released("fmn20", "gru", 512, psds1=44.94),
    "fmn30+gru:768": _released("fmn30", "gru", 768, psds1=45.77),
    # Trained on AudioSet and AudioSet Strong together, a transformer its teacher.
    "fmn10+tf:256_advanced_kd": _released(
        "fmn10", "tf", 256, stage="advanced-kd-weak-strong", psds1=45.25
    ),
})
# fmt: on
