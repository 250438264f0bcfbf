"""How predictions for a split are judged: by the scores of its task, whatever it predicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from hear_core.metrics.events import EventArrays, event_arrays
from hear_core.metrics.registry import Metric, find_metrics
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.event_decoding import Decoder, Setting, settings_of
from hear_eval.tasks.description import EVENT_POSTPROCESSING, TaskError


class Verdict(NamedTuple):
    """The first score of a predictor, and the post-processing that is best for it."""

    score: float
    setting: Setting


class Judge(Protocol):
    """Scores predictions for one split.

    Attributes:
        setting: The post-processing of events if validation does not choose it.
    """

    setting: Setting

    def validate(self, predictions: np.ndarray) -> list[Verdict]:
        """Return the first score of each predictor (predictors, rows, classes)."""
        ...

    def test(self, predictions: np.ndarray, setting: Setting) -> dict[str, float]:
        """Return all scores of one predictor (rows, classes), as heareval names them."""
        ...

    def events(
        self, predictions: np.ndarray, setting: Setting
    ) -> tuple[list[str], EventArrays] | None:
        """Return the files, and the events that one predictor finds in them, if it finds any."""
        ...


def judge(task: EmbeddedTask, split: str) -> Judge:
    """Return what scores predictions for a split of a task.

    Raises:
        TaskError: The task has no such post-processing.
        ConfigError: It has no such scores.
    """
    description = task.description
    events = description.embedding_type == "event"
    scores = find_metrics(description.evaluation, events=events)
    if events:
        return _OfEvents(task, split, scores)
    return _OfClips(scores, task.targets[task.rows[split]].cpu().numpy())


class _OfClips:
    setting: Setting = ()

    def __init__(self, scores: Mapping[str, Metric], targets: np.ndarray) -> None:
        self._scores, self._targets = scores, targets

    def validate(self, predictions: np.ndarray) -> list[Verdict]:
        first = next(iter(self._scores.values()))
        found = first.compute(predictions, self._targets)
        return [Verdict(score, ()) for score in found.tolist()]

    def test(self, predictions: np.ndarray, setting: Setting) -> dict[str, float]:
        return {
            name: float(score.compute(predictions, self._targets))
            for name, score in self._scores.items()
        }

    def events(self, predictions: np.ndarray, setting: Setting) -> None:
        return None


class _OfEvents:
    def __init__(self, task: EmbeddedTask, split: str, scores: Mapping[str, Metric]) -> None:
        description, moments = task.description, task.moments[split]
        options = description.metadata.get("evaluation_params", {})
        self._scores = scores
        self._settings = settings_of(
            options.get("event_postprocessing_grid", EVENT_POSTPROCESSING), description.name
        )
        self._decoder = Decoder(moments.files, moments.timestamps)
        labels = description.vocabulary
        self._reference = event_arrays(moments.events, self._decoder.files, labels)
        self.setting = self._settings[0]
        if len(self._settings) > 1 and not description.metadata.get(
            "use_scoring_for_early_stopping", True
        ):
            msg = (
                f"{description.name} does not validate by its score, which leaves the choice among "
                f"{len(self._settings)} ways of post-processing open; it must have one"
            )
            raise TaskError(msg)

    def validate(self, predictions: np.ndarray) -> list[Verdict]:
        """As heareval does: without a number as 0, and of equal ones the larger setting."""
        first = next(iter(self._scores.values()))
        verdicts = []
        for each in predictions:
            found = []
            for setting in self._settings:
                score = float(
                    first.compute(self._decoder.decode(each, setting), self._reference)[0]
                )
                found.append((0.0 if math.isnan(score) else score, setting, score))
            _, setting, score = max(found)
            verdicts.append(Verdict(score, setting))
        return verdicts

    def test(self, predictions: np.ndarray, setting: Setting) -> dict[str, float]:
        found = {}
        events = self._decoder.decode(predictions, setting)
        for name, score in self._scores.items():
            values = score.compute(events, self._reference).tolist()
            found[name] = values[0]
            found |= {f"{name}_{part}": v for part, v in zip(score.parts, values, strict=True)}
        return found

    def events(self, predictions: np.ndarray, setting: Setting) -> tuple[list[str], EventArrays]:
        return self._decoder.files, self._decoder.decode(predictions, setting)
