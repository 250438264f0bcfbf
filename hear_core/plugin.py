"""Plug-ins: models with the functions and attributes that the HEAR benchmark calls.

The API is that of https://hearbenchmark.com/hear-api.html. Audio comes as a float tensor
(clips, samples) in [-1, 1] at the model's sample rate. Embeddings go back as float32 tensors on
the device that the audio came from, timestamps in milliseconds.
"""

from __future__ import annotations

import logging
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from hear_core.complexity import peak_activations
from hear_core.configs import EmbeddingConfig
from hear_core.errors import AudioError, ConfigError
from hear_core.extractor import Extractor
from hear_core.folding import fold_batch_norms
from hear_core.framing import Windows, mirrored
from hear_core.zoo import Zoo

log = logging.getLogger(__name__)

_LOUD = 2.0
_MEGABYTES = {"cpu": 64.0, "cuda": 2048.0}


class PluginModel(nn.Module):
    """A model as HEAR knows it.

    Args:
        extractor: From windows of audio to embeddings.
        config: How clips are cut into windows.
        megabytes: Memory that the activations of one batch may take; chosen by device if None.

    Attributes:
        sample_rate: Of the audio this model takes, in Hz.
        scene_embedding_size: Length of a scene embedding.
        timestamp_embedding_size: Length of a timestamp embedding.

    Raises:
        ConfigError: A window is too short for the front-end.
    """

    def __init__(
        self,
        extractor: Extractor,
        config: EmbeddingConfig,
        megabytes: float | None = None,
    ) -> None:
        super().__init__()
        self.extractor, self.config = extractor, config
        self.sample_rate = extractor.frontend.sample_rate
        self.scene_embedding_size = self.timestamp_embedding_size = extractor.size
        self._megabytes = megabytes
        quarter = torch.zeros(1, self.sample_rate // 4)
        self._bytes_per_sample = peak_activations(extractor, quarter) / quarter.numel()
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
        check_audio(audio)
        clips, samples = audio.shape
        embeddings = torch.zeros(clips, self.scene_embedding_size, device=audio.device)
        with torch.inference_mode():
            if samples <= self._scenes.length:
                whole = mirrored(audio, 0, max(samples, self.extractor.frontend.min_samples))
                most = self._most(whole.shape[1])
                for start in range(0, clips, most):
                    rows = slice(start, start + most)
                    embeddings[rows] = self._embed(whole[rows])
            else:
                most = self._most(self._scenes.length)
                for rows, _, windows in self._scenes.batches(audio, most):
                    embeddings[rows] += self._embed(windows).unflatten(0, _grid(rows)).sum(1)
                embeddings /= self._scenes.count(samples)
        return embeddings

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
        check_audio(audio)
        clips, samples = audio.shape
        centres = self._timestamps.centres(samples).double() * 1000 / self.sample_rate
        timestamps = centres.float().to(audio.device).repeat(clips, 1)
        size = (*timestamps.shape, self.timestamp_embedding_size)
        embeddings = torch.empty(size, device=audio.device)
        with torch.inference_mode():
            most = self._most(self._timestamps.length)
            for rows, columns, windows in self._timestamps.batches(audio, most):
                embeddings[rows, columns] = self._embed(windows).unflatten(0, _grid(rows))
        return embeddings, timestamps

    def __repr__(self) -> str:
        taps = ", ".join(self.extractor.taps)
        return f"PluginModel({self.config.backbone}: {taps} -> {self.extractor.size})"

    def _embed(self, windows: Tensor) -> Tensor:
        device = next(self.parameters()).device
        return self.extractor(windows.to(device, torch.float32)).to(windows.device)

    def _windows(self, length: float, hop: float) -> Windows:
        windows = Windows(round(length * self.sample_rate), max(1, round(hop * self.sample_rate)))
        shortest = self.extractor.frontend.min_samples
        if windows.length < shortest:
            msg = f"a window of {length} s is too short; it takes {shortest / self.sample_rate} s"
            raise ConfigError(msg)
        return windows

    def _most(self, length: int) -> int:
        """Return how many windows of a length go into one batch."""
        device = next(self.parameters()).device.type
        megabytes = self._megabytes or _MEGABYTES.get(device, _MEGABYTES["cpu"])
        return max(1, int(megabytes * 1e6 / (length * self._bytes_per_sample)))


def _grid(rows: slice) -> tuple[int, int]:
    return rows.stop - rows.start, -1


def load(
    zoo: Zoo,
    config: EmbeddingConfig,
    model_file_path: str = "",
    *,
    pretrained: bool = True,
    num_classes: int | None = None,
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
    row = zoo[config.backbone]
    if pretrained:
        network = zoo.load(config.backbone, model_file_path, num_classes=num_classes)
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
    return PluginModel(extractor, config, megabytes)


def outline(zoo: Zoo, config: EmbeddingConfig) -> Extractor:
    """Return the extractor of a config without memory for its weights, to ask for its shape."""
    row = zoo[config.backbone]
    return Extractor(row.frontend().to("meta"), row.outline(), config.taps, config.pooling)


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
    else:
        low, high = (value.item() for value in torch.aminmax(audio.detach()))
        if not (math.isfinite(low) and math.isfinite(high)):
            bad = (~audio.isfinite()).any(1).nonzero().flatten().tolist()
            problem = f"holds NaN or infinite values, in clip {', '.join(map(str, bad[:5]))}"
        elif max(-low, high) > _LOUD:
            message = f"audio goes from {low:.3g} to {high:.3g}; it should stay within [-1, 1]"
            warnings.warn(message, stacklevel=3)
    if problem:
        msg = f"audio {problem}"
        raise AudioError(msg)
