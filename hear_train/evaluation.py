"""Evaluation: predictions and metrics of a network on clips."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hear_core.errors import AudioError, ConfigError
from hear_core.frontends.log_mel import Frontend
from hear_core.io.files import atomic_write
from hear_core.io.prefetch import prefetch
from hear_core.metrics.ranking import areas_under_roc, average_precisions
from hear_core.metrics.registry import METRICS, find_metrics
from hear_core.networks.backbone import Backbone
from hear_train.augment.waveforms import crop
from hear_train.data.clips import Clips


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of the evaluation.

    Args:
        metrics: Names of metrics, see `hear_core.metrics.registry.METRICS`. The first one selects
            the best checkpoint.
        split: Split that is validated on during training.
        batch_size: Clips of a batch.
    """

    metrics: tuple[str, ...] = ("mAP", "aucroc")
    split: str = "valid"
    batch_size: int = 32

    def __post_init__(self) -> None:
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

        Where labels are unknown, each class counts the clips whose label is known. Classes whose
        targets are all the same do not count in the area under the ROC curve and d'.
        """
        if self.known.all() and not set(names) & {"aucroc", "d_prime"}:
            return {name: float(METRICS[name].compute(self.logits, self.targets)) for name in names}
        columns = [self._column(index) for index in range(self.logits.shape[1])]
        defined = [c for c in columns if 0 < c[1].sum() < len(c[1])]
        found = {}
        for name in names:
            if self.known.all() and name not in ("aucroc", "d_prime"):
                found[name] = float(METRICS[name].compute(self.logits, self.targets))
                continue
            scored = defined if name in ("aucroc", "d_prime") else [c for c in columns if len(c[1])]
            values = [float(METRICS[name].compute(logits, targets)) for logits, targets in scored]
            found[name] = float(np.mean(values)) if values else float("nan")
        return found

    def per_class(self) -> list[dict[str, float]]:
        """Return clips, positive clips, average precision and area under the ROC curve by class."""
        rows = []
        for index in range(self.logits.shape[1]):
            logits, targets = self._column(index)
            rows.append(
                {
                    "clips": len(targets),
                    "positive": int(targets.sum()),
                    "average_precision": float(average_precisions(logits, targets)[0]),
                    "aucroc": float(areas_under_roc(logits, targets)[0]),
                }
            )
        return rows

    def _column(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        known = self.known[:, index]
        return self.logits[known, index : index + 1], self.targets[known, index : index + 1]


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
        network: Network with the tap ``logits``; it is left in the mode that it was in.
        frontend: Its front-end.
        clips: Clips with labels, at the front-end's sample rate.
        seconds: Length that clips are padded or cut to, from their beginning; 0 keeps each clip at
            its length, one in a batch.
        batch_size: Clips of a batch.
        device: Device of the network.
    """
    classes = network.tap_shapes["logits"].channels
    length = round(seconds * frontend.sample_rate)
    training, frontend = network.training, frontend.to(device)
    network.eval()
    names, rows, failed = list[str](), list[np.ndarray](), dict[str, str]()
    pending: list[np.ndarray] = []

    def flush() -> None:
        if pending:
            waveform = torch.from_numpy(np.stack(pending)).to(device)
            rows.append(network(frontend(waveform), ("logits",))["logits"].float().cpu().numpy())
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


@dataclass(frozen=True)
class ClipEvaluator:
    """Evaluates a network on clips, see `hear_train.loop.trainer.Evaluator`.

    Args:
        clips: Clips with labels.
        frontend: Front-end of the network.
        config: Settings.
        seconds: Length of the clips, see `predict`.
        device: Device of the network.
    """

    clips: Clips
    frontend: Frontend
    config: EvaluationConfig
    seconds: float = 0.0
    device: torch.device | str = "cpu"

    @property
    def main(self) -> str:
        """Name of the metric that selects the best checkpoint."""
        return self.config.metrics[0]

    def predictions(self, network: Backbone) -> Predictions:
        """Return the predictions of a network."""
        return predict(
            network,
            self.frontend,
            self.clips,
            seconds=self.seconds,
            batch_size=self.config.batch_size,
            device=self.device,
        )

    def __call__(self, network: Backbone) -> dict[str, float]:
        """Return the metrics of a network by name."""
        return self.predictions(network).metrics(self.config.metrics)


def write_per_class(path: Path, labels: Sequence[str], predictions: Predictions) -> None:
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
