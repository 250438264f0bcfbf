"""Plug-in models: models with the functions and attributes that the HEAR benchmark calls.

The API is that of https://hearbenchmark.com/hear-api.html. Audio is a float tensor
(clips, samples) in [-1, 1] at the model's sample rate. Embeddings are float32 tensors on the device
of the audio, timestamps are in milliseconds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hear_core.analysis.activations import peak_activations
from hear_core.audio.decoding import LOUDEST
from hear_core.audio.framing import Array
from hear_core.errors import AudioError, ConfigError, require_number, unknown
from hear_core.networks.extractor import Extractor
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.runtime.engines import (
    ENGINES,
    Engine,
    GradientEngine,
    OnnxEngine,
    TorchEngine,
    onnx_available,
)
from hear_core.runtime.weight_watch import WeightWatch
from hear_core.zoo.registry import NetworkRecord

_LOUD = 2.0
_MOST_CHANNELS, _MANY_CLIPS = 8, 1000  # a shape that is rather (samples, channels)
_MEGABYTES = {"cpu": 64.0, "cuda": 2048.0}


class PluginModel(nn.Module):
    """Base class of the models behind the HEAR API; subclasses define the windows.

    The ``get_*`` functions compute in evaluation mode, without gradients, whatever the mode of the
    model, and always with its present weights. `forward` respects ``train()`` and ``eval()``, so
    that the model can be trained like any other module.

    Args:
        extractor: Extractor from windows of audio to embeddings.
        config: Config of the embedding, with the lengths of windows.
        record: Record of the backbone in the zoo.
        weights: File that the weights were read from; None if they are random.
        engine: Engine that runs the extractor in the ``get_*`` functions: ``torch``, ``onnx`` (ONNX
            Runtime, for float32 weights on the CPU), or ``auto``, which is ``onnx`` where it is
            installed and can be used.
        megabytes: Memory budget in MB for the activations of one batch, by default 64 on CPUs and
            2048 on CUDA devices.

    Attributes:
        sample_rate: Sample rate of the audio that the model takes, in Hz.
        scene_embedding_size: Length of a scene embedding.
        timestamp_embedding_size: Length of a timestamp embedding.

    Raises:
        ConfigError: The engine is unknown or not installed, or a number is out of range.
    """

    def __init__(
        self,
        extractor: Extractor,
        config: EmbeddingConfig,
        record: NetworkRecord,
        weights: Path | None,
        *,
        engine: str = "auto",
        megabytes: float | None = None,
    ) -> None:
        super().__init__()
        if engine not in ENGINES:
            raise ConfigError(unknown("engine", engine, ENGINES))
        if engine == "onnx" and not onnx_available():
            msg = "the engine 'onnx' needs onnx and onnxruntime: install the extra 'onnx'"
            raise ConfigError(msg)
        if megabytes is not None:
            require_number("megabytes", megabytes, 0.001, 1e6)
        self._engine_choice, self._megabytes = engine, megabytes
        self._built: tuple[Engine, WeightWatch] | None = None
        self.extractor, self.config, self.record, self.weights = extractor, config, record, weights
        self.sample_rate = extractor.frontend.sample_rate
        self.scene_embedding_size = self.timestamp_embedding_size = extractor.size
        self._bytes_per_sample = self._measure_activations()
        self.eval()

    def forward(self, audio: Tensor) -> Tensor:
        """Return scene embeddings with gradients, (clips, scene_embedding_size).

        All windows go through the network in one batch, in the mode that the model is in.

        Args:
            audio: Audio (clips, samples), see `check_audio`.

        Raises:
            AudioError: `audio` is not valid.
        """
        check_audio(audio)
        device = next(self.parameters()).device
        return self._scenes(GradientEngine(self.extractor), audio.to(device).float())

    def get_scene_embeddings(self, audio: Tensor) -> Tensor:
        """Return one embedding per clip, (clips, scene_embedding_size).

        Args:
            audio: Audio (clips, samples), see `check_audio`.

        Raises:
            AudioError: `audio` is not valid.
        """
        engine, clips = self._prepare(audio)
        return torch.as_tensor(self._scenes(engine, clips), device=audio.device)

    def get_timestamp_embeddings(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings over time.

        Args:
            audio: Audio (clips, samples), see `check_audio`.

        Returns:
            Embeddings (clips, timestamps, timestamp_embedding_size), and the timestamps in
            milliseconds (clips, timestamps).

        Raises:
            AudioError: `audio` is not valid.
        """
        raise NotImplementedError

    def embed_scene_blocks(self, blocks: Iterable[np.ndarray]) -> Tensor:
        """Return the scene embedding of a recording that is read in blocks, (size,), on the CPU.

        It is that of `get_scene_embeddings` for the whole recording, up to rounding, in memory that
        does not depend on the length of the recording.

        Args:
            blocks: Float waveforms (samples,) in [-1, 1], one after another, none of them empty.

        Raises:
            AudioError: A block is not valid, see `check_audio`, or there are no blocks.
        """
        raise NotImplementedError

    def embed_timestamp_blocks(
        self, blocks: Iterable[np.ndarray]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the timestamp embeddings of a recording that is read in blocks.

        Joined, they are those of `get_timestamp_embeddings` for the whole recording, up to
        rounding. Memory does not depend on the length of the recording.

        Args:
            blocks: Float waveforms (samples,) in [-1, 1], one after another, none of them empty.

        Yields:
            Consecutive embeddings (timestamps, timestamp_embedding_size), and their timestamps in
            milliseconds (timestamps,), on the CPU.

        Raises:
            AudioError: A block is not valid, see `check_audio`, or there are no blocks.
        """
        raise NotImplementedError

    def log_mel(self, audio: Tensor) -> Tensor:
        """Return the log-mels (clips, n_mels, frames) that the network takes, of whole clips.

        Args:
            audio: Audio (clips, samples), see `check_audio`, of at least `Frontend.min_samples`.

        Raises:
            AudioError: `audio` is not valid.
        """
        check_audio(audio)
        with torch.inference_mode():
            on_device = audio.to(next(self.parameters()).device).float()
            return self.extractor.frontend(on_device).to(audio.device)

    def exportable(self) -> Extractor:
        """Return the extractor for other runtimes, see `Extractor.exportable`."""
        return self.extractor.exportable()

    def __repr__(self) -> str:
        taps = ", ".join(self.extractor.taps)
        return f"PluginModel({self.config.backbone}: {taps} -> {self.extractor.size})"

    def _scenes(self, engine: Engine, clips: Array) -> Array:
        """Return the scene embeddings of valid clips."""
        raise NotImplementedError

    def _current_engine(self) -> Engine:
        """Return an engine for the present weights; a new one if they have changed."""
        if self._built is not None:
            engine, watch = self._built
            if not watch.changed(self.extractor):  # nor their device and type, then
                return engine
        name = self._engine_name()
        watch = WeightWatch(self.extractor)
        if name == "onnx":
            record, first = self.record, self._built is None
            key = f"{record.network} {record.arguments} {record.frontend} {self.config.pooling}"
            # Weights that change in this process, as in training, are not worth a file each.
            engine = OnnxEngine(self.extractor, key if first else None)
        else:
            engine = TorchEngine(self.extractor)
        self._built = engine, watch
        return engine

    def _engine_name(self) -> str:
        """Return the engine to use for the present device and data type.

        Raises:
            ConfigError: The engine that was chosen cannot run them.
        """
        weight = next(self.extractor.backbone.parameters())
        problem = None
        if weight.device.type != "cpu":
            problem = f"runs on the CPU, and the model is on {weight.device}"
        elif weight.dtype != torch.float32:
            problem = f"runs float32 weights, and those of the model are {weight.dtype}"
        elif not self.extractor.backbone.traceable:
            problem = "runs networks that can be exported, and this one cannot"
        if self._engine_choice == "onnx" and problem:
            msg = f"the engine 'onnx' {problem}; load the model with engine='torch' or 'auto'"
            raise ConfigError(msg)
        if self._engine_choice == "auto":
            return "onnx" if onnx_available() and not problem else "torch"
        return self._engine_choice

    def _prepare(self, audio: Tensor) -> tuple[Engine, Array]:
        """Return the engine, and the checked audio as float32 on the device of the engine."""
        check_audio(audio)
        engine = self._current_engine()
        clips = audio.detach().resolve_neg().float()
        on_cpu = engine.name == "onnx" or clips.device.type == "cpu"
        return engine, clips.cpu().numpy() if on_cpu else clips

    def __getstate__(self) -> dict[str, Any]:
        # A session of ONNX Runtime cannot be pickled; it is created again when needed.
        return {**super().__getstate__(), "_built": None}

    def _measure_activations(self) -> float:
        """Return the bytes of the activations of the largest layer for each sample of a window."""
        samples = max(self.sample_rate // 4, self.extractor.min_samples)
        some = torch.zeros(1, self.extractor.accepted_length(samples))
        return peak_activations(self.extractor, some) / some.numel()

    def _batch_size(self, length: int, windows: int | None, engine: Engine) -> int:
        """Return the largest batch of windows that fits the memory budget.

        Args:
            length: Length of a window in samples.
            windows: Number of windows in all; None for a recording that is read in blocks, whose
                batches get a quarter of the budget.
            engine: Engine that runs them.
        """
        if windows is not None and not engine.splits_batches:
            return windows
        megabytes = self._megabytes or _MEGABYTES.get(engine.device_type, _MEGABYTES["cpu"])
        concurrent = engine.concurrent_batches
        fitting = int(megabytes / concurrent * 1e6 / (length * self._bytes_per_sample))
        if windows is None:
            # ONNX Runtime keeps several times the memory of a batch, and batches are read ahead.
            return max(1, fitting // 4)
        # There must be enough batches to occupy all threads that run them concurrently.
        share = windows if concurrent == 1 else -(-windows // (2 * concurrent))
        return max(1, min(fitting, share))


def checked_blocks(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the blocks of a recording as float32.

    Raises:
        AudioError: A block is not valid, see `check_audio`, or there are no blocks.
    """
    empty = True
    for block in blocks:
        check_audio(torch.as_tensor(block)[None])
        empty = False
        yield block.astype(np.float32, copy=False)
    if empty:
        msg = "the recording is empty: there are no blocks of audio"
        raise AudioError(msg)


def check_audio(audio: Tensor) -> None:
    """Check that audio has the form that the HEAR API defines.

    Raises:
        AudioError: It is not a dense tensor (clips, samples) of finite floating-point numbers, with
            at least one clip and one sample.

    Warns:
        UserWarning: Values lie far outside [-1, 1], or the shape is rather (samples, channels).
    """
    problem = None
    if not isinstance(audio, Tensor):
        problem = f"is a {type(audio).__name__}; pass a torch.Tensor, such as torch.from_numpy(x)"
    elif audio.ndim != 2:
        fix = "audio[None] makes a batch of one clip" if audio.ndim == 1 else "mix it down to mono"
        problem = f"has the shape {tuple(audio.shape)}; pass (clips, samples): {fix}"
    elif not audio.is_floating_point():
        problem = f"has the type {audio.dtype}; pass floats in [-1, 1], such as int16 / 32768"
    elif audio.layout != torch.strided:
        problem = f"is a tensor of layout {audio.layout}; pass a dense one: audio.to_dense()"
    elif audio.is_meta:
        problem = "is on the device 'meta' and has no values; pass a tensor with data"
    elif audio.numel() == 0:
        problem = f"is empty: its shape is {tuple(audio.shape)}"
    if problem:
        msg = f"audio {problem}"
        raise AudioError(msg)
    # The threads of PyTorch would slow others down, see `hear_core.runtime.engines`.
    given = audio.detach().resolve_neg()
    clips = given.float().numpy() if given.device.type == "cpu" else given
    low, high = float(clips.min()), float(clips.max())
    if math.isfinite(low) and math.isfinite(high) and max(-low, high) > LOUDEST:
        msg = f"audio goes from {low:.3g} to {high:.3g}; it must be in about [-1, 1]"
        raise AudioError(msg)
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = (~audio.isfinite()).any(1).nonzero().flatten().tolist()
        msg = f"audio holds NaN or infinite values, in clip {', '.join(map(str, bad[:5]))}"
        raise AudioError(msg)
    if max(-low, high) > _LOUD:
        message = f"audio goes from {low:.3g} to {high:.3g}; it should stay within [-1, 1]"
        warnings.warn(message, stacklevel=4)
    count, samples = audio.shape
    if samples <= _MOST_CHANNELS and count >= _MANY_CLIPS:
        message = (
            f"audio of the shape ({count}, {samples}) is taken as {count} clips of {samples} "
            "samples; if these are samples and channels, pass audio.mean(1)[None]"
        )
        warnings.warn(message, stacklevel=4)
