"""Plug-in models of frame-wise networks, with one embedding per frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_core.audio.framing import Array, CrossfadedWindows, reflect, zeros_like
from hear_core.errors import ConfigError
from hear_core.plugins.plugin_model import PluginModel
from hear_core.runtime.engines import Engine


class FrameModel(PluginModel):
    """A model whose timestamps are the frames of its network.

    Clips up to the scene window are embedded as a whole. Longer ones are embedded in overlapping
    windows of that length, one every scene hop, and the embeddings of a frame in two windows are
    crossfaded, so that there are no jumps at the borders of windows.

    Attributes:
        frame_hop: Time from one frame to the next in seconds. Frame i is centred on
            ``i * frame_hop``.
        scene_windows: Windows of the config, in frames.

    Raises:
        ConfigError: The network gives one embedding per clip; the scene window or hop is shorter
            than a frame, or the hop is longer than the window; or see `PluginModel`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.extractor.samples_per_frame is None:
            msg = f"{self.config.backbone} gives one embedding per clip and not one per frame"
            raise ConfigError(msg)
        self._samples_per_frame = self.extractor.samples_per_frame
        self.frame_hop = self._samples_per_frame / self.sample_rate
        self.scene_windows = self.windows(self.config.scene_window, self.config.scene_hop)

    def windows(self, window: float, hop: float) -> CrossfadedWindows:
        """Return crossfaded windows in frames.

        Args:
            window: Length of a window in seconds.
            hop: Time from one window to the next in seconds.

        Raises:
            ConfigError: One of them is shorter than a frame, or the hop is longer than the window.
        """
        windows = CrossfadedWindows(round(window / self.frame_hop), round(hop / self.frame_hop))
        if not 1 <= windows.hop <= windows.length:
            msg = (
                f"windows of {window} s every {hop} s do not cover the frames of {self.frame_hop} s"
            )
            raise ConfigError(msg)
        return windows

    def frame_count(self, samples: int) -> int:
        """Return the number of frames of a clip; the last one may reach beyond its end."""
        return -(-samples // self._samples_per_frame)

    def get_frames(self, audio: Tensor, windows: CrossfadedWindows | None = None) -> Tensor:
        """Return an embedding for every frame, (clips, frames, size).

        Args:
            audio: Audio (clips, samples), see `hear_core.plugins.plugin_model.check_audio`.
            windows: Windows in which long clips are embedded; `scene_windows` by default.

        Raises:
            AudioError: `audio` is not valid.
        """
        engine, clips = self._prepare(audio)
        frames = self._frames(engine, clips, windows or self.scene_windows)
        return torch.as_tensor(frames, device=audio.device)

    def get_timestamp_embeddings(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings of all frames of every clip, and the times of their centres.

        Args:
            audio: Audio (clips, samples), see `hear_core.plugins.plugin_model.check_audio`.

        Returns:
            Embeddings (clips, frames, timestamp_embedding_size), and the timestamps in milliseconds
            (clips, frames).

        Raises:
            AudioError: `audio` is not valid.
        """
        embeddings = self.get_frames(audio)
        samples = np.arange(embeddings.shape[1]) * self._samples_per_frame
        centres = samples * 1000.0 / self.sample_rate
        timestamps = torch.as_tensor(centres, dtype=torch.float32, device=audio.device)
        return embeddings, timestamps.repeat(len(embeddings), 1)

    def _scenes(self, engine: Engine, clips: Array) -> Array:
        """Return the mean of the frames of every clip."""
        # As a tensor: NumPy would add up the frames of hours one by one, and lose digits.
        return torch.as_tensor(self._frames(engine, clips, self.scene_windows)).mean(1)

    def _frames(self, engine: Engine, clips: Array, windows: CrossfadedWindows) -> Array:
        count, frames = len(clips), self.frame_count(clips.shape[1])
        padded = max(frames, self.frame_count(self.extractor.min_samples))
        clips = reflect(clips, 0, padded * self._samples_per_frame)
        starts, length = windows.starts(padded), min(windows.length, padded)
        size = self._batch_size(length * self._samples_per_frame, count * len(starts), engine)
        embeddings = zeros_like(clips, count, padded, self.extractor.size)
        fade, total = windows.fade(length), np.zeros((padded, 1), np.float32)
        for start in starts:
            total[start : start + length] += fade
        on_cpu = isinstance(clips, np.ndarray)
        for places, found in engine.map(self._cut(clips, starts, length, size)):
            for (clip, start), values in zip(places, found, strict=True):
                frame = slice(start, start + length)
                share: Array = fade / total[frame]
                if not on_cpu:
                    share = torch.as_tensor(share, device=clips.device)
                embeddings[clip, frame] += share * values
        return embeddings[:, :frames]

    def _cut(
        self, clips: Array, starts: list[int], length: int, size: int
    ) -> Iterator[tuple[list[tuple[int, int]], Array]]:
        """Yield batches of windows, each with the clip and the first frame of its windows."""
        places = [(clip, start) for clip in range(len(clips)) for start in starts]
        stack = np.stack if isinstance(clips, np.ndarray) else torch.stack
        step = self._samples_per_frame
        for first in range(0, len(places), size):
            part = places[first : first + size]
            cuts = [clips[clip, start * step : (start + length) * step] for clip, start in part]
            yield part, stack(cuts)
