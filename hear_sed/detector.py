"""Detection of sound events in recordings, with onset and offset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hear_core.audio.framing import CrossfadedWindows
from hear_core.errors import ConfigError
from hear_core.events.decoding import EventDecoding
from hear_core.events.event import Event
from hear_core.events.timed_scores import TimedScores, events_in
from hear_core.plugins.configs import EmbeddingConfig
from hear_core.plugins.frame_model import FrameModel
from hear_core.plugins.loading import load_plugin
from hear_core.plugins.timed_model import TimedModel, join_scores
from hear_sed.streaming import DetectionStream
from hear_sed.zoo import ZOO

DEFAULT_MODEL = "fmn10"
DEFAULT_DECODING = EventDecoding(threshold=0.5, release=1.0, median=9)
"""The event decoding of EfficientSED."""
_PIECE = 10.0  # seconds, as in EfficientSED


class Detector(TimedModel):
    """A detector of sound events.

    Recordings longer than a window are processed in overlapping windows that are crossfaded, so
    that an event that lasts across a border is one event.

    Args:
        model_name: A detector of `hear_sed.ZOO`, ``fmn10`` by default; or the path of a checkpoint
            that identifies its network.
        device: Device to run on, such as ``cpu`` or ``cuda``.
        model_file_path: File of weights; the released ones by default. No name is needed if the
            file identifies its network.
        window: Length of a window in seconds; the networks were trained on ten.
        hop: Time from one window to the next in seconds, at most the window.
        pieces: Process pieces of ten seconds that do not overlap, the last one padded with silence,
            as EfficientSED does.
        options: Options of `hear_core.plugins.loading.load_plugin`, such as ``engine`` or
            ``pretrained``.

    Attributes:
        sample_rate: Sample rate in Hz of the waveforms that the detector takes.
        labels: Names of the classes, in the order of the scores.
        thresholds: Score from which a class counts as present, by label, where the checkpoint has
            such thresholds.
        frame_hop: Time from one frame to the next in seconds.
        windows: Length and hop of the windows in frames.
        pieces: Whether recordings are processed in pieces.
        tuned_decoding: Event decoding of the checkpoint, without thresholds; None if it has none.
        decoding: Event decoding that is used by default: that of the checkpoint, else
            `DEFAULT_DECODING`, with the thresholds of the checkpoint.
        model: The model that gives the logits.

    Raises:
        ConfigError: The name is unknown, the windows leave gaps, or the network was not trained to
            detect events.
        CheckpointError: The weights cannot be found, downloaded or read, or do not fit.
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
        if not isinstance(model, FrameModel):
            msg = f"{model_name} classifies clips, not frames: use hear tag or hear_mn.EATagger"
            raise ConfigError(msg)
        self.model, self.pieces = model, pieces
        self.sample_rate, self.frame_hop = self.model.sample_rate, self.model.frame_hop
        self.windows = CrossfadedWindows(*(round(t / self.frame_hop) for t in (window, hop)))
        self.labels, self.thresholds = self.model.record.labels, self.model.record.thresholds
        self.tuned_decoding = self.model.record.decoding
        self.decoding = replace(
            self.tuned_decoding or DEFAULT_DECODING, thresholds=self.thresholds or None
        )
        if not self.labels:
            msg = f"{model_name} was trained to tag clips, not to detect events in them"
            raise ConfigError(msg)

    def frames(
        self, audio: str | Path | np.ndarray | Tensor, sample_rate: int | None = None
    ) -> TimedScores:
        """Return the scores of every class in every frame.

        Args:
            audio: A file, or a waveform (samples,) in [-1, 1].
            sample_rate: Sample rate of the waveform in Hz; the detector's by default.

        Raises:
            AudioError: The file cannot be read, or the waveform is not a finite float array.
        """
        return join_scores([*self.iter_frames(audio, sample_rate)])

    def iter_frames(
        self, audio: str | Path | np.ndarray | Tensor, sample_rate: int | None = None
    ) -> Iterator[TimedScores]:
        """Yield the rows of `frames` in parts, in memory that does not depend on the length."""
        yield from DetectionStream(self).run(self.blocks(audio, sample_rate))

    def detect(
        self,
        audio: str | Path | np.ndarray | Tensor,
        decoding: EventDecoding | None = None,
        *,
        sample_rate: int | None = None,
    ) -> list[Event]:
        """Return the events of a recording, by onset.

        Args:
            audio: A file, or a waveform (samples,) in [-1, 1].
            decoding: Parameters of the decoding; those of the detector by default.
            sample_rate: Sample rate of the waveform in Hz; the detector's by default.

        Raises:
            AudioError: The file cannot be read, or the waveform is not a finite float array.
        """
        parts = self.iter_frames(audio, sample_rate)
        return events_in(parts, self.labels, decoding or self.decoding)

    def log_mel(self, waveform: np.ndarray) -> np.ndarray:
        """Return the log-mel spectrogram that the network sees, (n_mels, frames).

        Args:
            waveform: Waveform (samples,) at the detector's sample rate.
        """
        return self.model.log_mel(torch.from_numpy(waveform)[None])[0].numpy()

    def timed_scores(self, logits: np.ndarray, first: int, samples: int) -> TimedScores:
        """Return the scores of frames, with the times that they belong to.

        Args:
            logits: Logits of the frames, (frames, classes).
            first: Index of the first frame.
            samples: Length of the audio received so far in samples; no frame extends beyond it.
        """
        index = np.arange(first, first + len(logits))
        end = np.minimum((index + 1) * self.frame_hop, samples / self.sample_rate)
        scores = torch.from_numpy(logits).sigmoid().numpy()
        return TimedScores(self.labels, scores, index * self.frame_hop, end)
