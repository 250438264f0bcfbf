"""Export of plug-in models to ONNX files that can be shipped, and the proof that they are right."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from hear_core.audio.framing import reflect
from hear_core.errors import ConfigError, unknown
from hear_core.io.files import atomic_write
from hear_core.plugins.plugin_model import PluginModel
from hear_core.runtime.onnx_graph import extractor_to_onnx
from hear_core.zoo.download import sha256_of

log = logging.getLogger(__name__)

_INT8_OPERATIONS = ["Conv", "Gemm", "MatMul", "Add", "Mul"]
_SECONDS = (0.16, 1.0, 3.7, 10.0)


class Tolerance(NamedTuple):
    """How far a graph may be from the model it was made of."""

    relative: float  # norm of all differences, over the norm of all embeddings
    cosine: float  # smallest, between the two embeddings of a clip


PRECISIONS: Mapping[str, Tolerance] = {
    "float32": Tolerance(relative=1e-4, cosine=0.999999),
    "float16": Tolerance(relative=5e-2, cosine=0.999),
    "int8": Tolerance(relative=1.0, cosine=0.9),
}


class Comparison(NamedTuple):
    """How the embeddings of a graph compare to those of the model, at one length of audio."""

    runtime: str
    seconds: float
    clips: int
    max_abs: float
    relative: float
    cosine: float
    passed: bool


def export(
    model: PluginModel,
    path: Path,
    *,
    precision: str = "float32",
    calibration: Sequence[np.ndarray] = (),
) -> None:
    """Write a model as an ONNX file: ``waveform`` (batch, samples) to ``embedding`` (batch, size).

    That of a frame-wise model is (batch, frames, size), and samples must be a multiple of the
    ``samples_per_frame`` in the metadata.

    The file says what it is in its metadata: sample rate, shortest waveform, taps and the columns
    they fill, windows in seconds, labels if there are logits, checkpoint and its checksum.

    Args:
        model: On the CPU.
        path: Of the file; it appears when it is whole.
        precision: A key of `PRECISIONS`. The front-end is float32 in all of them. ``float16``
            has the network in half precision, ``int8`` in 8 bits, by static quantisation.
        calibration: For ``int8``: recordings (samples,) at the model's rate, like those that the
            file will meet.

    Raises:
        ConfigError: The precision is unknown, or ``int8`` has nothing to be calibrated on.
    """
    import onnx

    if precision not in PRECISIONS:
        raise ConfigError(unknown("precision", precision, PRECISIONS))
    graph = extractor_to_onnx(model.extractor, half=precision == "float16")
    if precision == "int8":
        graph = _quantise(graph, calibration, _lengths(model))
    proto = onnx.load_from_string(graph)
    onnx.helper.set_model_props(proto, describe(model, precision))
    with atomic_write(path) as part:
        onnx.save(proto, part)


def describe(model: PluginModel, precision: str) -> dict[str, str]:
    """Return the metadata of an exported model; values that are no strings are JSON."""
    config, extractor = model.config, model.extractor
    found: dict[str, Any] = {
        "sample_rate": model.sample_rate,
        "min_samples": extractor.min_samples,
        "embedding_size": extractor.size,
        "taps": {tap: [s.start, s.stop] for tap, s in extractor.slices.items()},
        "pooling": config.pooling,
        "scene_window_seconds": config.scene_window,
        "scene_hop_seconds": config.scene_hop,
        "precision": precision,
        "backbone": config.backbone,
        "checkpoint": model.weights.name if model.weights else "random weights",
        "licence": model.record.checkpoint.licence,
    }
    if extractor.samples_per_frame is not None:
        found["samples_per_frame"] = extractor.samples_per_frame
    else:
        found["timestamp_window_seconds"] = config.timestamp_window
        found["timestamp_hop_seconds"] = config.timestamp_hop
    if model.weights:
        found["checkpoint_sha256"] = sha256_of(model.weights)
    logits = extractor.slices.get("logits")
    if logits is not None and logits.stop - logits.start == len(model.record.labels):
        found["labels"] = model.record.labels
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in found.items()}


def compare(
    path: Path, model: PluginModel, recordings: Sequence[np.ndarray], precision: str
) -> Iterator[Comparison]:
    """Hold an exported file against the model run by torch, in every runtime that is installed.

    Args:
        path: Of the file.
        model: On the CPU.
        recordings: (samples,) at the model's rate; they are cut, or mirrored, to several lengths.
        precision: That of the file, whose tolerance is applied.

    Yields:
        A comparison for every runtime and every length.
    """
    tolerance = PRECISIONS[precision]
    for runtime, run in _runtimes(path).items():
        for samples in _lengths(model):
            clips = np.stack([reflect(r, 0, samples) for r in recordings]).astype(np.float32)
            found = run(clips)
            with torch.inference_mode():
                expected = model.extractor(torch.from_numpy(clips)).numpy()
            max_abs = float(np.abs(found - expected).max())
            relative = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
            lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
            cosine = float(((found * expected).sum(-1) / lengths).min())
            passed = relative <= tolerance.relative and cosine >= tolerance.cosine
            yield Comparison(
                runtime, samples / model.sample_rate, len(clips), max_abs, relative, cosine, passed
            )


def _lengths(model: PluginModel) -> list[int]:
    """Return how long, in samples, the waveforms are that a graph is tried on."""
    lengths = [round(seconds * model.sample_rate) for seconds in _SECONDS]
    extractor = model.extractor
    return [extractor.accepted_length(max(n, extractor.min_samples)) for n in lengths]


def _runtimes(path: Path) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    runtimes: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        runtimes["onnxruntime"] = lambda clips: session.run(None, {"waveform": clips})[0]
    if importlib.util.find_spec("openvino"):
        import openvino  # type: ignore[import-not-found]

        # Its default on some processors is bfloat16, which is another model.
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.compile_model(path, "CPU", hint)
        runtimes["openvino"] = lambda clips: compiled(clips)[0]
    return runtimes


def _quantise(graph: bytes, calibration: Sequence[np.ndarray], lengths: Sequence[int]) -> bytes:
    """Return a graph whose network computes in 8 bits, but for its first layers."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not len(calibration):
        msg = "int8 needs recordings to calibrate on, like those that the model will meet"
        raise ConfigError(msg)

    class Recordings(CalibrationDataReader):  # type: ignore[misc]
        """Every recording at several lengths, as short windows reach values that clips do not."""

        def __init__(self) -> None:
            cuts = (reflect(r, 0, length) for length in lengths for r in calibration)
            self.left = ({"waveform": cut[None].astype(np.float32)} for cut in cuts)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    with TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "a.onnx"), os.path.join(folder, "b.onnx")  # noqa: PTH118
        quant_pre_process(onnx.load_from_string(graph), source, skip_symbolic_shape=True)
        nodes = onnx.load(source).graph.node
        convolutions = [index for index, node in enumerate(nodes) if node.op_type == "Conv"]
        # The first layers see the widest range of values, and have next to no weights.
        kept = nodes[: convolutions[len(convolutions) // 5]]
        quantize_static(
            source,
            target,
            Recordings(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=_INT8_OPERATIONS,
            nodes_to_exclude=[node.name for node in kept],
        )
        return Path(target).read_bytes()
