"""The zoo of hear_mn: a table of the MobileNets of EfficientAT and the networks of PANNs.

Names, widths, resolutions and metrics are those of the releases of EfficientAT
(https://github.com/fschmid56/EfficientAT, MIT); mAP is on the AudioSet evaluation set, from the
file name if it contains one. Several checkpoints of one recipe are numbered as in the release.
`hear_core.zoo.panns` describes those of PANNs.
One checkpoint is our own and part of this package; hear_mn/weights/mn01_starter.md describes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from hear_core.frontends.log_mel import DecibelMelAndWaveform, LogMel
from hear_core.networks.backbone import Backbone
from hear_core.networks.panns import Panns
from hear_core.networks.tap_classifier import TapClassifier, plain_networks
from hear_core.plugins.module_network import ModuleTapClassifier, RawWaveform
from hear_core.zoo.checkpoints import Checkpoint
from hear_core.zoo.labels import audioset_labels
from hear_core.zoo.panns import panns_record, transfer_record
from hear_core.zoo.registry import NetworkRecord, Zoo
from hear_mn.dynamic_mobilenet import DynamicMobileNet
from hear_mn.mobilenet import MobileNet

_RELEASE = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"
_SHA256 = {
    "mn04_as_mAP_432.pt": "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
    "mn10_as_mAP_471.pt": "0bd7dc2443af498c289a2e739f02ebb515d6aa3fd3ab9db539c86123ae368a4e",
}


def _record(
    network: type[Backbone],
    file: str,
    width: float,
    mAP: float | None = None,  # noqa: N803
    **other: Any,
) -> NetworkRecord:
    """Return a record; `other` are `hop` for the front-end and arguments of the network."""
    resolution = {key: other[key] for key in ("hop", "n_mels") if key in other}
    other.pop("hop", None)
    return NetworkRecord(
        network=network,
        arguments={"width": width, **other},
        frontend=partial(LogMel, **resolution),
        labels=audioset_labels(),
        checkpoint=Checkpoint(f"{file}.pt", f"{_RELEASE}{file}.pt", _SHA256.get(f"{file}.pt")),
        reported_metrics={} if mAP is None else {"mAP": mAP},
    )


def _shipped(file: str, sha256: str, width: float) -> NetworkRecord:
    """Return a record whose weights are part of this package."""
    checkpoint = Checkpoint(file, "", sha256, package="hear_mn")
    return replace(_record(MobileNet, file, width), checkpoint=checkpoint)


_mn, _dymn = partial(_record, MobileNet), partial(_record, DynamicMobileNet)
_FC = {"head": "fully_convolutional"}
_panns = partial(panns_record, Panns)
_wavegram = partial(_panns, frontend=DecibelMelAndWaveform)


class ClipTapClassifier(TapClassifier):
    """A classifier of the embeddings of a tagger, as training on sounds of one's own makes it."""

    networks: ClassVar[Mapping[str, Callable[..., Backbone]]] = {}  # set below the zoo


# fmt: off
ZOO = Zoo({
    # Trained on AudioSet, from ImageNet weights.
    "mn01_as": _mn("mn01_as_mAP_298", 0.1, 0.298),
    "mn02_as": _mn("mn02_as_mAP_378", 0.2, 0.378),
    "mn04_as": _mn("mn04_as_mAP_432", 0.4, 0.432),
    "mn05_as": _mn("mn05_as_mAP_443", 0.5, 0.443),
    "mn10_as": _mn("mn10_as_mAP_471", 1.0, 0.471),
    "mn20_as": _mn("mn20_as_mAP_478", 2.0, 0.478),
    "mn30_as": _mn("mn30_as_mAP_482", 3.0, 0.482),
    "mn40_as": _mn("mn40_as_mAP_484", 4.0, 0.484),
    "mn40_as(2)": _mn("mn40_as_mAP_483", 4.0, 0.483),
    "mn40_as(3)": _mn("mn40_as_mAP_483(2)", 4.0, 0.483),
    # … for longer.
    "mn40_as_ext": _mn("mn40_as_ext_mAP_487", 4.0, 0.487),
    "mn40_as_ext(2)": _mn("mn40_as_ext_mAP_486", 4.0, 0.486),
    "mn40_as_ext(3)": _mn("mn40_as_ext_mAP_485", 4.0, 0.485),
    # … from random weights.
    "mn40_as_no_im_pre": _mn("mn40_as_no_im_pre_mAP_483", 4.0, 0.483),
    "mn40_as_no_im_pre(2)": _mn("mn40_as_no_im_pre_mAP_483(2)", 4.0, 0.483),
    "mn40_as_no_im_pre(3)": _mn("mn40_as_no_im_pre_mAP_482", 4.0, 0.482),
    # … on other resolutions: hop in samples, mel bands.
    "mn10_as_hop_5": _mn("mn10_as_hop_5_mAP_475", 1.0, 0.475, hop=160),
    "mn10_as_hop_15": _mn("mn10_as_hop_15_mAP_463", 1.0, 0.463, hop=480),
    "mn10_as_hop_20": _mn("mn10_as_hop_20_mAP_456", 1.0, 0.456, hop=640),
    "mn10_as_hop_25": _mn("mn10_as_hop_25_mAP_447", 1.0, 0.447, hop=800),
    "mn10_as_mels_40": _mn("mn10_as_mels_40_mAP_453", 1.0, 0.453, n_mels=40),
    "mn10_as_mels_64": _mn("mn10_as_mels_64_mAP_461", 1.0, 0.461, n_mels=64),
    "mn10_as_mels_256": _mn("mn10_as_mels_256_mAP_474", 1.0, 0.474, n_mels=256),
    # … with another head, and fewer strides.
    "mn10_as_fc": _mn("mn10_as_fc_mAP_465", 1.0, 0.465, **_FC),
    "mn10_as_fc_s2221": _mn("mn10_as_fc_s2221_mAP_466", 1.0, 0.466, **_FC, strides=(2, 2, 2, 1)),
    "mn10_as_fc_s2211": _mn("mn10_as_fc_s2211_mAP_466", 1.0, 0.466, **_FC, strides=(2, 2, 1, 1)),
    # ImageNet weights to train from; their last layer is untrained.
    "mn10_im_pytorch": _mn("mn10_im_pytorch", 1.0),
    "mn01_im": _mn("mn01_im", 0.1),
    "mn02_im": _mn("mn02_im", 0.2),
    "mn04_im": _mn("mn04_im", 0.4),
    "mn05_im": _mn("mn05_im", 0.5),
    "mn10_im": _mn("mn10_im", 1.0),
    "mn20_im": _mn("mn20_im", 2.0),
    "mn30_im": _mn("mn30_im", 3.0),
    "mn40_im": _mn("mn40_im", 4.0),
    # Our own, distilled from mn04_as on half an hour of audio, to try things with.
    "mn01_starter": _shipped(
        "mn01_starter.safetensors",
        "5e0afb0a565d5111729933cd04dbfbe6636881ab500fbbba7bfabe51ef96fde6",
        0.1,
    ),
    # Dynamic, trained on AudioSet, from ImageNet weights.
    "dymn04_as": _dymn("dymn04_as", 0.4, 0.450),
    "dymn10_as": _dymn("dymn10_as", 1.0, 0.477),
    "dymn20_as": _dymn("dymn20_as_mAP_493", 2.0, 0.493),
    "dymn20_as(1)": _dymn("dymn20_as", 2.0),
    "dymn20_as(2)": _dymn("dymn20_as_mAP_489", 2.0, 0.489),
    "dymn20_as(3)": _dymn("dymn20_as_mAP_490", 2.0, 0.490),
    # … only where a MobileNet has squeeze-and-excitation.
    "dymn04_replace_se_as": _dymn("dymn04_replace_se_as", 0.4, dynamic_blocks="replace_se"),
    "dymn10_replace_se_as": _dymn("dymn10_replace_se_as", 1.0, dynamic_blocks="replace_se"),
    # … ImageNet weights to train from; their last layer is untrained.
    "dymn04_im": _dymn("dymn04_im", 0.4),
    "dymn10_im": _dymn("dymn10_im", 1.0),
    "dymn20_im": _dymn("dymn20_im", 2.0),
    # CNN14 of PANNs, trained on AudioSet.
    "cnn14": _panns("Cnn14", 0.431),
    "cnn14_16k": _panns("Cnn14_16k", 0.438, sample_rate=16000, fmax=8000.0),
    "cnn14_8k": _panns("Cnn14_8k", 0.416, sample_rate=8000, fmax=4000.0),
    # … with a shorter embedding,
    "cnn14_emb512": _panns("Cnn14_emb512", 0.420, embedding=512),
    "cnn14_emb128": _panns("Cnn14_emb128", 0.412, embedding=128),
    "cnn14_emb32": _panns("Cnn14_emb32", 0.364, embedding=32),
    # … on other numbers of mel bands, whose weights were not released,
    "cnn14_mel32": _panns("Cnn14_mel32", n_mels=32),
    "cnn14_mel128": _panns("Cnn14_mel128", n_mels=128),
    # … with a decision for every segment of a clip; the weights of the mean were not released.
    "cnn14_max": _panns("Cnn14_DecisionLevelMax", 0.385, decision="max"),
    "cnn14_avg": _panns("Cnn14_DecisionLevelAvg", decision="avg"),
    "cnn14_att": _panns("Cnn14_DecisionLevelAtt", 0.425, decision="att"),
    # … with a spectrogram that is learned from the waveform.
    "wavegram_cnn14": _wavegram("Wavegram_Cnn14", 0.389, body="wavegram"),
    "wavegram_logmel_cnn14": _wavegram("Wavegram_Logmel_Cnn14", 0.439, body="wavegram_logmel"),
    # Other networks of PANNs.
    "cnn10": _panns("Cnn10", 0.380, body="cnn10"),
    "cnn6": _panns("Cnn6", 0.343, body="cnn6"),
    "resnet22": _panns("ResNet22", 0.430, body="resnet22"),
    "resnet38": _panns("ResNet38", 0.434, body="resnet38"),
    "resnet54": _panns("ResNet54", 0.429, body="resnet54"),
    "mobilenet_v1": _panns("MobileNetV1", 0.389, body="mobilenet_v1"),
    "mobilenet_v2": _panns("MobileNetV2", 0.383, body="mobilenet_v2"),
    # CNN14 with a new last layer, as the original's transfer learning saves it.
    "cnn14_transfer": transfer_record(_panns("Transfer_Cnn14")),
}, others=[ClipTapClassifier, ModuleTapClassifier], frontends=[RawWaveform])
# fmt: on

# All networks of the zoo, so that a new one needs no other entry.
ClipTapClassifier.networks = plain_networks(ZOO.networks)
