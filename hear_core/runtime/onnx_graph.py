"""ONNX graphs of extractors: waveform in, embedding out, for any batch and any length."""

from __future__ import annotations

import warnings
from io import BytesIO

import torch
from torch import nn

from hear_core.networks.extractor import Extractor

_OPSET = 17


def extractor_to_onnx(
    extractor: Extractor,
    *,
    half: bool = False,
    min_channels: int = 1,
    output: str = "embedding",
    sigmoid: bool = False,
) -> bytes:
    """Return an extractor as an ONNX model.

    Its input ``waveform`` is (batch, samples), float32, with lengths as for the extractor. Its
    output is (batch, size), or (batch, frames, size) if the extractor is frame-wise.

    Args:
        extractor: Extractor on the CPU.
        half: Convert the backbone to float16.
        min_channels: Smallest number of channels, see `Backbone.exportable`.
        output: Name of the output.
        sigmoid: Whether to apply a sigmoid to the output.
    """
    # The tracing exporter takes a thirtieth of the time of the one that PyTorch recommends, and
    # its graphs are as fast. The time matters, since graphs are made when a model is first used.
    file = BytesIO()
    network: nn.Module = extractor.exportable(half=half, min_channels=min_channels)
    if sigmoid:
        network = nn.Sequential(network, nn.Sigmoid())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 8 * extractor.min_samples),),
            file,  # type: ignore[arg-type]
            input_names=["waveform"],
            output_names=[output],
            dynamic_axes={
                "waveform": {0: "batch", 1: "samples"},
                output: {0: "batch", 1: "frames"} if extractor.framewise else {0: "batch"},
            },
            opset_version=_OPSET,
            dynamo=False,
        )
    return file.getvalue()
