"""Export of plug-in models to ONNX files, and a check of the files against the models."""

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
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_SECONDS = (0.16, 1.0, 3.7, 10.0)


class Tolerance(NamedTuple):
    """Largest distance between an exported graph and its model that passes the check."""

    relative: float  # norm of all differences over the norm of all embeddings
    cosine: float  # smallest cosine between the two embeddings of a clip
    change: float = 0.02  # largest share of first classes and of decisions that change


PRECISIONS: Mapping[str, Tolerance] = {
    "float32": Tolerance(relative=1e-4, cosine=0.999999),
    # A decision at the threshold changes with any rounding: here, one of thirty may.
    "float16": Tolerance(relative=5e-2, cosine=0.999, change=0.034),
    "int8": Tolerance(relative=1.0, cosine=0.9),
}


class Comparison(NamedTuple):
    """Comparison of a graph and its model at one length of audio.

    Attributes:
        runtime: Runtime that ran the graph.
        seconds: Length of the clips in seconds.
        clips: Number of clips.
        max_abs: Largest absolute difference.
        relative: Norm of all differences over the norm of all embeddings.
        cosine: Smallest cosine between the two embeddings of a clip.
        passed: Whether all differences are within their tolerance.
        probability: Mean absolute difference of the probability of each clip's first class; None,
            as the next two, if the outputs have no logits.
        first_class: Share of clips, or frames, whose first class changes.
        decisions: Share of decisions that change: of the classes that either of the two counts as
            present (probability at least 0.5, or the class's threshold), those that only one does.
    """

    runtime: str
    seconds: float
    clips: int
    max_abs: float
    relative: float
    cosine: float
    passed: bool
    probability: float | None = None
    first_class: float | None = None
    decisions: float | None = None


def export(
    model: PluginModel,
    path: Path,
    *,
    precision: str = "float32",
    calibration: Sequence[np.ndarray] = (),
    probabilities: bool = False,
) -> None:
    """Write a model as an ONNX file, and its labels beside it if it outputs logits.

    The input is ``waveform`` (batch, samples). The output is (batch, size), or
    (batch, frames, size) for a frame-wise model, whose samples must be a multiple of the
    ``samples_per_frame`` in the metadata. Its name is ``logits`` if they are the
    only tap, ``probabilities``, or ``embedding``.

    The metadata of the file describe it: sample rate, shortest waveform, taps and their columns,
    windows in seconds, labels and thresholds if there are logits, checkpoint and its checksum. The
    labels are also written to ``<name>.labels.json``.

    Args:
        model: Model on the CPU.
        path: ONNX file to write.
        precision: Key of `PRECISIONS`. The front-end is float32 in all of them. ``float16``
            converts the network to half precision. ``int8`` quantises it statically to 8 bits,
            but for its first layers and its last one.
        calibration: Recordings (samples,) at the model's sample rate, for ``int8``, similar to
            those that the file will be used for.
        probabilities: Whether to apply a sigmoid to the logits, which must be the only tap.

    Raises:
        ConfigError: The precision is unknown, ``int8`` has nothing to be calibrated on,
            `probabilities` has other taps than logits, or onnx is not installed.
        FileError: The file cannot be written.
    """
    if importlib.util.find_spec("onnx") is None:
        msg = "an export needs onnx: install the extra 'onnx'"
        raise ConfigError(msg)
    import onnx

    if precision not in PRECISIONS:
        raise ConfigError(unknown("precision", precision, PRECISIONS))
    if probabilities and model.extractor.taps != ("logits",):
        taps = ", ".join(model.extractor.taps)
        msg = f"probabilities need the tap logits alone, and the taps of the model are {taps}"
        raise ConfigError(msg)
    graph = extractor_to_onnx(
        model.extractor,
        half=precision == "float16",
        output=output_name(model, probabilities=probabilities),
        sigmoid=probabilities,
    )
    if precision == "int8":
        graph = _quantise(graph, calibration, _lengths(model))
    proto = onnx.load_from_string(graph)
    metadata = describe(model, precision)
    onnx.helper.set_model_props(proto, metadata)
    with atomic_write(path) as part:
        onnx.save(proto, part)
    if "labels" in metadata:
        labels = json.dumps(model.record.labels, indent=1, ensure_ascii=False)
        with atomic_write(path.with_suffix(".labels.json")) as part:
            part.write_text(labels + "\n", encoding="utf-8")


def output_name(model: PluginModel, *, probabilities: bool = False) -> str:
    """Return the name of the output of an exported model, see `export`."""
    if probabilities:
        return "probabilities"
    return "logits" if model.extractor.taps == ("logits",) else "embedding"


def describe(model: PluginModel, precision: str) -> dict[str, str]:
    """Return the metadata of an exported model; values other than strings are JSON."""
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
        if model.record.thresholds:
            found["thresholds"] = model.record.thresholds
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in found.items()}


def compare(
    path: Path,
    model: PluginModel,
    recordings: Sequence[np.ndarray],
    precision: str,
    *,
    probabilities: bool = False,
) -> Iterator[Comparison]:
    """Compare an exported file with the model run by PyTorch, in every installed runtime.

    Where the outputs have logits, the check also fails if first classes, decisions or the
    probability of the first class change by more than the tolerance, which is 2 % for int8.

    Args:
        path: Exported file.
        model: Model on the CPU.
        recordings: Recordings (samples,) at the model's sample rate, others than the file was
            calibrated with; they are cut, or extended by reflection, to several lengths.
        precision: Precision of the file, which determines the tolerance.
        probabilities: Whether the file gives probabilities.

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
            changes = _changes(model, found, expected, probabilities=probabilities)
            if probabilities:
                expected = _sigmoid(expected)
            max_abs = float(np.abs(found - expected).max())
            relative = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
            lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
            cosine = float(((found * expected).sum(-1) / lengths).min())
            passed = relative <= tolerance.relative and cosine >= tolerance.cosine
            passed = passed and all(change <= tolerance.change for change in changes)
            seconds = samples / model.sample_rate
            yield Comparison(
                runtime, seconds, len(clips), max_abs, relative, cosine, passed, *changes
            )


def _changes(
    model: PluginModel, found: np.ndarray, expected: np.ndarray, *, probabilities: bool
) -> tuple[float, ...]:
    """Return the changes of probabilities, first classes and decisions; empty without logits."""
    columns = model.extractor.slices.get("logits")
    if columns is None:
        return ()
    theirs = found if probabilities else _sigmoid(found[..., columns])
    theirs, ours = theirs.reshape(-1, theirs.shape[-1]), _sigmoid(expected[..., columns])
    ours = ours.reshape(theirs.shape)
    first, rows = ours.argmax(1), np.arange(len(ours))
    thresholds = np.full(ours.shape[1], 0.5)
    for index, label in enumerate(model.record.labels[: len(thresholds)]):
        thresholds[index] = model.record.thresholds.get(label, 0.5)
    present = ours >= thresholds, theirs >= thresholds
    either = present[0] | present[1]
    changed = (present[0] != present[1])[either]
    return (
        float(np.abs(theirs - ours)[rows, first].mean()),
        float((theirs.argmax(1) != first).mean()),
        float(changed.mean()) if changed.size else 0.0,
    )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).sigmoid().numpy()


def _lengths(model: PluginModel) -> list[int]:
    """Return the lengths in samples at which a graph is checked and calibrated."""
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

        # On some processors its default is bfloat16, which would be another model.
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.compile_model(path, "CPU", hint)
        runtimes["openvino"] = lambda clips: compiled(clips)[0]
    return runtimes


def _quantise(graph: bytes, calibration: Sequence[np.ndarray], lengths: Sequence[int]) -> bytes:
    """Return a graph whose network computes in 8 bits, but for its first and last layers."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not len(calibration):
        msg = "int8 needs recordings to calibrate on, similar to those it will be used for"
        raise ConfigError(msg)

    class Recordings(CalibrationDataReader):  # type: ignore[misc]
        """Every recording at several lengths: short windows have values that clips do not."""

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
        # The first layers have the widest range of values and few weights. An error in the last one
        # reaches the scores undamped.
        last = max(i for i, node in enumerate(nodes) if node.op_type in _PRODUCTS)
        kept = [*nodes[: convolutions[len(convolutions) // 5]], *nodes[last:]]
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
