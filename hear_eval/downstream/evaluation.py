"""Downstream evaluation of embeddings by the protocol of heareval.

The points of a grid are searched on the first fold. The best in validation is trained on the other
folds too, and every predictor is tested on the test split of its fold. `evaluate` reads a folder of
embeddings and writes into it what heareval writes; `evaluate_task` works in memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hear_core.errors import ConfigError
from hear_core.io.threads import torch_threads
from hear_core.runtime.heap import keep_freed_memory
from hear_eval.downstream import result_files
from hear_eval.downstream.embedded_task import EmbeddedTask, read_embedded_task
from hear_eval.downstream.grid import Hyperparameters, choose_hyperparameters
from hear_eval.downstream.predictors import DeviceAndDtype, choose_device_and_dtype
from hear_eval.downstream.protocol import Criterion, Job, Outcome, Protocol, protocol_of
from hear_eval.downstream.results import Evaluation, make_results
from hear_eval.downstream.training import TrainingProgress, group_jobs, train_together

_log = logging.getLogger(__name__)


class EvaluationSettings(NamedTuple):
    """Settings of the evaluation of a task.

    Args:
        grid: Grid of heareval: ``default``, ``fast`` or ``faster``.
        grid_points: Number of points of the grid to try.
        seed: Seed of the choice of points, the weights and dropout. heareval uses 42.
        device: Device such as ``cpu`` or ``cuda``; ``auto`` is a GPU if there is one.
        precision: Precision of matrix products: ``float32``, ``bfloat16``, or ``auto`` for the
            faster one.
    """

    grid: str = "default"
    grid_points: int = 8
    seed: int = 42
    device: str = "auto"
    precision: str = "auto"


DEFAULT = EvaluationSettings()


class EvaluationProgress(NamedTuple):
    """The progress of an evaluation.

    Args:
        done: Number of predictors that are trained, with fractions for those in training.
        of: Number of all predictors.
        doing: Description of what is trained.
    """

    done: float
    of: int
    doing: str


OnProgress = Callable[[EvaluationProgress], None]


def evaluate(
    folder: Path,
    settings: EvaluationSettings = DEFAULT,
    *,
    again: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> dict[str, Any]:
    """Evaluate the embeddings in a folder, and write the scores and predictions into it.

    A folder that was evaluated before, also by heareval, is left as it is if the settings and the
    embeddings are the same; see `differences`. An interrupted evaluation is resumed after the
    predictors that were trained, and ends with the same scores.

    Args:
        folder: Folder of the embeddings of one task.
        settings: Settings of the evaluation.
        again: Whether to evaluate a folder again that was evaluated before.
        on_progress: Called with the progress, by one thread at a time.

    Returns:
        The content of ``test.predicted-scores.json``.

    Raises:
        TaskError: A file of the folder is missing, damaged, or does not match the others.
        ConfigError: An option is not valid, another process evaluates the folder, or it was
            evaluated with other settings or other embeddings.
        FileError: A file cannot be written.
    """
    with result_files.evaluation_lock(folder):
        if not again and (scores := result_files.read_scores(folder)) is not None:
            if found := differences(folder, settings):
                msg = (
                    f"{folder} was evaluated with other settings: {'; '.join(found)}; "
                    "evaluate it again with --again"
                )
                raise ConfigError(msg)
            _log.info("%s is evaluated; its scores are in %s", folder, result_files.SCORES)
            return scores
        start = time.perf_counter()
        compute = choose_device_and_dtype(settings.device, settings.precision)
        task = read_embedded_task(folder, compute.dtype)
        plan = _plan(task, settings, compute)
        recorded = {
            **settings._asdict(),
            "precision": str(compute.dtype).removeprefix("torch."),
            "device": str(compute.device),
            "embeddings": result_files.fingerprint(task),
        }
        # Older scores are given up only now that nothing is wrong with the input.
        result_files.reopen(folder)
        metadata = {"metadata": dict(task.description.metadata)}
        journal = result_files.OutcomeJournal(folder, recorded | metadata)
        evaluation = _carry_out(plan, journal, on_progress)
        scores = {**evaluation.scores, "embedding_path": str(folder)}
        done = {
            "time": time.perf_counter() - start,
            "embedding_path": str(folder),
            "embedding_size": task.embeddings.shape[1],
            **recorded,
            "in_memory": True,
            "deterministic": True,
        }
        result_files.write_results(folder, scores, evaluation.predictions, done)
        journal.remove()
    return scores


def differences(folder: Path, settings: EvaluationSettings = DEFAULT) -> list[str]:
    """Describe how the evaluation of a folder differs from one with other settings.

    Nothing is known to differ in a folder that was not evaluated, or that heareval evaluated.

    Args:
        folder: Folder of the embeddings of one task.
        settings: Settings of the other evaluation. A setting of ``auto`` never differs.

    Raises:
        TaskError: The folder has new embeddings that are not those of a task.
    """
    done = result_files.read_done(folder)
    if "seed" not in done:  # heareval has only one, and does not write it
        return []
    found = [
        f"{name} is {done[name]} there and {value} here"
        for name, value in settings._asdict().items()
        if value not in ("auto", done.get(name, value))
    ]
    if "embeddings" in done and result_files.may_have_changed(folder):
        # The checksum is that of embeddings as they were rounded for the evaluation.
        dtype = choose_device_and_dtype("cpu", str(done.get("precision"))).dtype
        if result_files.fingerprint(read_embedded_task(folder, dtype)) != done["embeddings"]:
            found.append("its embeddings or labels have changed since")
    return found


def evaluate_task(
    task: EmbeddedTask,
    settings: EvaluationSettings = DEFAULT,
    *,
    journal: result_files.OutcomeJournal | None = None,
    on_progress: OnProgress = lambda _: None,
) -> Evaluation:
    """Evaluate embeddings in memory.

    Args:
        task: Task, see `hear_eval.downstream.embedded_task.task_of_arrays`, and
            `EmbeddedTask.columns` to evaluate some of the dimensions.
        settings: Settings of the evaluation.
        journal: Journal of predictors that are trained.
        on_progress: Called with the progress, by one thread at a time.

    Raises:
        TaskError: The task cannot be trained or scored.
        ConfigError: An option is not valid.
    """
    plan = _plan(task, settings, choose_device_and_dtype(settings.device, settings.precision))
    return _carry_out(plan, journal, on_progress)


class _Plan(NamedTuple):
    """An evaluation with checked settings."""

    task: EmbeddedTask
    compute: DeviceAndDtype
    seed: int
    points: Sequence[Hyperparameters]
    protocol: Protocol


def _plan(task: EmbeddedTask, settings: EvaluationSettings, compute: DeviceAndDtype) -> _Plan:
    if settings.seed < 0:
        msg = f"the seed must be at least 0, but is {settings.seed}"
        raise ConfigError(msg)
    points = choose_hyperparameters(
        task.description, settings.grid, settings.grid_points, settings.seed
    )
    return _Plan(task, compute, settings.seed, points, protocol_of(task))


def _carry_out(
    plan: _Plan, journal: result_files.OutcomeJournal | None, on_progress: OnProgress
) -> Evaluation:
    task, points = plan.task, plan.points
    trainer = _JobTrainer(plan, journal, on_progress)
    with keep_freed_memory():
        search = trainer.train([Job(0, number, point) for number, point in enumerate(points)])
        best = _best(search, plan.protocol.criterion)
        point = points[best]
        others = [Job(fold, best, point) for fold in range(1, len(task.description.folds))]
        chosen = [search[best], *trainer.train(others)]
    outcomes = [outcome for outcome in chosen if outcome is not None]
    return make_results(task, point, outcomes, plan.protocol)


class _JobTrainer:
    """Trains jobs in groups of one shape, and keeps the outcomes in a journal.

    On a CPU, groups are trained side by side: threads that share one training wait for one another
    after every operation, which takes several times as long if other processes run as well.
    """

    def __init__(
        self, plan: _Plan, journal: result_files.OutcomeJournal | None, on_progress: OnProgress
    ) -> None:
        self._task = plan.task.to(*plan.compute)
        self._compute, self._seed, self._protocol = plan.compute, plan.seed, plan.protocol
        self._journal, self._on_progress = journal, on_progress
        self._done, self._of = 0, len(plan.points) + len(plan.task.description.folds) - 1
        self._perfect: set[tuple[int, int]] = set()  # fold and number
        self._lock, self._failed = threading.Lock(), False

    def train(self, jobs: Sequence[Job]) -> list[Outcome | None]:
        """Return the outcomes of jobs, or None for those that an earlier one is certain to beat."""
        groups = group_jobs(self._task, jobs)
        threads = torch.get_num_threads()
        workers = min(threads, len(groups)) if self._compute.device.type == "cpu" else 1
        if workers <= 1:
            parts = list(map(self._group, groups))
        else:
            share = threads // workers
            with (
                torch_threads(share),
                ThreadPoolExecutor(workers, "train", torch.set_num_threads, (share,)) as pool,
            ):
                futures = [pool.submit(self._group, group) for group in groups]
                try:
                    for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                        future.result()
                except BaseException:
                    self._failed = True  # ends the other groups with their epoch
                    pool.shutdown(cancel_futures=True)
                    raise
                parts = [future.result() for future in futures]
        found = {job: outcome for part in parts for job, outcome in part.items()}
        return [found[job] for job in jobs]

    def _group(self, group: Sequence[Job]) -> dict[Job, Outcome | None]:
        """Train a group, unless all of it is beaten: what it computes together must not change."""
        found: dict[Job, Outcome | None] = dict.fromkeys(group)
        if all(map(self._is_beaten, group)):
            self._report(TrainingProgress(len(group), 0, 0.0), group)
            return found
        found |= zip(group, self._together(group), strict=True)
        for job, outcome in found.items():
            if outcome is not None and outcome.score == self._protocol.criterion.best:
                self._perfect.add((job.fold, job.number))
        self._report(TrainingProgress(0, 0, 0.0), group)
        return found

    def _is_beaten(self, job: Job) -> bool:
        """Return whether an earlier job on the same fold has a score that cannot be exceeded."""
        perfect = self._perfect.copy()  # other threads add to it
        return any(fold == job.fold and number < job.number for fold, number in perfect)

    def _together(self, group: Sequence[Job]) -> list[Outcome | None]:
        key = "-".join(f"{job.fold}.{job.number}" for job in group)
        if self._journal and (kept := self._journal.read(key)) is not None:
            self._report(TrainingProgress(len(group), 0, 0.0), group)
            return kept
        left = list(group)

        def on_training(progress: TrainingProgress) -> None:
            self._report(progress, left)
            del left[: progress.stopped]

        outcomes = train_together(
            self._task,
            group,
            self._protocol,
            self._compute,
            self._seed,
            on_training,
            self._is_beaten,
        )
        if self._journal:
            self._journal.write(key, outcomes)
        return outcomes

    def _report(self, progress: TrainingProgress, group: Sequence[Job]) -> None:
        point, active = group[0].point, len(group) - progress.stopped
        part = f"{point.hidden_layers} layers" if group[0].fold == 0 else "other folds"
        doing = f"{part}, epoch {progress.epoch}" if progress.epoch else part
        with self._lock:
            if self._failed:
                raise CancelledError
            self._done += progress.stopped
            state = EvaluationProgress(self._done + active * progress.share, self._of, doing)
            self._on_progress(state)


def _best(outcomes: Sequence[Outcome | None], criterion: Criterion) -> int:
    """Return the index of the best outcome, the first of equal ones."""
    numbers = [number for number, outcome in enumerate(outcomes) if outcome is not None]
    sign = -1 if criterion.maximise else 1
    return min(numbers, key=lambda number: sign * outcomes[number].score)  # type: ignore[union-attr]
