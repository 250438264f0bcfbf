"""Plug-in models of networks that hear frame by frame: an embedding is that of a frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_core.audio.framing import Array, CrossfadedWindows, reflect, zeros_like
from hear_core.errors import ConfigError
from hear_core.plugins.plugin_model import PluginModel


class FrameModel(PluginModel):
    """A model whose timestamps are the frames of its network.

    Clips up to the scene window are heard as a whole. Longer ones are heard in overlapping chunks
    of that length, begun every scene hop, and what two chunks say of a frame is faded from one
    into the other, so that no border is heard.

    Attributes:
        frame_hop: Seconds from one frame to the next. Frame i is centred on i times as much.

    Raises:
        ConfigError: The scene window or hop is shorter than a frame, or the hop is longer than
            the window; or the engine is not to be had.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._per_frame = self.extractor.samples_per_frame or 1
        self.frame_hop = self._per_frame / self.sample_rate
        self.chunks = self.chunking(self.config.scene_window, self.config.scene_hop)

    def chunking(self, window: float, hop: float) -> CrossfadedWindows:
        """Return chunks in frames, of a length and a hop in seconds.

        Raises:
            ConfigError: One of them is shorter than a frame, or the hop is the longer one.
        """
        chunks = CrossfadedWindows(round(window / self.frame_hop), round(hop / self.frame_hop))
        if not 1 <= chunks.hop <= chunks.length:
            msg = (
                f"chunks of {window} s every {hop} s do not cover the frames of {self.frame_hop} s"
            )
            raise ConfigError(msg)
        return chunks

    def frame_count(self, samples: int) -> int:
        """Return how many frames a clip has; the last may reach beyond its end."""
        return -(-samples // self._per_frame)

    def get_frames(self, audio: Tensor, chunks: CrossfadedWindows | None = None) -> Tensor:
        """Return an embedding for every frame, (clips, frames, size).

        Args:
            audio: (clips, samples), see `hear_core.plugins.plugin_model.check_audio`.
            chunks: In which long clips are heard; those of the config if not given.

        Raises:
            AudioError: The audio is none.
        """
        engine, clips = self._prepare(audio)
        chunks = chunks or self.chunks
        count, frames = len(clips), self.frame_count(clips.shape[1])
        heard = max(frames, self.frame_count(self.extractor.min_samples))
        clips = reflect(clips, 0, heard * self._per_frame)
        starts, length = chunks.starts(heard), min(chunks.length, heard)
        most = self._most(length * self._per_frame, count * len(starts), engine.at_once)
        embeddings = zeros_like(clips, count, heard, self.extractor.size)
        fade, total = chunks.fade(length), np.zeros((heard, 1), np.float32)
        for start in starts:
            total[start : start + length] += fade
        on_cpu = isinstance(clips, np.ndarray)
        for places, found in engine.map(self._cut(clips, starts, length, most)):
            for (clip, start), values in zip(places, found, strict=True):
                frame = slice(start, start + length)
                share: Array = fade / total[frame]
                if not on_cpu:
                    share = torch.as_tensor(share, device=clips.device)
                embeddings[clip, frame] += share * values
        return torch.as_tensor(embeddings, device=audio.device)[:, :frames]

    def get_scene_embeddings(self, audio: Tensor) -> Tensor:
        """Return one embedding a clip, the mean of its frames, (clips, scene_embedding_size).

        Args:
            audio: (clips, samples), see `hear_core.plugins.plugin_model.check_audio`.

        Raises:
            AudioError: The audio is none.
        """
        return self.get_frames(audio).mean(1)

    def get_timestamp_embeddings(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames of every clip, and the milliseconds that they are centred on.

        Args:
            audio: (clips, samples), see `hear_core.plugins.plugin_model.check_audio`.

        Returns:
            Embeddings (clips, frames, timestamp_embedding_size), timestamps (clips, frames).

        Raises:
            AudioError: The audio is none.
        """
        embeddings = self.get_frames(audio)
        centres = np.arange(embeddings.shape[1]) * self._per_frame * 1000.0 / self.sample_rate
        timestamps = torch.as_tensor(centres, dtype=torch.float32, device=audio.device)
        return embeddings, timestamps.repeat(len(embeddings), 1)

    def _cut(
        self, clips: Array, starts: list[int], length: int, most: int
    ) -> Iterator[tuple[list[tuple[int, int]], Array]]:
        """Yield which clip and first frame the chunks of a batch have, and the batch."""
        places = [(clip, start) for clip in range(len(clips)) for start in starts]
        stack = np.stack if isinstance(clips, np.ndarray) else torch.stack
        for first in range(0, len(places), most):
            part = places[first : first + most]
            cuts = [
                clips[clip, start * self._per_frame : (start + length) * self._per_frame]
                for clip, start in part
            ]
            yield part, stack(cuts)
