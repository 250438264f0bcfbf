"""Training of predictors on embeddings: those of one shape together, each until it stops itself.

Rows are never shuffled, since heareval does so only for a name that it never passes. What cannot
change which predictor is the best is not computed: one whose score cannot get better stops, as do
those that could at most be as good and come after it in the grid.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hear_core.io.threads import torch_threads
from hear_eval.downstream.early_stopping import Candidate, Criterion, Job, Outcome, criterion_of
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.judging import Verdict, judge
from hear_eval.downstream.predictors import Arithmetic, Loss, Predictors
from hear_eval.tasks.description import TaskError

_ROWS = 1024  # that predictions are made for at once
# Rows of all predictors in a step, without and with a GPU; more take memory, and are not faster.
_MOST_ROWS = (512, 65536)
_SMALL = 2e7  # multiplications of a step that take one thread less than a millisecond


class Progress(NamedTuple):
    """How far training is.

    Args:
        stopped: Predictors that stopped since the last time.
        epoch: That the others are in.
        share: Of the epochs that there can be at most.
    """

    stopped: int
    epoch: int
    share: float


OnProgress = Callable[[Progress], None]


def groups_of(task: EmbeddedTask, jobs: Sequence[Job]) -> list[list[Job]]:
    """Part jobs into groups to be trained together: of one shape, and not more than is faster."""
    shapes: dict[tuple[float, ...], list[Job]] = {}
    for job in jobs:
        point, rows = job.point, len(training_rows(task, job.fold))
        units, batch = (point.hidden_layers, point.hidden_dim), min(point.batch_size, rows)
        shapes.setdefault((*units, point.dropout, point.batch_size, rows, batch), []).append(job)
    groups = []
    most = _MOST_ROWS[task.embeddings.device.type == "cuda"]
    for shape, alike in sorted(shapes.items()):  # few layers first: they are fast
        size = max(1, int(most // shape[-1]))
        groups += [alike[i : i + size] for i in range(0, len(alike), size)]
    return groups


def train_together(
    task: EmbeddedTask,
    jobs: Sequence[Job],
    arithmetic: Arithmetic,
    seed: int = 42,
    on_progress: OnProgress = lambda _: None,
) -> list[Outcome | None]:
    """Train predictors of one shape; see `groups_of`.

    Args:
        task: With its embeddings where, and of the type in which, they are computed with.
        jobs: What is to be trained, in the order of the grid.
        arithmetic: How it is computed.
        seed: Of the weights and of dropout.
        on_progress: Is told of every epoch.

    Returns:
        The outcome of each job; None if an earlier one on its fold cannot be surpassed.

    Raises:
        TaskError: Training ends before the first validation, or there is too little to train on.
    """
    longest = max(job.point.max_epochs for job in jobs)
    point, rows = jobs[0].point, len(training_rows(task, jobs[0].fold))
    sizes = min(rows, point.batch_size), task.embeddings.shape[1], point.hidden_dim
    # What is too small for several threads is computed by one, for they would wait for each other.
    small = math.prod(sizes) * len(jobs) < _SMALL
    with torch_threads(1 if small else torch.get_num_threads()):
        run = _Run(task, jobs, arithmetic, seed)
        for epoch in range(longest):
            run.train()
            run.validate(epoch)
            stopped = run.let_go(epoch)
            on_progress(Progress(stopped, epoch + 1, (epoch + 1) / longest))
            if not run.active:
                break
        return run.outcomes()


class _Run:
    """Predictors in training. Those in `active` are computed, in this order."""

    def __init__(
        self, task: EmbeddedTask, jobs: Sequence[Job], arithmetic: Arithmetic, seed: int
    ) -> None:
        description = task.description
        multiclass = description.prediction_type == "multiclass"
        self._start = time.perf_counter()
        self._name, self._folds = description.name, description.folds
        self._criterion, self._loss = criterion_of(task), Loss(multiclass=multiclass)
        targets = self._loss.targets(task.targets)
        used = [description.folds[job.fold] for job in jobs]
        self._splits = {
            name: _Split(task, name, self._loss, targets)
            for name in {split for fold in used for split in (*fold.valid, *fold.test)}
        }
        self._batches = _Batches(task, targets, jobs)
        self._predictors = Predictors(
            [job.point for job in jobs],
            task.embeddings.shape[1],
            len(description.vocabulary),
            [_seed(seed, job.fold, job.number) for job in jobs],
            arithmetic,
        )
        self._random = np.random.Generator(np.random.SFC64(_seed(seed, *jobs[0][:2], 1)))
        worst = -math.inf if self._criterion.maximise else math.inf
        self._candidates = [Candidate(job, worst) for job in jobs]
        self.active = list(self._candidates)

    def train(self) -> None:
        """Train for an epoch."""
        for rows, targets in self._batches:
            masks = self._predictors.masks(rows.shape[-2], self._random)
            self._predictors.train_step(rows, targets, masks, self._loss)

    def validate(self, epoch: int) -> None:
        """Validate those that it is time for; those that are better than before are tested."""
        due: dict[int, list[int]] = {}
        for i, candidate in enumerate(self.active):
            if not (epoch + 1) % candidate.job.point.check_val_every_n_epoch:
                due.setdefault(candidate.job.fold, []).append(i)
        for number, index in due.items():
            (valid,), (test,) = self._folds[number].valid, self._folds[number].test
            logits = self._splits[valid].logits(self._predictors, index)
            verdicts = self._splits[valid].judge(logits, self._criterion)
            improved = [
                i
                for i, verdict in zip(index, verdicts, strict=True)
                if self.active[i].take(*verdict, epoch, self._criterion)
            ]
            if improved:
                found = self._splits[test].logits(self._predictors, improved)
                for i, each in zip(improved, found, strict=True):
                    self.active[i].logits = each.cpu().numpy()

    def let_go(self, epoch: int) -> int:
        """Stop those that are at their end or that cannot be chosen, and return their number."""
        kept = []
        for i, candidate in enumerate(self.active):
            candidate.minutes = (time.perf_counter() - self._start) / 60
            candidate.beaten = any(map(self._surpasses, self._before(candidate)))
            if not (
                candidate.beaten or candidate.stops or candidate.job.point.max_epochs <= epoch + 1
            ):
                kept.append(i)
        if let_go := len(self.active) - len(kept):
            self.active = [self.active[i] for i in kept]
            self._predictors.keep(kept)
            self._batches.keep(kept)
        return let_go

    def _before(self, candidate: Candidate) -> Iterator[Candidate]:
        """Yield those on the same fold that come before one in the grid."""
        for other in self._candidates:
            if other.job.fold == candidate.job.fold and other.job.number < candidate.job.number:
                yield other

    def _surpasses(self, candidate: Candidate) -> bool:
        return candidate.best == self._criterion.best

    def outcomes(self) -> list[Outcome | None]:
        """Return what became of all.

        Raises:
            TaskError: One was never validated.
        """
        found: list[Outcome | None] = []
        for candidate in self._candidates:
            if candidate.beaten:
                found.append(None)
            elif candidate.logits is None:
                point = candidate.job.point
                msg = (
                    f"{self._name}: {point.max_epochs} epochs end before the first validation, "
                    f"which is after {point.check_val_every_n_epoch}"
                )
                raise TaskError(msg)
            else:
                found.append(candidate.outcome(candidate.logits))
        return found


class _Split:
    """A split to validate or test on."""

    def __init__(self, task: EmbeddedTask, name: str, loss: Loss, targets: Tensor) -> None:
        self._embeddings = task.embeddings[task.rows[name]]
        self._targets, self._loss = targets[task.rows[name]], loss
        self._judge = judge(task, name)

    def logits(self, predictors: Predictors, index: Sequence[int]) -> Tensor:
        parts = self._embeddings.split(_ROWS)
        return torch.cat([predictors.predict(rows, index).mT for rows in parts], 1)

    def judge(self, logits: Tensor, criterion: Criterion) -> list[Verdict]:
        if criterion.by_loss:
            losses = self._loss(logits.mT, self._targets).tolist()
            return [Verdict(value, self._judge.setting) for value in losses]
        return self._judge.validate(self._loss.probabilities(logits).cpu().numpy())


class _Batches:
    """The batches of an epoch, always the same ones.

    A last batch of one row is left out, since it has no variance.
    """

    def __init__(self, task: EmbeddedTask, targets: Tensor, jobs: Sequence[Job]) -> None:
        self._embeddings, self._targets = task.embeddings, targets
        self._size = jobs[0].point.batch_size
        rows = [training_rows(task, job.fold) for job in jobs]
        if min(self._size, len(rows[0])) < 2:
            msg = f"{task.description.name} has one row in a batch to train on; two are the least"
            raise TaskError(msg)
        self._rows = torch.from_numpy(np.stack(rows)).to(targets.device)
        self._shared = len({job.fold for job in jobs}) == 1
        self._only: tuple[Tensor, Tensor] | None = None

    def keep(self, index: Sequence[int]) -> None:
        """Let go of the rows of all predictors but some."""
        self._rows, self._only = self._rows[index], None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        parts = [rows for rows in self._rows.split(self._size, 1) if rows.shape[1] > 1]
        if len(parts) == 1:  # which is gathered once
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
    """Return the rows that a fold trains on, in the order of its splits."""
    parts = (task.rows[split] for split in task.description.folds[fold].train)
    return np.concatenate([np.arange(part.start, part.stop) for part in parts])


def _seed(*numbers: int) -> int:
    """Return a seed of its own for every combination of numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
