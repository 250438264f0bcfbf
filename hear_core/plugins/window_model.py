"""Plug-in models of clip taggers: every embedding is that of a window of audio."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hear_core.audio.framing import CentredWindows, reflect, zeros_like
from hear_core.errors import ConfigError
from hear_core.plugins.plugin_model import PluginModel


class WindowModel(PluginModel):
    """A model that hears a window around each timestamp, and clips in windows.

    Raises:
        ConfigError: A window is too short for the extractor, or the engine is not to be had.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        config = self.config
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
        engine, clips = self._prepare(audio)
        count, samples = clips.shape
        embeddings = zeros_like(clips, count, self.scene_embedding_size)
        if samples <= self._scenes.length:
            whole = reflect(clips, 0, max(samples, self.extractor.min_samples))
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
        engine, clips = self._prepare(audio)
        count, samples = clips.shape
        centres = self._timestamps.centres(samples) * 1000.0 / self.sample_rate
        embeddings = zeros_like(clips, count, len(centres), self.timestamp_embedding_size)
        most = self._most(self._timestamps.length, count * len(centres), engine.at_once)
        for place, found in engine.map(self._timestamps.batches(clips, most)):
            embeddings[place] = found.reshape(embeddings[place].shape)
        timestamps = torch.as_tensor(centres, dtype=torch.float32, device=audio.device)
        return torch.as_tensor(embeddings, device=audio.device), timestamps.repeat(count, 1)

    def _windows(self, length: float, hop: float) -> CentredWindows:
        windows = CentredWindows(
            round(length * self.sample_rate), max(1, round(hop * self.sample_rate))
        )
        shortest = self.extractor.min_samples
        if windows.length < shortest:
            msg = (
                f"a window of {length} s is too short for {self.config.backbone}; "
                f"it takes {shortest / self.sample_rate} s"
            )
            raise ConfigError(msg)
        return windows
