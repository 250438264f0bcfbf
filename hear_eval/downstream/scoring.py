"""Scoring of predictions for a split, by the metrics of its task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from hear_core.metrics.events import EventArrays, event_arrays
from hear_core.metrics.registry import Metric, find_metrics
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.event_decoding import (
    PostProcessing,
    RowDecoder,
    postprocessing_settings,
)
from hear_eval.tasks.description import EVENT_POSTPROCESSING, TaskError


class ValidationScore(NamedTuple):
    """The first metric of a predictor, and the post-processing of events that is best for it."""

    score: float
    setting: PostProcessing


class Scorer(Protocol):
    """Scores predictions for one split.

    Attributes:
        setting: Post-processing of events if validation does not select it.
    """

    setting: PostProcessing

    def validate(self, predictions: np.ndarray) -> list[ValidationScore]:
        """Return the first metric of each predictor.

        Args:
            predictions: Probabilities (predictors, rows, classes).
        """
        ...

    def test(self, predictions: np.ndarray, setting: PostProcessing) -> dict[str, float]:
        """Return all metrics of one predictor, by the names that heareval gives them.

        Args:
            predictions: Probabilities (rows, classes).
            setting: Post-processing of events.
        """
        ...

    def events(
        self, predictions: np.ndarray, setting: PostProcessing
    ) -> tuple[list[str], EventArrays] | None:
        """Return the files and the events that one predictor detects; None for scenes.

        Args:
            predictions: Probabilities (rows, classes).
            setting: Post-processing of events.
        """
        ...


def make_scorer(task: EmbeddedTask, split: str) -> Scorer:
    """Return the scorer of a split of a task.

    Raises:
        TaskError: The post-processing of events in the task is not valid.
        ConfigError: A metric is unknown, or does not fit to the type of the task.
    """
    description = task.description
    events = description.embedding_type == "event"
    metrics = find_metrics(description.evaluation, events=events)
    if events:
        return _EventScorer(task, split, metrics)
    return _ClipScorer(metrics, task.targets[task.rows[split]].cpu().numpy())


class _ClipScorer:
    setting: PostProcessing = ()

    def __init__(self, metrics: Mapping[str, Metric], targets: np.ndarray) -> None:
        self._metrics, self._targets = metrics, targets

    def validate(self, predictions: np.ndarray) -> list[ValidationScore]:
        first = next(iter(self._metrics.values()))
        found = first.compute(predictions, self._targets)
        return [ValidationScore(score, ()) for score in found.tolist()]

    def test(self, predictions: np.ndarray, setting: PostProcessing) -> dict[str, float]:
        return {
            name: float(metric.compute(predictions, self._targets))
            for name, metric in self._metrics.items()
        }

    def events(self, predictions: np.ndarray, setting: PostProcessing) -> None:
        return None


class _EventScorer:
    def __init__(self, task: EmbeddedTask, split: str, metrics: Mapping[str, Metric]) -> None:
        description, rows = task.description, task.event_rows[split]
        options = description.metadata.get("evaluation_params", {})
        self._metrics = metrics
        self._settings = postprocessing_settings(
            options.get("event_postprocessing_grid", EVENT_POSTPROCESSING), description.name
        )
        self._decoder = RowDecoder(rows.files, rows.timestamps)
        labels = description.vocabulary
        self._reference = event_arrays(rows.events, self._decoder.files, labels)
        self.setting = self._settings[0]
        if len(self._settings) > 1 and not description.metadata.get(
            "use_scoring_for_early_stopping", True
        ):
            msg = (
                f"{description.name} does not validate by its metric, so that nothing selects one "
                f"of its {len(self._settings)} settings of post-processing; it must have one"
            )
            raise TaskError(msg)

    def validate(self, predictions: np.ndarray) -> list[ValidationScore]:
        """Score as heareval does: NaN counts as 0, and ties go to the larger setting."""
        first = next(iter(self._metrics.values()))
        validated = []
        for each in predictions:
            found = []
            for setting in self._settings:
                events = self._decoder.decode(each, setting)
                score = float(first.compute(events, self._reference)[0])
                found.append((0.0 if math.isnan(score) else score, setting, score))
            _, setting, score = max(found)
            validated.append(ValidationScore(score, setting))
        return validated

    def test(self, predictions: np.ndarray, setting: PostProcessing) -> dict[str, float]:
        found = {}
        events = self._decoder.decode(predictions, setting)
        for name, metric in self._metrics.items():
            values = metric.compute(events, self._reference).tolist()
            found[name] = values[0]
            found |= {f"{name}_{part}": v for part, v in zip(metric.parts, values, strict=True)}
        return found

    def events(
        self, predictions: np.ndarray, setting: PostProcessing
    ) -> tuple[list[str], EventArrays]:
        return self._decoder.files, self._decoder.decode(predictions, setting)
