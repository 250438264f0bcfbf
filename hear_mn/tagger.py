"""Tagging: the scores of all classes for a clip, or for every window of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_core.audio.framing import SlidingWindows
from hear_core.audio.reading import as_waveform, read_audio, resample
from hear_core.errors import ConfigError
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.plugins.loading import load_plugin
from hear_core.plugins.plugin_model import PluginModel
from hear_mn.zoo import ZOO

DEFAULT_MODEL = "mn10_as"
_AT_ONCE = 600.0  # seconds of audio


@dataclass(frozen=True)
class WindowTags:
    """What was heard in windows. It unpacks into scores and features.

    Attributes:
        scores: Probability of every class, (windows, classes).
        features: Embeddings, (windows, size); of an ensemble, those of its members in a row.
        start: Begin of every window in seconds, (windows,).
        end: Its end, or that of the audio.
        onset: Begin of the stretch that a window stands for: where windows overlap, a hop in its
            middle, and for the first of all, what comes before as well.
        offset: End of that stretch.
    """

    scores: np.ndarray
    features: np.ndarray
    start: np.ndarray
    end: np.ndarray
    onset: np.ndarray
    offset: np.ndarray

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.scores, self.features))

    def __len__(self) -> int:
        return 2


class EATagger:
    """A tagger of clips, or an ensemble of them.

    The scores of an ensemble are the sigmoid of the mean of its members' logits. Each member hears
    the audio through a front-end, and at a rate, of its own.

    Args:
        model_name: A backbone of `hear_mn.ZOO`, or several for an ensemble; ``mn10_as`` by default.
            The path of a checkpoint that says which network it holds is a name as well.
        device: Where to run, such as ``cpu`` or ``cuda``.
        model_file_path: Weights of a single backbone; the released ones if there is no path. No
            name is needed if the file says which network it holds.
        options: For `hear_core.plugins.loading.load_plugin`, such as ``engine`` or ``pretrained``.

    Attributes:
        sample_rate: Of the waveforms it takes, in Hz: the highest of its members.
        labels: Of the classes.

    Raises:
        ConfigError: A name is unknown, or the members do not know the same classes.
        CheckpointError: The weights cannot be had.
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
            model_name = ZOO.name_for(model_file_path, DEFAULT_MODEL)
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
        self.labels = self._members[0].record.labels
        for name, member in zip(names, self._members, strict=True):
            if member.record.labels != self.labels:
                msg = f"an ensemble needs the same classes; those of {name} and {names[0]} differ"
                raise ConfigError(msg)
        self.sample_rate = max(member.sample_rate for member in self._members)

    def tag(
        self, audio: str | Path | np.ndarray | Tensor, sample_rate: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tag a clip as a whole; more than 10 s as the mean of windows of 10 s.

        Args:
            audio: A file, or a waveform (samples,) in [-1, 1].
            sample_rate: Of the waveform; the tagger's own if not given.

        Returns:
            Scores (classes,) and features (size,).

        Raises:
            AudioError: The file cannot be read, or the waveform is none.
        """
        scores, features = self.run(self._waveform(audio, sample_rate)[None])
        return scores[0], features[0]

    def tag_audio_window(
        self,
        audio: str | Path | np.ndarray | Tensor,
        window_size: float = 1.0,
        hop_length: float = 1.0,
        *,
        sample_rate: int | None = None,
    ) -> WindowTags:
        """Tag every window of a clip. Silence follows where the last one reaches beyond its end.

        Args:
            audio: A file, or a waveform (samples,) in [-1, 1].
            window_size: In seconds.
            hop_length: From one window to the next, in seconds.
            sample_rate: Of the waveform; the tagger's own if not given.

        Raises:
            AudioError: The file cannot be read, or the waveform is none.
            ConfigError: The window or the hop is not above zero.
        """
        waveform = self._waveform(audio, sample_rate)
        steps = self.steps(window_size, hop_length)
        windows = steps.cut(waveform, 0, steps.count(len(waveform)))
        return self.label_times(*self.run(windows), steps, 0, len(waveform))

    def steps(self, window_size: float, hop_length: float) -> SlidingWindows:
        """Return windows in samples, of a length and a hop in seconds."""
        sizes = {"window_size": window_size, "hop_length": hop_length}
        for name, seconds in sizes.items():
            if not round(seconds * self.sample_rate) > 0:
                msg = f"{name} must be longer than a sample, not {seconds} s"
                raise ConfigError(msg)
        return SlidingWindows(*(round(seconds * self.sample_rate) for seconds in sizes.values()))

    def run(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and features of windows (windows, samples) at the tagger's rate."""
        logits, features = [], []
        for member in self._members:
            found = np.concatenate(
                [np.zeros((0, member.scene_embedding_size), np.float32)]
                + [self._hear(member, part) for part in _parts(windows, self.sample_rate)]
            )
            columns = member.extractor.slices
            logits.append(found[:, columns["logits"]])
            features.append(found[:, columns[member.record.features]])
        mean = torch.from_numpy(np.mean(logits, axis=0))
        return mean.sigmoid().numpy(), np.concatenate(features, axis=1)

    def log_mel(self, waveform: np.ndarray) -> np.ndarray:
        """Return what the first member sees of a waveform (samples,), (n_mels, frames)."""
        member = self._members[0]
        heard = torch.from_numpy(resample(waveform, self.sample_rate, member.sample_rate))
        return member.log_mel(heard[None])[0].numpy()

    def label_times(
        self,
        scores: np.ndarray,
        features: np.ndarray,
        steps: SlidingWindows,
        first: int,
        samples: int,
    ) -> WindowTags:
        """Say which times windows belong to.

        Args:
            scores: (windows, classes).
            features: (windows, size).
            steps: Where the windows are.
            first: Index of the first of them.
            samples: Length of the audio, as far as it is known.
        """
        start = (first + np.arange(len(scores))) * steps.hop
        margin = max(0, steps.length - steps.hop) // 2
        end = start + steps.length
        times = [start, end, np.where(start == 0, 0, start + margin), end - margin]
        seconds = (np.minimum(time, samples) / self.sample_rate for time in times)
        return WindowTags(scores, features, *seconds)

    def _hear(self, member: PluginModel, windows: np.ndarray) -> np.ndarray:
        if member.sample_rate != self.sample_rate:
            rates = self.sample_rate, member.sample_rate
            windows = np.stack([resample(window, *rates) for window in windows])
        return member.get_scene_embeddings(torch.from_numpy(windows)).numpy()

    def _waveform(
        self, audio: str | Path | np.ndarray | Tensor, sample_rate: int | None
    ) -> np.ndarray:
        if isinstance(audio, str | Path):
            return read_audio(audio, self.sample_rate).numpy()
        return as_waveform(audio, sample_rate or self.sample_rate, self.sample_rate)


def _member(name: str, options: dict[str, Any]) -> PluginModel:
    # A tagger has no use for timestamps; theirs is a window that every network takes.
    config = EmbeddingConfig(name, ("logits", ZOO[name].features), timestamp_window=1.0)
    return load_plugin(ZOO, config, **options)


def _parts(windows: np.ndarray, sample_rate: int) -> Iterator[np.ndarray]:
    """Yield windows so many at a time that a few hundred megabytes hold them."""
    at_once = max(1, int(_AT_ONCE * sample_rate / windows.shape[1]))
    for first in range(0, len(windows), at_once):
        yield windows[first : first + at_once]
