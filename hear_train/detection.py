"""Evaluation of detectors: scores of frames, events, metrics, and thresholds of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hear_core.errors import AudioError, ConfigError, unknown
from hear_core.events.decoding import EventDecoding
from hear_core.events.event import Event
from hear_core.events.smoothing import MedianFilter
from hear_core.events.timed_scores import ScoredRecording, TimedScores
from hear_core.frontends.log_mel import Frontend
from hear_core.io.prefetch import prefetch
from hear_core.metrics.events import EventArrays, Matching, match_events
from hear_core.metrics.psds import PSDS1, PSDS2, psds
from hear_core.metrics.ranking import average_precisions
from hear_core.metrics.registry import METRICS
from hear_core.metrics.segments import segment_area_under_roc
from hear_core.networks.backbone import Backbone
from hear_train.data.clips import Clips
from hear_train.data.encoding import encode_events
from hear_train.evaluation import EvaluationConfig

NEAR_ONSETS = Matching(0.2)
"""Matching of events that is reported and tuned for: onsets within 200 ms."""


@dataclass(frozen=True)
class DetectionPredictions:
    """Scores of a detector for recordings, with the events in them.

    Args:
        names: Names of the recordings.
        labels: Names of the classes.
        scores: Scores of the frames of every recording in [0, 1], (frames, classes), float32.
        samples_per_frame: Samples from one frame to the next.
        sample_rate: Sample rate in Hz.
        seconds: Length of every recording in seconds.
        events: Class, onset and offset in seconds of the annotated events, (events, 3).
        failed: Reasons why recordings could not be read, by name; they are in no other part.
        decoding: Decoding of the events.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    scores: tuple[np.ndarray, ...]
    samples_per_frame: int
    sample_rate: int
    seconds: tuple[float, ...]
    events: tuple[np.ndarray, ...]
    failed: Mapping[str, str]
    decoding: EventDecoding

    @property
    def frame_hop(self) -> float:
        """Time from one frame to the next in seconds."""
        return self.samples_per_frame / self.sample_rate

    def timed_scores(self, index: int) -> TimedScores:
        """Return the scores of a recording with the times of its frames."""
        onset = np.arange(len(self.scores[index])) * self.frame_hop
        onset = onset[onset < self.seconds[index]]
        offset = np.minimum(onset + self.frame_hop, self.seconds[index])
        return TimedScores(self.labels, self.scores[index][: len(onset)], onset, offset)

    def recordings(self, *, smooth: bool = True) -> Iterator[ScoredRecording]:
        """Yield the scores and the annotated events of every recording.

        The scores are those of the classes that have events in some recording.

        Args:
            smooth: Whether scores are smoothed by the median filter of `decoding`.
        """
        chosen = np.unique(np.concatenate([rows[:, 0] for rows in self.events])).astype(int)
        labels = [self.labels[number] for number in chosen]
        for index in range(len(self.names)):
            timed = self.timed_scores(index)
            scores = timed.scores[:, chosen]
            if smooth:
                median = MedianFilter(self.decoding.median, len(labels))
                scores = np.concatenate([median.feed(scores), median.finish()])
            timed = timed.with_scores(labels, scores)
            yield ScoredRecording(timed, self.annotated(index), self.seconds[index])

    def decode(self) -> list[list[Event]]:
        """Return the detected events of every recording."""
        return [self.timed_scores(index).events(self.decoding) for index in range(len(self.names))]

    def annotated(self, index: int) -> list[Event]:
        """Return the annotated events of a recording."""
        rows = self.events[index].tolist()
        return [Event(self.labels[int(label)], onset, offset) for label, onset, offset in rows]

    def reference(self) -> EventArrays:
        """Return the annotated events of all recordings as arrays."""
        return EventArrays.of([self.annotated(i) for i in range(len(self.names))], self.labels)

    def detected(self) -> EventArrays:
        """Return the detected events of all recordings as arrays."""
        return EventArrays.of(self.decode(), self.labels)

    def targets(self) -> np.ndarray:
        """Return which classes are active in the frames of all recordings, (frames, classes)."""
        grid = self.samples_per_frame, self.sample_rate
        rows = [
            encode_events(events, len(self.labels), len(scores), *grid).T
            for events, scores in zip(self.events, self.scores, strict=True)
        ]
        return np.concatenate(rows) > 0

    def metrics(self, names: Sequence[str]) -> dict[str, float]:
        """Return metrics by name.

        Args:
            names: Keys of `FRAME_METRICS`, or of metrics of events in
                `hear_core.metrics.registry.METRICS`.
        """
        found = dict[str, float]()
        events = None
        for name in names:
            if name in FRAME_METRICS:
                found[name] = float(FRAME_METRICS[name](self))
                continue
            events = events or (self.detected(), self.reference())
            # Without any detected event, precision and F-measure are not defined.
            found[name] = float(np.nan_to_num(METRICS[name].compute(*events)[0]))
        return found

    def per_class(self) -> list[dict[str, float]]:
        """Return events, F-measure, precision and recall (onsets within 200 ms) by class."""
        found, reference = self.detected(), self.reference()
        rows: list[dict[str, float]] = []
        for number in range(len(self.labels)):
            detected, there = found.of_label(number), reference.of_label(number)
            f_measure, precision, recall = match_events(detected, there, NEAR_ONSETS)
            rows.append(
                {
                    "events": len(there.onset),
                    "detected": len(detected.onset),
                    "f_measure": f_measure,
                    "precision": precision,
                    "recall": recall,
                }
            )
        return rows


def frame_map(predictions: DetectionPredictions) -> float:
    """Return the mean over classes of the average precision of frames."""
    targets = predictions.targets()
    present = targets.any(0)
    scores = np.concatenate(predictions.scores)
    return float(np.mean(average_precisions(scores[:, present], targets[:, present])))


FRAME_METRICS: Mapping[str, Callable[[DetectionPredictions], float]] = {
    "frame_mAP": frame_map,
    "psds1": lambda found: psds(found.recordings(), PSDS1).score,
    "psds1_macro_averaged": lambda found: psds(found.recordings(), PSDS1).macro_average,
    "psds2": lambda found: psds(found.recordings(), PSDS2).score,
    "segment_pauroc": lambda found: segment_area_under_roc(found.recordings()).mean,
}
"""Metrics of the scores of frames, which do not depend on thresholds."""


def check_metrics(names: Sequence[str]) -> None:
    """Check that metrics are of detectors, and that the first one can select a checkpoint.

    Raises:
        ConfigError: A metric is unknown or of clips, or is better when it is lower.
    """
    for number, name in enumerate(names):
        if name in FRAME_METRICS:
            continue
        if name not in METRICS:
            raise ConfigError(unknown("metric", name, [*FRAME_METRICS, *METRICS]))
        if not METRICS[name].events:
            msg = f"{name} is a metric of clips, but events are predicted"
            raise ConfigError(msg)
        if not number and not METRICS[name].maximise:
            msg = f"{name} is better when it is lower, and cannot select a checkpoint"
            raise ConfigError(msg)


def predict_events(
    network: Backbone,
    frontend: Frontend,
    clips: Clips,
    labels: Sequence[str],
    *,
    seconds: float = 10.0,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    decoding: EventDecoding,
) -> DetectionPredictions:
    """Return the scores of a detector for recordings, in evaluation mode.

    Recordings are processed in pieces that do not overlap, the last one padded with silence, as in
    EfficientSED.

    Args:
        network: Frame-wise network; it is left in the mode that it was in.
        frontend: Its front-end.
        clips: Recordings with events, at the front-end's sample rate.
        labels: Names of the classes.
        seconds: Length of a piece in seconds.
        batch_size: Pieces of a batch.
        device: Device of the network.
        decoding: Decoding of the events.

    Raises:
        ConfigError: No recording can be read.
    """
    per_frame = samples_per_frame(network, frontend)
    length = round(seconds * frontend.sample_rate / per_frame) * per_frame
    training, frontend = network.training, frontend.to(device)
    network.eval()
    used, lengths, failed = list[int](), list[int](), dict[str, str]()

    def pieces() -> Iterator[np.ndarray]:
        for index, future in enumerate(prefetch(clips.read, range(len(clips)))):
            try:
                samples = future.result()
            except AudioError as error:
                failed[clips[index].name] = str(error)
                continue
            used.append(index)
            lengths.append(len(samples))
            padded = np.pad(samples, (0, -len(samples) % length))
            yield from padded.reshape(-1, length)

    rows = list[np.ndarray]()
    pending = list[np.ndarray]()

    def flush() -> None:
        waveform = torch.from_numpy(np.stack(pending)).to(device)
        logits = network(frontend(waveform), ("logits",))["logits"]
        scores = logits.squeeze(2).transpose(1, 2).float().sigmoid().cpu().numpy()
        rows.extend(scores[:, : length // per_frame])
        pending.clear()

    with torch.no_grad():
        for piece in pieces():
            pending.append(piece)
            if len(pending) == batch_size:
                flush()
        if pending:
            flush()
    network.train(training)
    if not used:
        msg = f"none of the {len(clips)} clips can be read: {next(iter(failed.values()))}"
        raise ConfigError(msg)
    joined, first = list[np.ndarray](), 0
    for samples in lengths:
        count = -(-samples // length)
        joined.append(np.concatenate(rows[first : first + count])[: -(-samples // per_frame)])
        first += count
    return DetectionPredictions(
        tuple(clips[index].name for index in used),
        tuple(labels),
        tuple(joined),
        per_frame,
        frontend.sample_rate,
        tuple(
            clips[index].seconds or samples / frontend.sample_rate
            for index, samples in zip(used, lengths, strict=True)
        ),
        tuple(_events(clips, index) for index in used),
        failed,
        decoding,
    )


def samples_per_frame(network: Backbone, frontend: Frontend) -> int:
    """Return the number of samples from one frame of a detector to the next.

    Raises:
        ConfigError: The network is not frame-wise.
    """
    if network.frame_stride is None:
        msg = "the network gives one result per clip; events need a frame-wise one, such as fmn10"
        raise ConfigError(msg)
    return frontend.hop * network.frame_stride


@dataclass(frozen=True)
class DetectionEvaluator:
    """Evaluates a detector on recordings, see `hear_train.loop.trainer.Evaluator`.

    Args:
        clips: Recordings with events.
        labels: Names of the classes.
        frontend: Front-end of the network.
        config: Settings.
        seconds: Length of the pieces, see `predict_events`.
        device: Device of the network.
    """

    clips: Clips
    labels: tuple[str, ...]
    frontend: Frontend
    config: EvaluationConfig
    seconds: float = 10.0
    device: torch.device | str = "cpu"

    @property
    def main(self) -> str:
        """Name of the metric that selects the best checkpoint."""
        return self.config.metrics[0]

    def predictions(self, network: Backbone) -> DetectionPredictions:
        """Return the predictions of a network."""
        return predict_events(
            network,
            self.frontend,
            self.clips,
            self.labels,
            seconds=self.seconds,
            batch_size=self.config.batch_size,
            device=self.device,
            decoding=self.config.decoding,
        )

    def __call__(self, network: Backbone) -> dict[str, float]:
        """Return the metrics of a network by name."""
        return self.predictions(network).metrics(self.config.metrics)


def _events(clips: Clips, index: int) -> np.ndarray:
    events: np.ndarray | None = clips[index].events
    return np.empty((0, 3)) if events is None else events
