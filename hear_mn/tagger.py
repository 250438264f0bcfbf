"""Tagging: class scores of a clip, or of every window of a clip."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from hear_core.audio.framing import SlidingWindows, cover
from hear_core.audio.reading import resample
from hear_core.errors import ConfigError
from hear_core.events.timed_scores import TimedScores
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.plugins.loading import load_plugin
from hear_core.plugins.names import plugin_packages
from hear_core.plugins.plugin_model import PluginModel
from hear_core.plugins.timed_model import TimedModel, join_scores
from hear_core.zoo.checkpoints import checkpoint_in
from hear_core.zoo.metadata import read_metadata
from hear_core.zoo.registry import Zoo, is_checkpoint_path
from hear_mn.streaming import TagStream
from hear_mn.zoo import ZOO

log = logging.getLogger(__name__)

DEFAULT_MODEL = "mn10_as"
MAX_WINDOW = 60.0
"""Length in seconds up to which audio is processed in one piece."""
_LONG_CLIP_WINDOW = 10.0  # seconds, the length of the clips that the networks were trained on
_SHORT_CLIP = 0.1  # seconds
_BATCH_SECONDS = 600.0  # of audio in a batch of windows, which takes a few hundred megabytes


class EATagger(TimedModel):
    """A tagger of clips, or an ensemble of taggers, with the API of the class of EfficientAT.

    The scores of an ensemble are the sigmoid of the mean of its members' logits. Each member
    processes the audio with its own front-end, and at its own sample rate.

    Args:
        model_name: A backbone of `hear_mn.ZOO`, or several for an ensemble; ``mn10_as`` by default.
            The path of a checkpoint that identifies its network is a name as well, and so is the
            folder of a training run.
        device: Device to run on, such as ``cpu`` or ``cuda``.
        model_file_path: File of weights for a single backbone; the released ones by default. No
            name is needed if the file identifies its network.
        options: Options of `hear_core.plugins.loading.load_plugin`, such as ``engine`` or
            ``pretrained``.

    Attributes:
        sample_rate: Sample rate in Hz of the waveforms that the tagger takes: the highest of its
            members.
        labels: Names of the classes, in the order of the scores.
        thresholds: Score from which a class counts as present, by label, where the checkpoint has
            such thresholds.
        window: Length in seconds of the audio that the checkpoint was trained on, where it has one:
            longer audio is tagged in windows of this length. None if there is none.

    Raises:
        ConfigError: A name is unknown, the members do not have the same classes, or a checkpoint is
            that of a detector.
        CheckpointError: The weights cannot be found, downloaded or read, or do not fit.
    """

    def __init__(
        self,
        model_name: str | Path | Sequence[str | Path] | None = None,
        device: str | torch.device = "cpu",
        *,
        model_file_path: str | Path = "",
        **options: Any,
    ) -> None:
        if model_name is None:
            model_name = _name_of(model_file_path)
        given = [model_name] if isinstance(model_name, str | Path) else model_name
        names = list(map(str, given))
        if not names:
            msg = "an ensemble needs at least one model_name"
            raise ConfigError(msg)
        if model_file_path and len(names) > 1:
            msg = f"model_file_path is for one model, not for {len(names)}"
            raise ConfigError(msg)
        options["model_file_path"] = str(model_file_path)
        self._members = [_member(name, options).to(device) for name in names]
        first = self._members[0].record
        for name, member in zip(names, self._members, strict=True):
            if member.record.labels != first.labels:
                msg = f"an ensemble needs the same classes; those of {name} and {names[0]} differ"
                raise ConfigError(msg)
        self.labels, self.thresholds = first.labels, first.thresholds
        self.window = min(first.window, MAX_WINDOW) or None
        self.sample_rate = max(member.sample_rate for member in self._members)

    def tag(
        self, audio: str | Path | np.ndarray | Tensor, sample_rate: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tag a clip as a whole, as the class of EfficientAT does; see `clip`.

        Returns:
            Scores (classes,) and features (size,).
        """
        found = self.clip(audio, sample_rate)
        return found.scores[0], cast("np.ndarray", found.features)[0]

    def clip(
        self, audio: str | Path | np.ndarray | Tensor, sample_rate: int | None = None
    ) -> TimedScores:
        """Return the scores and features of a clip as a whole, in one row.

        A clip of up to `MAX_WINDOW` seconds is processed in one piece. The logits and features of
        a longer one are the means over windows of ten seconds, of which the last ends with it. If
        the tagger has a `window`, both lengths are that.

        Args:
            audio: A file, or a waveform (samples,) in [-1, 1].
            sample_rate: Sample rate of the waveform in Hz; the tagger's by default.

        Raises:
            AudioError: The file cannot be read, or the waveform is not a finite float array.
        """
        blocks = self.blocks(audio, sample_rate)
        head = [*islice(blocks, 2)]
        length = round((self.window or _LONG_CLIP_WINDOW) * self.sample_rate)
        if len(head) == 1 and (self.window is None or len(head[0]) <= length):
            if blocks.seconds < _SHORT_CLIP:
                log.warning("a clip of %.3f s is too short for reliable scores", blocks.seconds)
            found = [self._embed(head[0][None])]
        else:
            found = [self._embed(windows) for windows in cover(chain(head, blocks), length)]
        logits, features = (
            np.concatenate(values).mean(0, keepdims=True) for values in zip(*found, strict=True)
        )
        end = np.array([blocks.seconds])
        return TimedScores(self.labels, _sigmoid(logits), np.zeros(1), end, features=features)

    def tag_audio_window(
        self,
        audio: str | Path | np.ndarray | Tensor,
        window_size: float = 1.0,
        hop_length: float = 1.0,
        *,
        sample_rate: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tag every window of a clip, as the class of EfficientAT does; see `windows`.

        Returns:
            Scores (windows, classes) and features (windows, size).
        """
        found = self.windows(audio, window_size, hop_length, sample_rate=sample_rate)
        return found.scores, cast("np.ndarray", found.features)

    def windows(
        self,
        audio: str | Path | np.ndarray | Tensor,
        window_size: float = 1.0,
        hop_length: float = 1.0,
        *,
        sample_rate: int | None = None,
    ) -> TimedScores:
        """Return the scores and features of every window of a clip.

        Every window is processed in one piece. Where the last one reaches beyond the end of the
        clip, silence follows.

        Args:
            audio: A file, or a waveform (samples,) in [-1, 1].
            window_size: Length of a window in seconds, at most `MAX_WINDOW`.
            hop_length: Time from one window to the next in seconds.
            sample_rate: Sample rate of the waveform in Hz; the tagger's by default.

        Raises:
            AudioError: The file cannot be read, or the waveform is not a finite float array.
            ConfigError: The window or the hop is shorter than a sample, or the window is too long.
        """
        return join_scores(
            [*self.iter_windows(audio, window_size, hop_length, sample_rate=sample_rate)]
        )

    def iter_windows(
        self,
        audio: str | Path | np.ndarray | Tensor,
        window_size: float = 1.0,
        hop_length: float = 1.0,
        *,
        sample_rate: int | None = None,
    ) -> Iterator[TimedScores]:
        """Yield the rows of `windows` in parts, in memory that does not depend on the length."""
        stream = TagStream(self, window_size, hop_length)
        yield from stream.run(self.blocks(audio, sample_rate))

    def sliding_windows(self, window_size: float, hop_length: float) -> SlidingWindows:
        """Return windows in samples.

        Args:
            window_size: Length of a window in seconds.
            hop_length: Time from one window to the next in seconds.

        Raises:
            ConfigError: One of them is shorter than a sample, or the window is too long.
        """
        sizes = {"window_size": window_size, "hop_length": hop_length}
        for name, seconds in sizes.items():
            if not (math.isfinite(seconds) and round(seconds * self.sample_rate) > 0):
                msg = f"{name} must be longer than a sample, not {seconds} s"
                raise ConfigError(msg)
        if window_size > MAX_WINDOW:
            msg = f"window_size must be at most {MAX_WINDOW:g} s, not {window_size:g} s"
            raise ConfigError(msg)
        return SlidingWindows(*(round(seconds * self.sample_rate) for seconds in sizes.values()))

    def run(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (windows, classes) and features (windows, size).

        Args:
            windows: Windows of audio at the tagger's sample rate, (windows, samples).
        """
        logits, features = self._embed(windows)
        return _sigmoid(logits), features

    def timed_scores(
        self,
        scores: np.ndarray,
        features: np.ndarray,
        windows: SlidingWindows,
        first: int,
        samples: int,
    ) -> TimedScores:
        """Return scores with the times that they belong to.

        Where windows overlap, a row covers one hop in the middle of its window; the first row also
        covers the time before that.

        Args:
            scores: Scores (windows, classes).
            features: Features (windows, size).
            windows: Length and hop of the windows in samples.
            first: Index of the first window.
            samples: Length of the audio received so far, in samples.
        """
        start = (first + np.arange(len(scores))) * windows.hop
        margin = max(0, windows.length - windows.hop) // 2
        end = start + windows.length
        times = np.stack([np.where(start == 0, 0, start + margin), end - margin, start, end])
        onset, offset, start, end = np.minimum(times, samples) / self.sample_rate
        return TimedScores(self.labels, scores, onset, offset, start, end, features)

    def log_mel(self, waveform: np.ndarray) -> np.ndarray:
        """Return the log-mel spectrogram of the first member, (n_mels, frames).

        Args:
            waveform: Waveform (samples,) at the tagger's sample rate.
        """
        member = self._members[0]
        resampled = torch.from_numpy(resample(waveform, self.sample_rate, member.sample_rate))
        return member.log_mel(resampled[None])[0].numpy()

    def _embed(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean logits of the members, and their concatenated features."""
        logits, features = [], []
        for member in self._members:
            found = np.concatenate(
                [np.zeros((0, member.scene_embedding_size), np.float32)]
                + [self._run_member(member, part) for part in _batches(windows, self.sample_rate)]
            )
            columns = member.extractor.slices
            logits.append(found[:, columns["logits"]])
            features.append(found[:, columns[member.record.features]])
        return np.mean(logits, axis=0), np.concatenate(features, axis=1)

    def _run_member(self, member: PluginModel, windows: np.ndarray) -> np.ndarray:
        if member.sample_rate != self.sample_rate:
            rates = self.sample_rate, member.sample_rate
            windows = np.stack([resample(window, *rates) for window in windows])
        return member.get_scene_embeddings(torch.from_numpy(windows)).numpy()


def _name_of(model_file_path: str | Path) -> str:
    """Return the path of a checkpoint if it identifies its network, else the default name."""
    if not model_file_path or read_metadata(checkpoint_in(model_file_path)) is None:
        return ZOO.name_for(model_file_path, DEFAULT_MODEL)
    return str(model_file_path)


def _zoo_of(name: str) -> Zoo:
    """Return the zoo of a network: another one for classifiers of a detector's embeddings."""
    if name in ZOO or not is_checkpoint_path(name) or not read_metadata(checkpoint_in(name)):
        return ZOO
    zoos: Iterator[Zoo] = (package.ZOO for package in plugin_packages())
    return next((zoo for zoo in zoos if zoo.has_network_of(name)), ZOO)


def _member(name: str, options: dict[str, Any]) -> PluginModel:
    zoo = _zoo_of(name)
    record = zoo[name]
    if record.skeleton().framewise:
        msg = f"{name} is a detector, which classifies frames: use hear detect or hear_sed.Detector"
        raise ConfigError(msg)
    # A tagger has no timestamps; this window is one that every network accepts.
    config = EmbeddingConfig(
        name, ("logits", record.features), timestamp_window=1.0, scene_window=MAX_WINDOW
    )
    return load_plugin(zoo, config, **options)


def _batches(windows: np.ndarray, sample_rate: int) -> Iterator[np.ndarray]:
    """Yield windows in batches of at most `_BATCH_SECONDS` seconds of audio."""
    size = max(1, int(_BATCH_SECONDS * sample_rate / windows.shape[1]))
    for first in range(0, len(windows), size):
        yield windows[first : first + size]


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).sigmoid().numpy()
