"""Plug-in models of clip-level networks, with one embedding per window of audio."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_core.audio.framing import Array, CentredWindows, reflect, zeros_like
from hear_core.errors import ConfigError
from hear_core.plugins.plugin_model import PluginModel, checked_blocks
from hear_core.runtime.engines import Engine


class WindowModel(PluginModel):
    """A model whose timestamp embeddings are those of windows centred on the timestamps.

    A clip up to the scene window is embedded as a whole. The scene embedding of a longer clip is
    the mean over windows of that length, centred on every multiple of the scene hop. The clip is
    extended by reflection at its ends.

    Raises:
        ConfigError: A window is too short for the extractor, or see `PluginModel`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        config = self.config
        self._timestamp_windows = self._windows(config.timestamp_window, config.timestamp_hop)
        self._scene_windows = self._windows(config.scene_window, config.scene_hop)

    def get_timestamp_embeddings(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return an embedding for every timestamp of every clip.

        It is computed from the window centred on the timestamp; the clip is extended by reflection
        at its ends. Timestamps are the multiples of the hop from 0 to the end of the clip.

        Args:
            audio: Audio (clips, samples), see `check_audio`.

        Returns:
            Embeddings (clips, timestamps, timestamp_embedding_size), and the timestamps in
            milliseconds (clips, timestamps).

        Raises:
            AudioError: `audio` is not valid.
        """
        engine, clips = self._prepare(audio)
        windows, (count, samples) = self._timestamp_windows, clips.shape
        centres = windows.centres(samples) * 1000.0 / self.sample_rate
        embeddings = zeros_like(clips, count, len(centres), self.timestamp_embedding_size)
        size = self._batch_size(windows.length, count * len(centres), engine)
        for place, found in engine.map(windows.batches(clips, size)):
            embeddings[place] = found.reshape(embeddings[place].shape)
        timestamps = torch.as_tensor(centres, dtype=torch.float32, device=audio.device)
        return torch.as_tensor(embeddings, device=audio.device), timestamps.repeat(count, 1)

    def embed_timestamp_blocks(
        self, blocks: Iterable[np.ndarray]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the embeddings of timestamps, see `PluginModel.embed_timestamp_blocks`."""
        engine, windows = self._current_engine(), self._timestamp_windows
        size = self._batch_size(windows.length, None, engine)
        clip = (block[None] for block in checked_blocks(blocks))
        for place, found in engine.map(windows.stream(clip, size)):
            centres = np.arange(place.start, place.stop) * windows.hop * 1000.0 / self.sample_rate
            yield torch.as_tensor(found), torch.as_tensor(centres, dtype=torch.float32)

    def embed_scene_blocks(self, blocks: Iterable[np.ndarray]) -> Tensor:
        """Return the scene embedding, see `PluginModel.embed_scene_blocks`."""
        engine, windows = self._current_engine(), self._scene_windows
        blocks, begin, samples = checked_blocks(blocks), list[np.ndarray](), 0
        for block in blocks:
            begin.append(block)
            samples += len(block)
            if samples > windows.length:
                break
        else:
            return torch.as_tensor(self._scenes(engine, np.concatenate(begin)[None])[0])
        size = self._batch_size(windows.length, None, engine)
        clip = (block[None] for block in itertools.chain(begin, blocks))
        del begin, block  # only the iterator holds them from here on
        found = engine.map(windows.stream(clip, size))
        sums = [(place.stop, rows.sum(0)) for place, rows in found]
        embedding, (count, _) = np.zeros(self.scene_embedding_size, np.float32), sums[-1]
        for _, part in sums:  # divided before they are added, as in `_scenes`, for the same bits
            embedding += part / count
        return torch.as_tensor(embedding)

    def _scenes(self, engine: Engine, clips: Array) -> Array:
        windows, (count, samples) = self._scene_windows, clips.shape
        embeddings = zeros_like(clips, count, self.scene_embedding_size)
        if samples <= windows.length:
            whole = reflect(clips, 0, max(samples, self.extractor.min_samples))
            size = self._batch_size(whole.shape[1], count, engine)
            parts = (slice(start, start + size) for start in range(0, count, size))
            for rows, found in engine.map((rows, whole[rows]) for rows in parts):
                embeddings[rows] = found
        else:
            per_clip = windows.count(samples)
            size = self._batch_size(windows.length, count * per_clip, engine)
            for (rows, _), found in engine.map(windows.batches(clips, size)):
                by_clip = found.reshape(rows.stop - rows.start, -1, found.shape[1])
                embeddings[rows] += by_clip.sum(1) / per_clip
        return embeddings

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
