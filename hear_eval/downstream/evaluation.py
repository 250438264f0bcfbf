"""Downstream evaluation, the protocol of heareval: what embeddings are worth for a task.

The points of a grid are searched on the first fold. The best in validation is trained on the other
folds too, and every predictor is tested on the test split of its fold. `evaluate` reads a folder
of embeddings and writes into it what heareval writes; `evaluate_task` does without files.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hear_core.errors import ConfigError
from hear_core.runtime.heap import keep_freed_memory
from hear_eval.downstream import files
from hear_eval.downstream.early_stopping import Criterion, Job, Outcome, criterion_of
from hear_eval.downstream.embedded_task import EmbeddedTask, read_embedded_task
from hear_eval.downstream.grid import Point, choose_points
from hear_eval.downstream.judging import Judge, judge
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

    A folder that is done, be it by heareval, is left as it is, unless something else is asked for;
    see `differences`. One whose evaluation was cut off goes on after the predictors that were
    trained, and ends with the same scores.

    Args:
        folder: Of the embeddings of one task.
        options: How they are evaluated.
        again: Evaluate it even if it is done.
        on_state: Is told how far it is.

    Returns:
        The scores, as they stand in ``test.predicted-scores.json``.

    Raises:
        TaskError: A file of the folder is missing, damaged, or does not fit to the others.
        ConfigError: An option means nothing here, another process evaluates the folder, or it is
            done with other options or other embeddings.
    """
    with files.alone(folder):
        if not again and (scores := files.read_scores(folder)) is not None:
            if found := differences(folder, options):
                msg = f"{folder} was evaluated otherwise: {'; '.join(found)}; --again does it again"
                raise ConfigError(msg)
            _log.info("%s is evaluated; its scores stand in %s", folder, files.SCORES)
            return scores
        start = time.perf_counter()
        arithmetic = choose_arithmetic(options.device, options.precision)
        task = read_embedded_task(folder, arithmetic.dtype)
        plan = _plan(task, options, arithmetic)
        settings = {
            **options._asdict(),
            "precision": str(arithmetic.dtype).removeprefix("torch."),
            "device": str(arithmetic.device),
            "embeddings": files.fingerprint(task),
        }
        # Only now that nothing is wrong with what is asked for are older scores given up.
        files.reopen(folder)
        journal = files.Journal(folder, settings | {"metadata": dict(task.description.metadata)})
        evaluation = _carry_out(plan, journal, on_state)
        scores = {**evaluation.scores, "embedding_path": str(folder)}
        done = {
            "time": time.perf_counter() - start,
            "embedding_path": str(folder),
            "embedding_size": task.embeddings.shape[1],
            **settings,
            "in_memory": True,
            "deterministic": True,
        }
        files.write(folder, scores, evaluation.predictions, done)
        journal.remove()
    return scores


def differences(folder: Path, options: Options = DEFAULT) -> list[str]:
    """Say in what the evaluation that a folder is done with differs from another.

    Of a folder that is not done, or that heareval has done, nothing is known to differ.

    Args:
        folder: Of the embeddings of one task.
        options: Of the other. What is left to us, as ``auto`` does, does not differ.

    Raises:
        TaskError: What was embedded since does not make a task.
    """
    done = files.read_done(folder)
    if "seed" not in done:  # heareval has but one, and does not say it
        return []
    found = [
        f"{name} is {done[name]} there and {value} here"
        for name, value in options._asdict().items()
        if value not in ("auto", done.get(name, value))
    ]
    if "embeddings" in done and files.touched(folder):
        # Its checksum is that of embeddings as they were rounded for the evaluation.
        dtype = choose_arithmetic("cpu", done["precision"]).dtype
        if files.fingerprint(read_embedded_task(folder, dtype)) != done["embeddings"]:
            found.append("its embeddings or labels have changed since")
    return found


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
    plan = _plan(task, options, choose_arithmetic(options.device, options.precision))
    return _carry_out(plan, journal, on_state)


class _Plan(NamedTuple):
    """An evaluation whose options are known to mean something."""

    task: EmbeddedTask
    arithmetic: Arithmetic
    seed: int
    points: Sequence[Point]
    judges: Mapping[str, Judge]
    criterion: Criterion


def _plan(task: EmbeddedTask, options: Options, arithmetic: Arithmetic) -> _Plan:
    description = task.description
    points = choose_points(description, options.grid, options.grid_points, options.seed)
    judges = {fold.test[0]: judge(task, fold.test[0]) for fold in description.folds}
    return _Plan(task, arithmetic, options.seed, points, judges, criterion_of(task))


def _carry_out(plan: _Plan, journal: files.Journal | None, on_state: OnState) -> Evaluation:
    task, points, criterion = plan.task, plan.points, plan.criterion
    trainer = _Trainer(plan, journal, on_state)
    with keep_freed_memory():
        search = trainer.train([Job(0, number, point) for number, point in enumerate(points)])
        best = _best(search, criterion)
        point = points[best]
        others = [Job(fold, best, point) for fold in range(1, len(task.description.folds))]
        chosen = [search[best], *trainer.train(others)]
    outcomes = [outcome for outcome in chosen if outcome is not None]
    return put_together(task, point, outcomes, plan.judges, criterion)


class _Trainer:
    """Trains jobs in groups of one shape, and keeps in a journal what is trained."""

    def __init__(self, plan: _Plan, journal: files.Journal | None, on_state: OnState) -> None:
        self._task = plan.task.to(*plan.arithmetic)
        self._arithmetic, self._seed, self._criterion = plan.arithmetic, plan.seed, plan.criterion
        self._journal, self._on_state = journal, on_state
        self._done, self._of = 0, len(plan.points) + len(plan.task.description.folds) - 1

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
