"""Evaluation: predictions and metrics of a network on clips."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from hear_core.errors import AudioError, ConfigError
from hear_core.events.decoding import EventDecoding
from hear_core.frontends.log_mel import Frontend
from hear_core.io.files import atomic_write
from hear_core.io.prefetch import prefetch
from hear_core.metrics.ranking import areas_under_roc, average_precisions
from hear_core.metrics.registry import METRICS, find_metrics
from hear_core.networks.backbone import Backbone
from hear_sed.detector import DEFAULT_DECODING
from hear_train.augment.waveforms import crop
from hear_train.data.clips import Clips
from hear_train.objectives.objective import clip_tap


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of the evaluation.

    Args:
        metrics: Names of metrics, see `hear_core.metrics.registry.METRICS`. The first one selects
            the best checkpoint. Those of detectors are checked by
            `hear_train.detection.check_metrics`.
        split: Split that is validated on during training.
        also: Further splits that are evaluated then; the names of their metrics begin with that of
            the split, as ``valid_mAP``.
        statistics: Whether the metrics of every class are kept for every validation, as files
            ``statistics/<split>-<step>.csv`` in the folder of the run.
        batch_size: Clips of a batch.
        decoding: Decoding of the events of a detector.
    """

    metrics: tuple[str, ...] = ("mAP", "aucroc")
    split: str = "valid"
    also: tuple[str, ...] = ()
    statistics: bool = False
    batch_size: int = 32
    decoding: EventDecoding = DEFAULT_DECODING

    def check(self) -> None:
        """Check that the metrics are of clips, and that the first one can select a checkpoint.

        Raises:
            ConfigError: A metric is unknown or of events, or is better when it is lower.
        """
        for name, metric in find_metrics(self.metrics, events=False).items():
            if not metric.maximise:
                msg = f"{name} is better when it is lower, and cannot select a checkpoint"
                raise ConfigError(msg)


@dataclass(frozen=True)
class Predictions:
    """Predictions of a network for clips.

    Args:
        names: Names of the clips.
        logits: Logits (clips, classes), float32.
        targets: Labels, (clips, classes), bool.
        known: Whether a label is known, (clips, classes), bool.
        failed: Reasons why clips could not be read, by name; they are in no other part.
    """

    names: tuple[str, ...]
    logits: np.ndarray
    targets: np.ndarray
    known: np.ndarray
    failed: Mapping[str, str]

    def metrics(self, names: Sequence[str]) -> dict[str, float]:
        """Return metrics by name.

        mAP and the area under the ROC curve (``aucroc``) are means over the classes, each on the
        clips whose label is known. Classes whose targets are all the same do not count in the area,
        and a class without positive clips has an average precision of 0, as in EfficientAT.
        ``d_prime`` is that of the mean area, as in Hershey et al., "CNN Architectures for
        Large-Scale Audio Classification" (ICASSP 2017). Other metrics are on the clips of which
        all labels are known. A metric that no clip defines is NaN.
        """
        complete = self.known.all(1)
        found = {}
        for name in names:
            if name in _OF_CLASSES:
                found[name] = _OF_CLASSES[name](self)
            elif complete.any():
                logits, targets = self.logits[complete], self.targets[complete]
                found[name] = float(METRICS[name].compute(logits, targets))
            else:
                found[name] = float("nan")
        return found

    def average_precisions(self) -> np.ndarray:
        """Return the average precision of every class, (classes,); NaN if no label is known."""
        return self._by_class(average_precisions)

    def areas_under_roc(self) -> np.ndarray:
        """Return the area under the ROC curve of every class, (classes,); NaN if undefined."""
        return self._by_class(areas_under_roc)

    def per_class(self) -> list[dict[str, float]]:
        """Return clips, positive clips, average precision and area under the ROC curve by class."""
        columns = {
            "clips": self.known.sum(0),
            "positive": (self.targets & self.known).sum(0),
            "average_precision": self.average_precisions(),
            "aucroc": self.areas_under_roc(),
        }
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def _by_class(self, compute: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        if self.known.all():
            return compute(self.logits, self.targets)
        values = np.full(self.known.shape[1], np.nan)
        for index in np.flatnonzero(self.known.any(0)):
            rows, column = self.known[:, index], slice(index, index + 1)
            values[index] = compute(self.logits[rows, column], self.targets[rows, column])[0]
        return values


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _d_prime(area: float) -> float:
    return float(torch.special.ndtri(torch.tensor(area, dtype=torch.float64)) * 2**0.5)


_OF_CLASSES: Mapping[str, Callable[[Predictions], float]] = {
    "mAP": lambda predictions: _mean(predictions.average_precisions()),
    "aucroc": lambda predictions: _mean(predictions.areas_under_roc()),
    "d_prime": lambda predictions: _d_prime(_mean(predictions.areas_under_roc())),
}


def predict(
    network: Backbone,
    frontend: Frontend,
    clips: Clips,
    *,
    seconds: float = 0.0,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> Predictions:
    """Return the predictions of a network for clips, in evaluation mode.

    Args:
        network: Network with logits of clips; it is left in the mode that it was in.
        frontend: Its front-end.
        clips: Clips with labels, at the front-end's sample rate.
        seconds: Length that clips are padded or cut to, from their beginning; 0 keeps each clip at
            its length, one in a batch.
        batch_size: Clips of a batch.
        device: Device of the network.
    """
    tap = clip_tap(network)
    classes = network.tap_shapes[tap].channels
    length = round(seconds * frontend.sample_rate)
    training, frontend = network.training, frontend.to(device)
    network.eval()
    names, rows, failed = list[str](), list[np.ndarray](), dict[str, str]()
    pending: list[np.ndarray] = []

    def flush() -> None:
        if pending:
            waveform = torch.from_numpy(np.stack(pending)).to(device)
            rows.append(network(frontend(waveform), (tap,))[tap].float().cpu().numpy())
            pending.clear()

    used = []
    least = max(frontend.min_samples, frontend.samples_for(network.min_frames))
    with torch.no_grad():
        for index, future in enumerate(prefetch(clips.read, range(len(clips)))):
            try:
                samples = future.result()
            except AudioError as error:
                failed[clips[index].name] = str(error)
                continue
            used.append(index)
            names.append(clips[index].name)
            pending.append(crop(samples, length or max(len(samples), least)))
            if not length or len(pending) == batch_size:
                flush()
        flush()
    network.train(training)
    if not rows:
        msg = f"none of the {len(clips)} clips can be read: {next(iter(failed.values()))}"
        raise ConfigError(msg)
    bits = [_bits(clips, index, classes) for index in used]
    targets, known = (np.stack(part) for part in zip(*bits, strict=True))
    return Predictions(tuple(names), np.concatenate(rows), targets, known, failed)


@dataclass
class ClipEvaluator:
    """Evaluates a network on clips, see `hear_train.loop.trainer.Evaluator`.

    Args:
        splits: Clips with labels by the name of their split. The metrics of the first one have
            plain names.
        frontend: Front-end of the network.
        config: Settings.
        labels: Names of the classes.
        seconds: Length of the clips, see `predict`.
        device: Device of the network.
    """

    splits: Mapping[str, Clips]
    frontend: Frontend
    config: EvaluationConfig
    labels: Sequence[str]
    seconds: float = 0.0
    device: torch.device | str = "cpu"
    _found: dict[str, Predictions] = field(default_factory=dict, init=False, repr=False)

    @property
    def main(self) -> str:
        """Name of the metric that selects the best checkpoint."""
        return self.config.metrics[0]

    def __call__(self, network: Backbone) -> dict[str, float]:
        """Return the metrics of a network by name."""
        metrics: dict[str, float] = {}
        for number, (split, clips) in enumerate(self.splits.items()):
            found = self._found[split] = predict(
                network,
                self.frontend,
                clips,
                seconds=self.seconds,
                batch_size=self.config.batch_size,
                device=self.device,
            )
            prefix = f"{split}_" if number else ""
            of_split = found.metrics(self.config.metrics)
            metrics |= {f"{prefix}{name}": value for name, value in of_split.items()}
        return metrics

    def write_statistics(self, folder: Path, step: int) -> None:
        """Write the metrics of every class in the last evaluation, if they are to be kept.

        Args:
            folder: Folder of the run.
            step: Number of the step.
        """
        for split, found in self._found.items() if self.config.statistics else ():
            path = folder / "statistics" / f"{split}-{step:07}.csv"
            write_per_class(path, self.labels, found)


class PerClass(Protocol):
    """Predictions with metrics of every class."""

    def per_class(self) -> Sequence[Mapping[str, float]]:
        """Return metrics by name for every class."""


def write_per_class(path: Path, labels: Sequence[str], predictions: PerClass) -> None:
    """Write the metrics of every class to a CSV file."""
    rows = [
        {"label": label, **row} for label, row in zip(labels, predictions.per_class(), strict=True)
    ]
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _bits(clips: Clips, index: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of a clip and which of them are known, (classes,), bool."""
    clip = clips[index]
    if clip.labels is None:
        return np.zeros(classes, bool), np.zeros(classes, bool)
    known = None if clip.known is None else np.unpackbits(clip.known, count=classes) > 0
    present = np.unpackbits(clip.labels, count=classes) > 0
    return present, np.ones(classes, bool) if known is None else known
