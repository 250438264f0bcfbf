"""Zoo of hear_sed: a table of the released detectors, and records of other combinations.

Names, settings and metrics are those of EfficientSED (https://github.com/theMoro/EfficientSED,
MIT); `hear_core.zoo.panns` describes those of PANNs. PSDS1 is on the evaluation set of AudioSet
Strong, the mean over classes in per cent. It is published for a configuration, from which that of
the released checkpoint may differ slightly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from hear_core.events.decoding import EventDecoding
from hear_core.networks.backbone import Backbone
from hear_core.networks.tap_classifier import TapClassifier, plain_networks
from hear_core.zoo.checkpoints import Checkpoint
from hear_core.zoo.labels import audioset_labels
from hear_core.zoo.panns import panns_record
from hear_core.zoo.registry import NetworkRecord, Zoo
from hear_sed.backbones.registry import BACKBONES, find_backbone
from hear_sed.frame_detector import FrameDetector, rename_key
from hear_sed.labels import strong_labels
from hear_sed.segment_detector import SegmentDetector
from hear_sed.sequence.registry import SEQUENCE_MODELS

_EFFICIENT_SED = "https://github.com/theMoro/EfficientSED/releases/download/v0.0.1/"
_PRETRAINED_SED = "https://github.com/fschmid56/PretrainedSED/releases/download/v0.0.1/"
_UNTRAINED_HEADS = {"weak": ("strong_head",), "ssl": ("strong_head", "weak_head")}


def build_detector(
    backbone: str,
    sequence_model: str | None = None,
    dim: int = 256,
    *,
    stage: str = "strong",
    psds1: float | None = None,
    release: str = "",
    file: str = "",
    sha256: str | None = None,
    licence: str = "MIT",
    optional: tuple[str, ...] | None = None,
    **other: Any,
) -> NetworkRecord:
    """Return the record of a detector with a backbone and a sequence model.

    Args:
        backbone: A key of `hear_sed.backbones.registry.BACKBONES`.
        sequence_model: A key of `hear_sed.sequence.registry.SEQUENCE_MODELS`, or None for none.
        dim: Width of the sequence model.
        stage: Stage of training, as spelled in file names: ``weak`` (AudioSet, whole clips),
            ``strong`` (then AudioSet Strong, frames), ``ssl`` (self-supervised, without labels) or
            another. Heads that were not trained may be missing in the file.
        psds1: Published PSDS1 in per cent.
        release: URL of the folder with the file; empty if it was not released.
        file: Name of the file of weights; by default derived from the other arguments.
        sha256: Checksum of the file, where one is known.
        licence: SPDX identifier of the weights.
        optional: Layers that the file may lack; by default the heads that `stage` does not train.
        other: Arguments of `FrameDetector`.
    """
    weak, strong = stage == "weak", stage not in _UNTRAINED_HEADS
    arguments: dict[str, Any] = {"backbone": backbone, **other}
    if sequence_model is not None:
        arguments |= {"sequence_model": sequence_model, "dim": dim}
    if weak:
        arguments["weak_classes"] = len(audioset_labels())
    name = backbone if sequence_model is None else f"{backbone}+{sequence_model}-{dim}"
    file = file or f"{name}_{stage}.pt"
    part = find_backbone(backbone)
    return NetworkRecord(
        network=FrameDetector,
        arguments=arguments,
        frontend=part.frontend,
        checkpoint=Checkpoint(file, f"{release}{file}" if release else "", sha256, licence),
        constants=part.constants,
        rename=partial(rename_key, part.rename),
        optional=_UNTRAINED_HEADS.get(stage, ("weak_head",)) if optional is None else optional,
        features="sequence",
        labels=strong_labels() if strong else (),
        reported_metrics={} if psds1 is None else {"PSDS1": psds1},
    )


def compose_detector(name: str) -> NetworkRecord | None:
    """Return the record of a detector that was not released, by a name such as ``fmn10+tcn:256``.

    Returns:
        The record; None if the name is not that of a backbone, with or without ``+`` and the name
        of a sequence model, with or without ``:`` and its width.
    """
    backbone, plus, sequence_model = name.partition("+")
    sequence_model, colon, dim = sequence_model.partition(":")
    if backbone not in BACKBONES or bool(plus) != (sequence_model in SEQUENCE_MODELS):
        return None
    if colon and not (plus and dim.isascii() and dim.isdecimal()):
        return None
    return build_detector(backbone, sequence_model or None, int(dim or 256))


_released = partial(build_detector, release=_EFFICIENT_SED)


def _transformer(
    backbone: str, stage: str, psds1: float | None = None, *, licence: str = "MIT"
) -> NetworkRecord:
    """Return the record of a transformer that PretrainedSED released.

    Some of its files of the stage ``weak`` are those of the authors of the networks, which may
    lack both heads.
    """
    return build_detector(
        backbone,
        stage=stage,
        psds1=psds1,
        release=_PRETRAINED_SED,
        file=f"{backbone}_{'strong_1' if stage == 'strong' else stage}.pt",
        licence=licence,
        optional=("weak_head",) if stage == "strong" else ("strong_head", "weak_head"),
    )


# Segments are as long as the median filter of other detectors, and are not filtered.
_SEGMENTS = EventDecoding(threshold=0.5, release=1.0)


def _panns(model: str, mAP: float | None = None, **arguments: Any) -> NetworkRecord:  # noqa: N803
    record = panns_record(SegmentDetector, model, mAP, features="sequence", **arguments)
    return replace(record, decoding=_SEGMENTS)


_NTT = "LicenseRef-NTT-M2D"  # evaluation and research only, see LICENSE.pdf of nttcslab/m2d


class FrameTapClassifier(TapClassifier):
    """A classifier of the embeddings of a detector, averaged over its frames."""

    networks: ClassVar[Mapping[str, Callable[..., Backbone]]] = {}  # set below the zoo


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
    # Trained on AudioSet and AudioSet Strong together, with a transformer as teacher.
    "fmn10+tf:256_advanced_kd": _released(
        "fmn10", "tf", 256, stage="advanced-kd-weak-strong", psds1=45.25
    ),
    # The frame-wise MobileNets of PretrainedSED, trained on AudioSet Strong.
    "frame_mn06": build_detector("fmn06", release=_PRETRAINED_SED, file="frame_mn06_strong_1.pt"),
    "frame_mn10": build_detector("fmn10", release=_PRETRAINED_SED, file="frame_mn10_strong_1.pt"),
    # The transformers of PretrainedSED: trained without labels,
    "BEATs_ssl": _transformer("BEATs", "ssl"),
    "ATST-F_ssl": _transformer("ATST-F", "ssl"),
    "fpasst_ssl": _transformer("fpasst", "ssl", licence="Apache-2.0"),  # DeiT, on ImageNet
    "M2D_ssl": _transformer("M2D", "ssl", licence=_NTT),
    "ASIT_ssl": _transformer("ASIT", "ssl", licence="NOASSERTION"),  # no licence is stated
    # … then on AudioSet,
    "BEATs_weak": _transformer("BEATs", "weak"),
    "ATST-F_weak": _transformer("ATST-F", "weak"),
    "fpasst_weak": _transformer("fpasst", "weak"),
    "M2D_weak": _transformer("M2D", "weak", licence=_NTT),
    "ASIT_weak": _transformer("ASIT", "weak"),
    # … and then on AudioSet Strong.
    "BEATs": _transformer("BEATs", "strong", 46.5),
    "ATST-F": _transformer("ATST-F", "strong", 45.8),
    "fpasst": _transformer("fpasst", "strong", 45.4),
    "M2D": _transformer("M2D", "strong", 46.3, licence=_NTT),
    "ASIT": _transformer("ASIT", "strong", 46.2),
    # The networks of PANNs that decide for segments of 320 ms, trained on AudioSet; the weights of
    # the mean were not released.
    "cnn14_max": _panns("Cnn14_DecisionLevelMax", 0.385, decision="max"),
    "cnn14_avg": _panns("Cnn14_DecisionLevelAvg", decision="avg"),
    "cnn14_att": _panns("Cnn14_DecisionLevelAtt", 0.425, decision="att"),
}, compose_detector, [FrameTapClassifier])
# fmt: on

FrameTapClassifier.networks = plain_networks(ZOO.networks)
