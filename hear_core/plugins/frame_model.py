"""Plug-in models of frame-wise networks, with one embedding per frame."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hear_core.analysis.activations import peak_activations_of_frames
from hear_core.audio.framing import Array, CrossfadedWindows, zeros_like
from hear_core.errors import ConfigError
from hear_core.plugins.plugin_model import PluginModel, checked_blocks
from hear_core.runtime.engines import Engine

Place = TypeVar("Place")


class FrameModel(PluginModel):
    """A model whose timestamps are the frames of its network.

    Clips up to the scene window are embedded as a whole. Longer ones are embedded in overlapping
    windows of that length, one every scene hop, and the embeddings of a frame in two windows are
    crossfaded, so that there are no jumps at the borders of windows.

    Attributes:
        frame_hop: Time from one frame to the next in seconds. Frame i is centred on
            ``i * frame_hop``, later by the network's `frame_centre` if it has one.
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
        self._first_centre = self.extractor.backbone.frame_centre * self.extractor.frontend.hop
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
        centres = self._centres(0, embeddings.shape[1])
        timestamps = torch.as_tensor(centres, dtype=torch.float32, device=audio.device)
        return embeddings, timestamps.repeat(len(embeddings), 1)

    def _centres(self, first: int, count: int) -> np.ndarray:
        """Return the centres of frames in milliseconds, (count,)."""
        samples = np.arange(first, first + count) * self._samples_per_frame + self._first_centre
        return samples * 1000.0 / self.sample_rate

    def _scenes(self, engine: Engine, clips: Array) -> Array:
        """Return the mean of the frames of every clip."""
        # As a tensor: NumPy would add up the frames of hours one by one, and lose digits.
        return torch.as_tensor(self._frames(engine, clips, self.scene_windows)).mean(1)

    def embed_timestamp_blocks(
        self, blocks: Iterable[np.ndarray]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the embeddings of frames, see `PluginModel.embed_timestamp_blocks`."""
        first, samples = 0, 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal samples
            for block in checked_blocks(blocks):
                samples += len(block)
                yield block

        engine, windows = self._current_engine(), self.scene_windows
        size = self._batch_size(windows.length * self._samples_per_frame, None, engine)
        chunks = self._embedded(engine, self._chunks(counted(), windows), size)
        for rows in windows.crossfade(chunks):
            # The last frames are beyond the end if the recording is shorter than the network takes.
            found = torch.as_tensor(rows[: self.frame_count(samples) - first])
            centres = self._centres(first, len(found))
            first += len(found)
            yield found, torch.as_tensor(centres, dtype=torch.float32)

    def embed_scene_blocks(self, blocks: Iterable[np.ndarray]) -> Tensor:
        """Return the mean of the frames, see `PluginModel.embed_scene_blocks`."""
        total, count = torch.zeros(self.scene_embedding_size, dtype=torch.float64), 0
        for rows, _ in self.embed_timestamp_blocks(blocks):
            total += rows.cpu().double().sum(0)
            count += len(rows)
        return (total / count).float()

    def _measure_activations(self) -> float:
        # Attention grows with the square of the length, so that it is measured on a whole window.
        frontend, extractor = self.extractor.frontend, self.extractor
        samples = round(self.config.scene_window * self.sample_rate)
        samples = extractor.accepted_length(max(samples, extractor.min_samples))
        frames = frontend.frames(samples)
        if extractor.backbone.whole_frames and extractor.samples_per_frame:
            frames = samples // frontend.hop
        found = peak_activations_of_frames(extractor.backbone, frontend.n_mels, frames)
        return found / samples

    def _frames(self, engine: Engine, clips: Array, windows: CrossfadedWindows) -> Array:
        count, frames = len(clips), self.frame_count(clips.shape[1])
        padded = max(frames, self.frame_count(self.extractor.min_samples))
        length = min(windows.length, padded) * self._samples_per_frame
        size = self._batch_size(length, count * len(windows.starts(padded)), engine)
        embeddings = zeros_like(clips, count, padded, self.extractor.size)
        chunks = (
            ((clip, start), cut)
            for clip in range(count)
            for start, cut in self._chunks([clips[clip]], windows)
        )
        found = (
            (clip, (start, values))
            for (clip, start), values in self._embedded(engine, chunks, size)
        )
        for clip, of_clip in itertools.groupby(found, itemgetter(0)):
            first = 0
            for rows in windows.crossfade(values for _, values in of_clip):
                embeddings[clip, first : first + len(rows)] = rows
                first += len(rows)
        return embeddings[:, :frames]

    def _chunks(
        self, blocks: Iterable[Array], windows: CrossfadedWindows
    ) -> Iterator[tuple[int, Array]]:
        min_frames = self.frame_count(self.extractor.min_samples)
        return windows.cut(blocks, self._samples_per_frame, min_frames)

    def _embedded(
        self, engine: Engine, chunks: Iterable[tuple[Place, Array]], size: int
    ) -> Iterator[tuple[Place, Array]]:
        """Yield the embeddings of chunks, which the engine gets in batches of `size`."""
        for places, found in engine.map(_batches(chunks, size)):
            yield from zip(places, found, strict=True)


def _batches(
    chunks: Iterable[tuple[Place, Array]], size: int
) -> Iterator[tuple[list[Place], Array]]:
    chunks = iter(chunks)
    while part := list(itertools.islice(chunks, size)):
        cuts = [cut for _, cut in part]
        stack = np.stack if isinstance(cuts[0], np.ndarray) else torch.stack
        yield [place for place, _ in part], stack(cuts)
