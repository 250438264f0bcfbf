"""Downstream evaluation, the protocol of heareval: what embeddings are worth for a task.

The points of a grid are searched on the first fold. The best in validation is trained on the other
folds too, and every predictor is tested on the test split of its fold. `evaluate` reads a folder
of embeddings and writes into it what heareval writes; `evaluate_task` does without files.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hear_core.memory import kept_memory
from hear_eval.downstream import files
from hear_eval.downstream.early_stopping import Criterion, Job, Outcome, criterion_of
from hear_eval.downstream.embedded_task import EmbeddedTask, read_embedded_task
from hear_eval.downstream.grid import choose_points
from hear_eval.downstream.judging import judge
from hear_eval.downstream.predictors import Arithmetic, choose_arithmetic
from hear_eval.downstream.results import Evaluation, put_together
from hear_eval.downstream.training import Progress, groups_of, train_together

_log = logging.getLogger(__name__)


class Options(NamedTuple):
    """How a task is evaluated.

    Args:
        grid: ``default``, ``fast`` or ``faster``; those of heareval.
        grid_points: How many points of the grid are tried.
        seed: Of their choice, of weights and of dropout. heareval's is 42.
        device: Such as ``cpu`` or ``cuda``; by default a GPU if there is one.
        precision: Of multiplications: ``float32``, ``bfloat16``, or that which is faster.
    """

    grid: str = "default"
    grid_points: int = 8
    seed: int = 42
    device: str = "auto"
    precision: str = "auto"


DEFAULT = Options()


class State(NamedTuple):
    """How far an evaluation is.

    Args:
        done: Predictors that are trained, and shares of those that are being trained.
        of: How many there are.
        doing: In words.
    """

    done: float
    of: int
    doing: str


OnState = Callable[[State], None]


def evaluate(
    folder: Path,
    options: Options = DEFAULT,
    *,
    again: bool = False,
    on_state: OnState = lambda _: None,
) -> dict[str, Any]:
    """Evaluate the embeddings in a folder, and write the scores and predictions into it.

    A folder that is done, be it by heareval, is left as it is. One whose evaluation was cut off
    goes on after the predictors that were trained, and ends with the same scores.

    Args:
        folder: Of the embeddings of one task.
        options: How they are evaluated.
        again: Evaluate it even if it is done.
        on_state: Is told how far it is.

    Returns:
        The scores, as they stand in ``test.predicted-scores.json``.

    Raises:
        TaskError: A file of the folder is missing, damaged, or does not fit to the others.
        ConfigError: An option means nothing here, or another process evaluates the folder.
    """
    with files.alone(folder):
        if not again and (scores := files.read_scores(folder)) is not None:
            _log.info("%s is evaluated; its scores stand in %s", folder, files.SCORES)
            return scores
        files.reopen(folder)
        start = time.perf_counter()
        arithmetic = choose_arithmetic(options.device, options.precision)
        task = read_embedded_task(folder, arithmetic.dtype)
        settings = {
            **options._asdict(),
            "device": str(arithmetic.device),
            "precision": str(arithmetic.dtype),
            "embeddings": files.fingerprint(task),
            "metadata": dict(task.description.metadata),
        }
        journal = files.Journal(folder, settings)
        found = evaluate_task(task, options, journal=journal, on_state=on_state)
        scores = {**found.scores, "embedding_path": str(folder)}
        done = {
            "time": time.perf_counter() - start,
            "embedding_path": str(folder),
            "embedding_size": task.embeddings.shape[1],
            **options._asdict(),
            "precision": str(arithmetic.dtype).removeprefix("torch."),
            "device": str(arithmetic.device),
            "in_memory": True,
            "deterministic": True,
        }
        files.write(folder, scores, found.predictions, done)
        journal.remove()
    return scores


def evaluate_task(
    task: EmbeddedTask,
    options: Options = DEFAULT,
    *,
    journal: files.Journal | None = None,
    on_state: OnState = lambda _: None,
) -> Evaluation:
    """Evaluate embeddings in memory.

    Args:
        task: See `hear_eval.downstream.embedded_task.task_of_arrays`, and `EmbeddedTask.columns`
            to evaluate some of the dimensions.
        options: How they are evaluated.
        journal: Where predictors that are trained are kept.
        on_state: Is told how far it is.

    Raises:
        TaskError: The task cannot be trained or scored.
        ConfigError: An option means nothing here.
    """
    arithmetic = choose_arithmetic(options.device, options.precision)
    judges = {f.test[0]: judge(task, f.test[0]) for f in task.description.folds}
    points = choose_points(task.description, options.grid, options.grid_points, options.seed)
    criterion = criterion_of(task)
    trainer = _Trainer(
        task.to(*arithmetic), arithmetic, options.seed, journal, on_state, len(points), criterion
    )
    with kept_memory():
        search = trainer.train([Job(0, number, point) for number, point in enumerate(points)])
        best = _best(search, criterion)
        point = points[best]
        others = [Job(fold, best, point) for fold in range(1, len(task.description.folds))]
        chosen = [search[best], *trainer.train(others)]
    outcomes = [outcome for outcome in chosen if outcome is not None]
    return put_together(task, point, outcomes, judges, criterion)


class _Trainer:
    """Trains jobs in groups of one shape, and keeps in a journal what is trained."""

    def __init__(
        self,
        task: EmbeddedTask,
        arithmetic: Arithmetic,
        seed: int,
        journal: files.Journal | None,
        on_state: OnState,
        points: int,
        criterion: Criterion,
    ) -> None:
        self._task, self._arithmetic, self._seed = task, arithmetic, seed
        self._journal, self._on_state, self._criterion = journal, on_state, criterion
        self._done, self._of = 0, points + len(task.description.folds) - 1

    def train(self, jobs: Sequence[Job]) -> list[Outcome | None]:
        """Return the outcomes of jobs, or None for those that an earlier one is certain to beat."""
        found: dict[Job, Outcome | None] = {}
        for group in groups_of(self._task, jobs):
            perfect = [
                (job.fold, job.number)
                for job, outcome in found.items()
                if outcome is not None and outcome.score == self._criterion.best
            ]
            left = [
                job
                for job in group
                if not any(job.fold == fold and job.number > number for fold, number in perfect)
            ]
            found |= dict.fromkeys(group)
            if left:
                found |= zip(left, self._together(left), strict=True)
            self._tell(Progress(len(group) - len(left), 0, 0.0), group)
        return [found[job] for job in jobs]

    def _together(self, group: Sequence[Job]) -> list[Outcome | None]:
        key = "-".join(f"{job.fold}.{job.number}" for job in group)
        if self._journal and (kept := self._journal.read(key)) is not None:
            self._tell(Progress(len(group), 0, 0.0), group)
            return kept
        left = list(group)

        def on_progress(progress: Progress) -> None:
            self._tell(progress, left)
            del left[: progress.stopped]

        outcomes = train_together(self._task, group, self._arithmetic, self._seed, on_progress)
        if self._journal:
            self._journal.write(key, outcomes)
        return outcomes

    def _tell(self, progress: Progress, group: Sequence[Job]) -> None:
        self._done += progress.stopped
        point, active = group[0].point, len(group) - progress.stopped
        part = f"{point.hidden_layers} layers" if group[0].fold == 0 else "other folds"
        doing = f"{part}, epoch {progress.epoch}" if progress.epoch else part
        self._on_state(State(self._done + active * progress.share, self._of, doing))


def _best(outcomes: Sequence[Outcome | None], criterion: Criterion) -> int:
    """Return the number of the best outcome, the first of equals."""
    numbers = [number for number, outcome in enumerate(outcomes) if outcome is not None]
    sign = -1 if criterion.maximise else 1
    return min(numbers, key=lambda number: sign * outcomes[number].score)  # type: ignore[union-attr]
