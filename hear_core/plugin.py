"""Plug-ins: models with the functions and attributes that the HEAR benchmark calls.

The API is that of https://hearbenchmark.com/hear-api.html. Audio comes as a float tensor
(clips, samples) in [-1, 1] at the model's sample rate. Embeddings go back as float32 tensors on
the device that the audio came from, timestamps in milliseconds.
"""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hear_core.complexity import peak_activations
from hear_core.configs import EmbeddingConfig
from hear_core.engine import ENGINES, OnnxEngine, TorchEngine, onnx_available
from hear_core.errors import AudioError, ConfigError, unknown
from hear_core.extractor import Extractor
from hear_core.folding import fold_batch_norms
from hear_core.framing import Array, Windows, mirrored
from hear_core.zoo import Row, Zoo

log = logging.getLogger(__name__)

_LOUD = 2.0
_MEGABYTES = {"cpu": 64.0, "cuda": 2048.0}


class PluginModel(nn.Module):
    """A model as HEAR knows it.

    Args:
        extractor: From windows of audio to embeddings.
        config: How clips are cut into windows.
        row: Of the zoo, that the backbone was made of.
        weights: The file that its weights were read from; None if they are random.
        engine: What runs the extractor: ``torch``, ``onnx`` (ONNX Runtime, on the CPU), or
            ``auto``, which is ``onnx`` where it is installed and the model is on the CPU.
        megabytes: Memory that the activations of one batch may take; chosen by device if None.

    Attributes:
        sample_rate: Of the audio this model takes, in Hz.
        scene_embedding_size: Length of a scene embedding.
        timestamp_embedding_size: Length of a timestamp embedding.

    Raises:
        ConfigError: A window is too short for the extractor, or the engine is not to be had.
    """

    def __init__(
        self,
        extractor: Extractor,
        config: EmbeddingConfig,
        row: Row,
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
        self.extractor, self.config, self.row, self.weights = extractor, config, row, weights
        self.sample_rate = extractor.frontend.sample_rate
        self.scene_embedding_size = self.timestamp_embedding_size = extractor.size
        self._megabytes = megabytes
        some = torch.zeros(1, max(self.sample_rate // 4, extractor.min_samples))
        self._bytes_per_sample = peak_activations(extractor, some) / some.numel()
        self._timestamps = self._windows(config.timestamp_window, config.timestamp_hop)
        self._scenes = self._windows(config.scene_window, config.scene_hop)

    def get_scene_embeddings(self, audio: Tensor) -> Tensor:
        """Return one embedding a clip.

        A clip up to the scene window is embedded as a whole. A longer one is the mean of windows
        of that length, centred on every multiple of the scene hop, the clip mirrored at its ends.

        Args:
            audio: (clips, samples), see `check_audio`.

        Returns:
            (clips, scene_embedding_size).

        Raises:
            AudioError: The audio is none.
        """
        engine = self._choose_engine()
        clips = _clips(audio, on_cpu=isinstance(engine, OnnxEngine))
        count, samples = clips.shape
        embeddings = _zeros(clips, count, self.scene_embedding_size)
        if samples <= self._scenes.length:
            whole = mirrored(clips, 0, max(samples, self.extractor.min_samples))
            most = self._most(whole.shape[1], count, engine.at_once)
            parts = (slice(start, start + most) for start in range(0, count, most))
            for rows, found in engine.map((rows, whole[rows]) for rows in parts):
                embeddings[rows] = found
        else:
            windows = self._scenes.count(samples)
            most = self._most(self._scenes.length, count * windows, engine.at_once)
            for (rows, _), found in engine.map(self._scenes.batches(clips, most)):
                per_clip = found.reshape(rows.stop - rows.start, -1, found.shape[1])
                embeddings[rows] += per_clip.sum(1) / windows
        return torch.as_tensor(embeddings, device=audio.device)

    def get_timestamp_embeddings(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return an embedding for every timestamp of every clip.

        Each is that of the window centred on its timestamp, the clip mirrored at its ends. The
        first timestamp is 0, and there is one for every multiple of the hop up to the end.

        Args:
            audio: (clips, samples), see `check_audio`.

        Returns:
            Embeddings (clips, timestamps, timestamp_embedding_size), and the timestamps in
            milliseconds (clips, timestamps).

        Raises:
            AudioError: The audio is none.
        """
        engine = self._choose_engine()
        clips = _clips(audio, on_cpu=isinstance(engine, OnnxEngine))
        count, samples = clips.shape
        centres = self._timestamps.centres(samples) * 1000.0 / self.sample_rate
        embeddings = _zeros(clips, count, len(centres), self.timestamp_embedding_size)
        most = self._most(self._timestamps.length, count * len(centres), engine.at_once)
        for place, found in engine.map(self._timestamps.batches(clips, most)):
            embeddings[place] = found.reshape(embeddings[place].shape)
        timestamps = torch.as_tensor(centres, dtype=torch.float32, device=audio.device)
        return torch.as_tensor(embeddings, device=audio.device), timestamps.repeat(count, 1)

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
            row = self.row
            recipe = f"{row.network} {row.arguments} {row.frontend} {self.config.pooling}"
            self._onnx = OnnxEngine(self.extractor, recipe)
        return self._onnx

    def __getstate__(self) -> dict[str, Any]:
        # A session cannot be pickled; it is made again when it is needed.
        return {**super().__getstate__(), "_onnx": None}

    def _windows(self, length: float, hop: float) -> Windows:
        windows = Windows(round(length * self.sample_rate), max(1, round(hop * self.sample_rate)))
        shortest = self.extractor.min_samples
        if windows.length < shortest:
            msg = (
                f"a window of {length} s is too short for {self.config.backbone}; "
                f"it takes {shortest / self.sample_rate} s"
            )
            raise ConfigError(msg)
        return windows

    def _most(self, length: int, windows: int, at_once: int) -> int:
        """Return how many windows of a length go into one batch, of so many in all."""
        device = next(self.parameters()).device.type
        megabytes = self._megabytes or _MEGABYTES.get(device, _MEGABYTES["cpu"])
        fitting = int(megabytes / at_once * 1e6 / (length * self._bytes_per_sample))
        # Where batches are run at the same time there should be some for everyone.
        share = windows if at_once == 1 else -(-windows // (2 * at_once))
        return max(1, min(fitting, share))


def _clips(audio: Tensor, *, on_cpu: bool) -> Array:
    """Return audio that was found good as float32: an array if on the CPU, else a tensor."""
    check_audio(audio)
    clips = audio.detach().float()
    return clips.cpu().numpy() if on_cpu or clips.device.type == "cpu" else clips


def _zeros(like: Array, *shape: int) -> Array:
    if isinstance(like, np.ndarray):
        return np.zeros(shape, np.float32)
    return torch.zeros(shape, device=like.device)


def load(
    zoo: Zoo,
    config: EmbeddingConfig,
    model_file_path: str = "",
    *,
    pretrained: bool = True,
    num_classes: int | None = None,
    engine: str = "auto",
    autocast: bool = True,
    megabytes: float | None = None,
    **overrides: Any,
) -> PluginModel:
    """Return the plug-in model of a config.

    Args:
        zoo: Where the config's backbone stands.
        config: Of the embedding.
        model_file_path: Weights for the backbone; the released ones are found or fetched if
            there is no path.
        pretrained: If False, take random weights, always the same. They are good for nothing but
            trying things, and as a control.
        num_classes: Of the checkpoint, if it is not the released one.
        engine: ``torch``, ``onnx`` or ``auto``, see `PluginModel`.
        autocast: On CUDA, run the backbone in float16, as it was trained. Elsewhere, and always
            for the front-end, it is float32.
        megabytes: Memory that the activations of one batch may take, about.
        overrides: Values of the config to replace: ``backbone``, ``taps``, ``pooling``,
            ``timestamp_window``, ``timestamp_hop``, ``scene_window``, ``scene_hop``.

    Raises:
        ConfigError: An option, a name or a value means nothing here.
        CheckpointError: The weights cannot be had, or are those of another network.
    """
    config = config.override(**overrides)
    row, weights = zoo[config.backbone], None
    if pretrained:
        weights = zoo.weights(config.backbone, model_file_path)
        network = zoo.load(config.backbone, weights, num_classes=num_classes)
    elif model_file_path:
        msg = f"pretrained=False takes no weights, but model_file_path is {model_file_path!r}"
        raise ConfigError(msg)
    else:
        log.warning("%s: the weights are random; its embeddings mean nothing", config.backbone)
        network = zoo.untrained(config.backbone, num_classes=num_classes)
    # Folded and channels-last, a MobileNet takes a third of its time on a CPU.
    fold_batch_norms(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    extractor = Extractor(row.frontend(), network, config.taps, config.pooling, autocast=autocast)
    return PluginModel(extractor, config, row, weights, engine=engine, megabytes=megabytes)


def outline(zoo: Zoo, config: EmbeddingConfig) -> Extractor:
    """Return the extractor of a config without memory for its weights, to ask for its shape."""
    row = zoo[config.backbone]
    return Extractor(row.frontend(), row.outline(), config.taps, config.pooling)


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
    # The threads of torch would get in the way of others, see `hear_core.engine`.
    clips = audio.detach().float().numpy() if audio.device.type == "cpu" else audio.detach()
    low, high = float(clips.min()), float(clips.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = (~audio.isfinite()).any(1).nonzero().flatten().tolist()
        msg = f"audio holds NaN or infinite values, in clip {', '.join(map(str, bad[:5]))}"
        raise AudioError(msg)
    if max(-low, high) > _LOUD:
        message = f"audio goes from {low:.3g} to {high:.3g}; it should stay within [-1, 1]"
        warnings.warn(message, stacklevel=4)
