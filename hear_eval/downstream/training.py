"""Training of predictors on embeddings: those of one shape together, each with early stopping.

Rows are never shuffled, since heareval shuffles only under a name that it never passes. What cannot
change which predictor is the best is not computed: training ends once a score cannot be exceeded,
also of predictors that come later in the grid and could only be as good.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hear_core.io.threads import torch_threads
from hear_eval.downstream.early_stopping import EarlyStopping
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.predictors import DeviceAndDtype, Loss, Predictors
from hear_eval.downstream.protocol import Criterion, Job, Outcome, Protocol
from hear_eval.downstream.scoring import Scorer, ValidationScore
from hear_eval.tasks.description import TaskError

_ROWS = 1024  # rows that are predicted at once
# Rows of all predictors in a step, without and with a GPU; more take memory, and are not faster.
_MOST_ROWS = (512, 65536)
_SMALL = 2e7  # multiplications in a step that one thread computes in less than a millisecond


class TrainingProgress(NamedTuple):
    """The progress of training predictors.

    Args:
        stopped: Number of predictors that stopped since the last call.
        epoch: Number of epochs of the others.
        share: These as a share of the largest number of epochs.
    """

    stopped: int
    epoch: int
    share: float


OnTraining = Callable[[TrainingProgress], None]


def group_jobs(task: EmbeddedTask, jobs: Sequence[Job]) -> list[list[Job]]:
    """Divide jobs into groups to train together: of one shape, and as large as it is faster."""
    shapes: dict[tuple[float, ...], list[Job]] = {}
    for job in jobs:
        point, rows = job.point, len(training_rows(task, job.fold))
        units, batch = (point.hidden_layers, point.hidden_dim), min(point.batch_size, rows)
        shapes.setdefault((*units, point.dropout, point.batch_size, rows, batch), []).append(job)
    groups = []
    most = _MOST_ROWS[task.embeddings.device.type == "cuda"]
    for shape, alike in sorted(shapes.items()):  # few layers first, which are fast
        size = max(1, int(most // shape[-1]))
        groups += [alike[i : i + size] for i in range(0, len(alike), size)]
    return groups


def train_together(
    task: EmbeddedTask,
    jobs: Sequence[Job],
    protocol: Protocol,
    compute: DeviceAndDtype,
    seed: int = 42,
    on_progress: OnTraining = lambda _: None,
    is_beaten: Callable[[Job], bool] = lambda _: False,
) -> list[Outcome | None]:
    """Train predictors of one shape; see `group_jobs`.

    Args:
        task: Task with its embeddings on the device and in the type to compute with.
        jobs: Predictors to train, in the order of the grid.
        protocol: Protocol by which they are validated.
        compute: Device and type to compute with.
        seed: Seed of the weights and of dropout.
        on_progress: Called after every epoch.
        is_beaten: Whether an earlier predictor, which is not among `jobs`, cannot be exceeded. Once
            this holds for all that are left, training ends.

    Returns:
        The outcome of each job; None if an earlier one on its fold cannot be exceeded.

    Raises:
        TaskError: Training ends before the first validation, or has too few rows.
    """
    longest = max(job.point.max_epochs for job in jobs)
    point, rows = jobs[0].point, len(training_rows(task, jobs[0].fold))
    sizes = min(rows, point.batch_size), task.embeddings.shape[1], point.hidden_dim
    # Several threads would only wait for each other in steps that are this small.
    small = math.prod(sizes) * len(jobs) < _SMALL
    with torch_threads(1) if small else nullcontext():
        training = _Training(task, jobs, protocol, compute, seed)
        for epoch in range(longest):
            training.train()
            training.validate(epoch)
            stopped = training.stop(epoch, is_beaten)
            on_progress(TrainingProgress(stopped, epoch + 1, (epoch + 1) / longest))
            if not training.active:
                break
        return training.outcomes()


class _Training:
    """Predictors in training. Those in `active` are computed, in this order."""

    def __init__(
        self,
        task: EmbeddedTask,
        jobs: Sequence[Job],
        protocol: Protocol,
        compute: DeviceAndDtype,
        seed: int,
    ) -> None:
        description = task.description
        multiclass = description.prediction_type == "multiclass"
        self._start = time.perf_counter()
        self._name, self._folds = description.name, description.folds
        self._criterion, self._loss = protocol.criterion, Loss(multiclass=multiclass)
        targets = self._loss.targets(task.targets)
        used = [description.folds[job.fold] for job in jobs]
        self._splits = {
            name: _Split(task, name, self._loss, targets, protocol.scorers[name])
            for name in {split for fold in used for split in (*fold.valid, *fold.test)}
        }
        self._batches = _Batches(task, targets, jobs)
        self._predictors = Predictors(
            [job.point for job in jobs],
            task.embeddings.shape[1],
            len(description.vocabulary),
            [_seed(seed, job.fold, job.number) for job in jobs],
            compute,
        )
        self._random = np.random.Generator(np.random.SFC64(_seed(seed, *jobs[0][:2], 1)))
        worst = -math.inf if self._criterion.maximise else math.inf
        self._states = [EarlyStopping(job, worst) for job in jobs]
        self.active = list(self._states)

    def train(self) -> None:
        """Train for an epoch."""
        for rows, targets in self._batches:
            masks = self._predictors.masks(rows.shape[-2], self._random)
            self._predictors.train_step(rows, targets, masks, self._loss)

    def validate(self, epoch: int) -> None:
        """Validate the predictors that are due; test those that improved."""
        due: dict[int, list[int]] = {}
        for i, state in enumerate(self.active):
            if not (epoch + 1) % state.job.point.check_val_every_n_epoch:
                due.setdefault(state.job.fold, []).append(i)
        for number, index in due.items():
            (valid,), (test,) = self._folds[number].valid, self._folds[number].test
            logits = self._splits[valid].logits(self._predictors, index)
            validated = self._splits[valid].validate(logits, self._criterion)
            improved = [
                i
                for i, score in zip(index, validated, strict=True)
                if self.active[i].update(*score, epoch, self._criterion)
            ]
            if improved:
                found = self._splits[test].logits(self._predictors, improved)
                for i, each in zip(improved, found, strict=True):
                    self.active[i].logits = each.cpu().numpy()

    def stop(self, epoch: int, is_beaten: Callable[[Job], bool]) -> int:
        """Stop predictors that are done or cannot be the best, and return their number."""
        kept = []
        all_beaten = all(is_beaten(state.job) for state in self.active)
        for i, state in enumerate(self.active):
            state.minutes = (time.perf_counter() - self._start) / 60
            state.beaten = all_beaten or any(map(self._is_perfect, self._before(state)))
            if not (state.beaten or state.stops or state.job.point.max_epochs <= epoch + 1):
                kept.append(i)
        if stopped := len(self.active) - len(kept):
            self.active = [self.active[i] for i in kept]
            self._predictors.keep(kept)
            self._batches.keep(kept)
        return stopped

    def _before(self, state: EarlyStopping) -> Iterator[EarlyStopping]:
        """Yield those on the same fold that come earlier in the grid."""
        for other in self._states:
            if other.job.fold == state.job.fold and other.job.number < state.job.number:
                yield other

    def _is_perfect(self, state: EarlyStopping) -> bool:
        return state.best == self._criterion.best

    def outcomes(self) -> list[Outcome | None]:
        """Return the outcomes of all predictors.

        Raises:
            TaskError: One was never validated.
        """
        found: list[Outcome | None] = []
        for state in self._states:
            if state.beaten:
                found.append(None)
            elif state.logits is None:
                point = state.job.point
                msg = (
                    f"{self._name}: {point.max_epochs} epochs end before the first validation, "
                    f"which is after {point.check_val_every_n_epoch}"
                )
                raise TaskError(msg)
            else:
                found.append(state.outcome(state.logits))
        return found


class _Split:
    """A split to validate or test on."""

    def __init__(
        self, task: EmbeddedTask, name: str, loss: Loss, targets: Tensor, scorer: Scorer
    ) -> None:
        self._embeddings = task.embeddings[task.rows[name]]
        self._targets, self._loss = targets[task.rows[name]], loss
        self._scorer = scorer

    def logits(self, predictors: Predictors, index: Sequence[int]) -> Tensor:
        parts = self._embeddings.split(_ROWS)
        return torch.cat([predictors.predict(rows, index).mT for rows in parts], 1)

    def validate(self, logits: Tensor, criterion: Criterion) -> list[ValidationScore]:
        if criterion.by_loss:
            losses = self._loss(logits.mT, self._targets).tolist()
            return [ValidationScore(value, self._scorer.setting) for value in losses]
        return self._scorer.validate(self._loss.probabilities(logits).cpu().numpy())


class _Batches:
    """The batches of an epoch, which are the same in every epoch.

    A last batch of one row is left out, since it has no variance.
    """

    def __init__(self, task: EmbeddedTask, targets: Tensor, jobs: Sequence[Job]) -> None:
        self._embeddings, self._targets = task.embeddings, targets
        self._size = jobs[0].point.batch_size
        rows = [training_rows(task, job.fold) for job in jobs]
        if min(self._size, len(rows[0])) < 2:
            msg = f"{task.description.name} has one row in a training batch, but needs two"
            raise TaskError(msg)
        self._rows = torch.from_numpy(np.stack(rows)).to(targets.device)
        self._shared = len({job.fold for job in jobs}) == 1
        self._only: tuple[Tensor, Tensor] | None = None

    def keep(self, index: Sequence[int]) -> None:
        """Keep the rows of some predictors only."""
        self._rows, self._only = self._rows[index], None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        parts = [rows for rows in self._rows.split(self._size, 1) if rows.shape[1] > 1]
        if len(parts) == 1:  # gathered once
            self._only = self._only or self._gather(parts[0])
            yield self._only
        else:
            yield from map(self._gather, parts)

    def _gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        index: Tensor | slice = rows
        if self._shared:
            index = rows[0]
            if (index.diff() == 1).all():  # nothing to copy
                index = slice(int(index[0]), int(index[-1]) + 1)
        return self._embeddings[index], self._targets[index]


def training_rows(task: EmbeddedTask, fold: int) -> np.ndarray:
    """Return the indices of the training rows of a fold, in the order of its splits."""
    parts = (task.rows[split] for split in task.description.folds[fold].train)
    return np.concatenate([np.arange(part.start, part.stop) for part in parts])


def _seed(*numbers: int) -> int:
    """Return a different seed for every combination of numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
