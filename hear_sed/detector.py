"""Detection: which sounds are heard when, in recordings of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from hear_core.audio.framing import CrossfadedWindows
from hear_core.audio.reading import as_waveform, read_audio
from hear_core.events.decoding import EventDecoding, decode_events
from hear_core.events.event import Event
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.plugins.frame_model import FrameModel
from hear_core.plugins.loading import load_plugin
from hear_sed.zoo import ZOO

DEFAULT_MODEL = "fmn10"
DEFAULT_RULE = EventDecoding(threshold=0.5, release=1.0, median=9)
"""What EfficientSED makes events of."""
_PIECE = 10.0  # seconds, in which EfficientSED hears


class FrameScores(NamedTuple):
    """What was heard in frames.

    Attributes:
        scores: Probability of every class, (frames, classes).
        onset: Begin of every frame in seconds, (frames,).
        offset: Its end, or that of the audio.
    """

    scores: np.ndarray
    onset: np.ndarray
    offset: np.ndarray


class Detector:
    """Detects sound events.

    Recordings longer than a window are heard in overlapping windows that fade into each other, so
    that an event that lasts across a border is one event.

    Args:
        model_name: A detector of `hear_sed.ZOO`, ``fmn10`` by default; or the path of a checkpoint
            that says which network it holds.
        device: Where to run, such as ``cpu`` or ``cuda``.
        model_file_path: Weights; the released ones if there is no path. No name is needed if the
            file says which network it holds.
        window: Seconds that are heard at a time; the networks were trained on ten.
        hop: Seconds from one window to the next, at most the window.
        pieces: Do as EfficientSED does instead: hear pieces of ten seconds that do not overlap,
            silence following the last.
        options: For `hear_core.plugins.loading.load_plugin`, such as ``engine`` or ``pretrained``.

    Attributes:
        sample_rate: Of the waveforms it takes, in Hz.
        labels: Of the classes.
        frame_hop: Seconds from one frame to the next.
        pieces: See above.
        model: What gives the logits.

    Raises:
        ConfigError: The name is unknown, or the windows leave gaps.
        CheckpointError: The weights cannot be had.
    """

    def __init__(
        self,
        model_name: str | Path | None = None,
        device: str | torch.device = "cpu",
        *,
        model_file_path: str | Path = "",
        window: float = 10.0,
        hop: float = 5.0,
        pieces: bool = False,
        **options: Any,
    ) -> None:
        if pieces:
            window = hop = _PIECE
        if model_name is None:
            model_name = ZOO.name_for(model_file_path, DEFAULT_MODEL)
        config = EmbeddingConfig(str(model_name), ("logits",), scene_window=window, scene_hop=hop)
        model = load_plugin(ZOO, config, str(model_file_path), **options).to(device)
        self.model, self.pieces = cast("FrameModel", model), pieces
        self.sample_rate, self.frame_hop = self.model.sample_rate, self.model.frame_hop
        self.labels = self.model.record.labels

    @property
    def chunks(self) -> CrossfadedWindows:
        """The windows, in frames."""
        return self.model.chunks

    def frames(
        self, audio: str | Path | np.ndarray | Tensor, sample_rate: int | None = None
    ) -> FrameScores:
        """Return the probability of every class at every frame.

        Args:
            audio: A file, or a waveform (samples,) in [-1, 1].
            sample_rate: Of the waveform; the detector's own if not given.

        Raises:
            AudioError: The file cannot be read, or the waveform is none.
        """
        if isinstance(audio, str | Path):
            waveform = read_audio(audio, self.sample_rate).numpy()
        else:
            waveform = as_waveform(audio, sample_rate or self.sample_rate, self.sample_rate)
        samples = len(waveform)
        if self.pieces:
            waveform = np.pad(waveform, (0, -samples % round(_PIECE * self.sample_rate)))
        logits = self.model.get_frames(torch.from_numpy(waveform)[None])[0].numpy()
        return self.label_times(logits[: self.model.frame_count(samples)], 0, samples)

    def detect(
        self,
        audio: str | Path | np.ndarray | Tensor,
        rule: EventDecoding | None = None,
        *,
        sample_rate: int | None = None,
    ) -> list[Event]:
        """Return the events of a recording, by onset.

        Args:
            audio: A file, or a waveform (samples,) in [-1, 1].
            rule: What makes an event; by default a probability of a half or more, in the median
                of nine frames.
            sample_rate: Of the waveform; the detector's own if not given.

        Raises:
            AudioError: The file cannot be read, or the waveform is none.
        """
        return decode_events(self.labels, rule or DEFAULT_RULE, *self.frames(audio, sample_rate))

    def log_mel(self, waveform: np.ndarray) -> np.ndarray:
        """Return what the network sees of a waveform (samples,), (n_mels, frames)."""
        return self.model.log_mel(torch.from_numpy(waveform)[None])[0].numpy()

    def label_times(self, logits: np.ndarray, first: int, samples: int) -> FrameScores:
        """Say which times frames belong to.

        Args:
            logits: (frames, classes).
            first: Index of the first of them.
            samples: Length of the audio, as far as it is known.
        """
        index = np.arange(first, first + len(logits))
        end = np.minimum((index + 1) * self.frame_hop, samples / self.sample_rate)
        scores = torch.from_numpy(logits).sigmoid().numpy()
        return FrameScores(scores, index * self.frame_hop, end)
