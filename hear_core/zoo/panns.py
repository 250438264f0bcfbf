"""Records of PANNs: released files, the network in each, and its front-end.

The files are at https://zenodo.org/record/3987831, under CC BY 4.0. Training with the original code
makes files of the same layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote

from torch import Tensor

from hear_core.frontends.log_mel import DecibelMel
from hear_core.frontends.mel_banks import slaney_mel_bank
from hear_core.networks.backbone import Backbone
from hear_core.zoo.checkpoints import Checkpoint
from hear_core.zoo.labels import audioset_labels
from hear_core.zoo.registry import NetworkRecord

_RELEASE = "https://zenodo.org/record/3987831/files/"
_AUDIOSET_LAYER = {"weight": (527, 2048), "bias": (527,)}
_SHA256 = {
    "Cnn14": "0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
    "Cnn14_16k": "e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6",
    # Seen in one project only, unlike the others.
    "Cnn14_DecisionLevelMax": "dd3b4043a87d4ec13df8082c0fcfee3fb5084151808e47e060987a95eabdd142",
}


def panns_record(
    network: Callable[..., Backbone],
    model: str,
    mAP: float | None = None,  # noqa: N803
    *,
    frontend: type[DecibelMel] = DecibelMel,
    sample_rate: int = 32000,
    n_mels: int = 64,
    fmax: float = 14000.0,
    features: str = "clf",
    **arguments: Any,
) -> NetworkRecord:
    """Return the record of a network of PANNs.

    Args:
        network: Constructor of the network.
        model: Name of its class in the original code, with which the names of its files begin.
        mAP: Published mAP on AudioSet, which is part of the file's name; None if no file was
            released.
        frontend: Class of the front-end.
        sample_rate: Sample rate in Hz; windows are 32 ms and hops 10 ms long.
        n_mels: Number of mel bands.
        fmax: Upper edge of the highest band in Hz.
        features: The tap that is the embedding.
        arguments: Arguments of the network.
    """
    window, hop = 1024 * sample_rate // 32000, sample_rate // 100
    file = f"{model}.pth" if mAP is None else f"{model}_mAP={mAP:.3f}.pth"
    url = "" if mAP is None else _RELEASE + quote(file)
    settings: dict[str, Any] = {"sample_rate": sample_rate, "n_mels": n_mels, "fmax": fmax}
    bins = window // 2 + 1
    return NetworkRecord(
        network=network,
        arguments={**arguments, **({} if n_mels == 64 else {"n_mels": n_mels})},
        frontend=partial(frontend, window=window, hop=hop, **settings),
        labels=audioset_labels(),
        checkpoint=Checkpoint(file, url, _SHA256.get(model), "CC-BY-4.0", model=model),
        constants={
            "spectrogram_extractor.stft.conv_real.weight": (bins, 1, window),
            "spectrogram_extractor.stft.conv_imag.weight": (bins, 1, window),
            "logmel_extractor.melW": (bins, n_mels),
        },
        constant_values={
            "logmel_extractor.melW": partial(_bank, n_mels, window, sample_rate, 50.0, fmax)
        },
        features=features,
        reported_metrics={} if mAP is None else {"mAP": mAP},
    )


def transfer_record(record: NetworkRecord) -> NetworkRecord:
    """Return the record of the files of Transfer_Cnn14, made from that of the network itself.

    They hold the whole network as ``base``, with its last layer for AudioSet, which is not used,
    and a last layer ``fc_transfer`` for other classes.
    """
    base_constants = {f"base.fc_audioset.{name}": shape for name, shape in _AUDIOSET_LAYER.items()}
    return replace(
        record,
        rename=_rename_transferred,
        constants={**record.constants, **base_constants},
        labels=(),
    )


def _rename_transferred(key: str) -> str:
    """Return the key of the network for a key of Transfer_Cnn14.

    >>> _rename_transferred("base.conv_block1.bn1.weight")
    'conv_block1.bn1.weight'
    >>> _rename_transferred("fc_transfer.bias")
    'fc_audioset.bias'
    """
    if key.startswith("base.fc_audioset."):
        return key
    return key.removeprefix("base.").replace("fc_transfer.", "fc_audioset.")


def _bank(*settings: Any) -> Tensor:
    return slaney_mel_bank(*settings).T
