"""Plug-ins: models with the functions and attributes that the HEAR benchmark calls.

The API is that of https://hearbenchmark.com/hear-api.html. Audio comes as a float tensor
(clips, samples) in [-1, 1] at the model's sample rate. Embeddings go back as float32 tensors on
the device that the audio came from, timestamps in milliseconds.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hear_core.analysis.activations import peak_activations
from hear_core.audio.framing import Array
from hear_core.errors import AudioError, ConfigError, unknown
from hear_core.networks.extractor import Extractor
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.runtime.engines import ENGINES, OnnxEngine, TorchEngine, onnx_available
from hear_core.zoo.registry import NetworkRecord

_LOUD = 2.0
_MEGABYTES = {"cpu": 64.0, "cuda": 2048.0}


class PluginModel(nn.Module):
    """A model as HEAR knows it; how it cuts clips is for subclasses to say.

    Args:
        extractor: From stretches of audio to embeddings.
        config: How clips are cut.
        record: The zoo's record of the backbone.
        weights: The file that its weights were read from; None if they are random.
        engine: What runs the extractor: ``torch``, ``onnx`` (ONNX Runtime, on the CPU), or
            ``auto``, which is ``onnx`` where it is installed and the model is on the CPU.
        megabytes: Memory that the activations of one batch may take; chosen by device if None.

    Attributes:
        sample_rate: Of the audio this model takes, in Hz.
        scene_embedding_size: Length of a scene embedding.
        timestamp_embedding_size: Length of a timestamp embedding.

    Raises:
        ConfigError: The engine is not to be had, or clips cannot be cut as the config says.
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
        self._wanted = engine
        self._onnx: OnnxEngine | None = None
        self.extractor, self.config, self.record, self.weights = extractor, config, record, weights
        self.sample_rate = extractor.frontend.sample_rate
        self.scene_embedding_size = self.timestamp_embedding_size = extractor.size
        self._megabytes = megabytes
        some = torch.zeros(1, max(self.sample_rate // 4, extractor.min_samples))
        self._bytes_per_sample = peak_activations(extractor, some) / some.numel()

    def get_scene_embeddings(self, audio: Tensor) -> Tensor:
        """Return one embedding a clip, (clips, scene_embedding_size).

        Args:
            audio: (clips, samples), see `check_audio`.

        Raises:
            AudioError: The audio is none.
        """
        raise NotImplementedError

    def get_timestamp_embeddings(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings over time.

        Args:
            audio: (clips, samples), see `check_audio`.

        Returns:
            Embeddings (clips, timestamps, timestamp_embedding_size), and the timestamps in
            milliseconds (clips, timestamps).

        Raises:
            AudioError: The audio is none.
        """
        raise NotImplementedError

    def log_mel(self, audio: Tensor) -> Tensor:
        """Return what the network sees of audio (clips, samples), (clips, n_mels, frames)."""
        with torch.inference_mode():
            on_device = audio.to(next(self.parameters()).device)
            return self.extractor.frontend(on_device).to(audio.device)

    def __repr__(self) -> str:
        taps = ", ".join(self.extractor.taps)
        return f"PluginModel({self.config.backbone}: {taps} -> {self.extractor.size})"

    def _choose_engine(self) -> TorchEngine | OnnxEngine:
        on_cpu = next(self.parameters()).device.type == "cpu"
        if self._wanted == "torch" or (
            self._wanted == "auto" and not (on_cpu and onnx_available())
        ):
            return TorchEngine(self.extractor)
        if self._onnx is None:
            record = self.record
            recipe = f"{record.network} {record.arguments} {record.frontend} {self.config.pooling}"
            self._onnx = OnnxEngine(self.extractor, recipe)
        return self._onnx

    def _prepare(self, audio: Tensor) -> tuple[TorchEngine | OnnxEngine, Array]:
        """Return the engine, and audio that was found good, as float32 and where it works."""
        check_audio(audio)
        engine = self._choose_engine()
        clips = audio.detach().float()
        on_cpu = isinstance(engine, OnnxEngine) or clips.device.type == "cpu"
        return engine, clips.cpu().numpy() if on_cpu else clips

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be pickled; it is made again when it is needed.
        return {**super().__getstate__(), "_onnx": None}

    def _most(self, length: int, windows: int, at_once: int) -> int:
        """Return how many windows of a length go into one batch, of so many in all."""
        device = next(self.parameters()).device.type
        megabytes = self._megabytes or _MEGABYTES.get(device, _MEGABYTES["cpu"])
        fitting = int(megabytes / at_once * 1e6 / (length * self._bytes_per_sample))
        # Where batches are run at the same time there should be some for everyone.
        share = windows if at_once == 1 else -(-windows // (2 * at_once))
        return max(1, min(fitting, share))


def check_audio(audio: Tensor) -> None:
    """Make sure that audio is what HEAR says it is.

    Raises:
        AudioError: It is not a tensor (clips, samples) of finite floating-point numbers, with at
            least one clip and one sample.

    Warns:
        UserWarning: Values lie far outside [-1, 1].
    """
    problem = None
    if not isinstance(audio, Tensor):
        problem = f"is a {type(audio).__name__}; pass a torch.Tensor, such as torch.from_numpy(x)"
    elif audio.ndim != 2:
        fix = "audio[None] makes a batch of one clip" if audio.ndim == 1 else "mix it down to mono"
        problem = f"has the shape {tuple(audio.shape)}; pass (clips, samples): {fix}"
    elif not audio.is_floating_point():
        problem = f"has the type {audio.dtype}; pass floats in [-1, 1], such as int16 / 32768"
    elif audio.numel() == 0:
        problem = f"is empty: its shape is {tuple(audio.shape)}"
    if problem:
        msg = f"audio {problem}"
        raise AudioError(msg)
    # The threads of torch would get in the way of others, see `hear_core.runtime.engines`.
    clips = audio.detach().float().numpy() if audio.device.type == "cpu" else audio.detach()
    low, high = float(clips.min()), float(clips.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = (~audio.isfinite()).any(1).nonzero().flatten().tolist()
        msg = f"audio holds NaN or infinite values, in clip {', '.join(map(str, bad[:5]))}"
        raise AudioError(msg)
    if max(-low, high) > _LOUD:
        message = f"audio goes from {low:.3g} to {high:.3g}; it should stay within [-1, 1]"
        warnings.warn(message, stacklevel=4)
