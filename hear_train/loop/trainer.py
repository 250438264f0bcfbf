"""The training loop: on any device, in any number of processes, and after any interruption."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hear_core.errors import ConfigError
from hear_core.io.files import check_or_write_settings, exclusive_lock
from hear_core.networks.backbone import Backbone
from hear_core.runtime.heap import keep_freed_memory
from hear_train.batch import Batch, BatchSource
from hear_train.loop.logs import Log, open_logs
from hear_train.loop.optimisers import OptimiserConfig
from hear_train.loop.schedules import Schedule
from hear_train.loop.states import (
    last_state,
    load_module,
    load_optimiser,
    optimiser_tensors,
    read_state,
    state_step,
    write_state,
)
from hear_train.objectives.objective import Objective

if TYPE_CHECKING:
    from accelerate import Accelerator

_log = logging.getLogger(__name__)

_SETTINGS = "settings.json"
_LOCK_HINT = "wait until that run has ended, or use another folder"


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of the training loop.

    Args:
        epochs: Number of epochs.
        steps_per_epoch: Optimiser steps of an epoch; None is one pass over the data, whose steps
            `hear_train.runs.build` counts.
        accumulate: Batches whose gradients are averaged for one step.
        grad_clip: Largest norm of the gradient; 0 disables gradient clipping.
        ema: Decay of the exponential moving average of the weights, which is then evaluated and
            saved; 0 disables it.
        validate_every: Epochs between two validations.
        patience: Validations without an improvement after which the run ends; 0 never ends it.
        save_every: Steps between two states on disk.
        log_every: Steps between two records in the logs.
        seed: Seed of all random draws.
        optimiser: Settings of the optimiser.
        schedule: Factor on the learning rates by epoch.
    """

    epochs: int = 200
    steps_per_epoch: int | None = None
    accumulate: int = 1
    grad_clip: float = 5.0
    ema: float = 0.0
    validate_every: int = 1
    patience: int = 0
    save_every: int = 500
    log_every: int = 50
    seed: int = 0
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        positive = ("epochs", "steps_per_epoch", "accumulate", "validate_every", "save_every")
        least = dict.fromkeys((*positive, "log_every"), 1)
        for name, low in {**least, "patience": 0, "seed": 0, "grad_clip": 0}.items():
            if getattr(self, name) is not None and getattr(self, name) < low:
                msg = f"{name} is {getattr(self, name)}; the least is {low}"
                raise ConfigError(msg)
        if not 0 <= self.ema < 1:
            msg = f"ema is {self.ema}; it must be at least 0 and less than 1"
            raise ConfigError(msg)


class Evaluator(Protocol):
    """Computes metrics of a network."""

    @property
    def main(self) -> str:
        """Name of the metric that selects the best checkpoint; higher is better."""

    def __call__(self, network: Backbone) -> Mapping[str, float]:
        """Return metrics by name of a network in evaluation mode."""


SaveCheckpoint = Callable[[Path, Backbone, Mapping[str, float]], None]
"""Writes the checkpoint of a network with its metrics to a path."""


class Position:
    """Progress of a run, and what it will record next."""

    def __init__(self) -> None:
        self.step = 0
        self.skipped: dict[str, str] = {}
        self.sums: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.best: dict[str, float] = {}
        self.metrics: dict[str, float] = {}
        self.without_improvement = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the progress as JSON can hold it."""
        return {**vars(self), "sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            ConfigError: A value is missing, has the wrong type or is out of range.
        """
        for name in vars(self):
            if name not in state or not _VALID[name](state[name]):
                msg = f"the state of the run does not have a valid {name!r}"
                raise ConfigError(msg)
        if not set(state["sums"]) <= set(state["counts"]):
            msg = "the state of the run has sums without counts"
            raise ConfigError(msg)
        vars(self).update({name: state[name] for name in vars(self)})
        self.sums, self.counts = Counter(state["sums"]), Counter(state["counts"])

    def take(self, skipped: Mapping[str, str], values: Mapping[str, float]) -> None:
        """Count a step."""
        self.step += 1
        self.skipped |= skipped
        self.sums.update(values)
        self.counts.update(values.keys())

    def means(self) -> dict[str, float]:
        """Return the means since the last call, each over the steps that had the value."""
        found = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = Counter(), Counter()
        return found


def _is_count(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value < 2**53


def _holds(value: Any, is_valid: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(is_valid, value.values()))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_VALID: Mapping[str, Callable[[Any], bool]] = {
    "step": _is_count,
    "skipped": lambda value: _holds(value, lambda reason: isinstance(reason, str)),
    "sums": lambda value: _holds(value, lambda total: _is_number(total) and math.isfinite(total)),
    "counts": lambda value: _holds(value, lambda count: _is_count(count, 1)),
    "best": lambda value: _holds(value, _is_number),  # a metric may be NaN
    "metrics": lambda value: _holds(value, _is_number),
    "without_improvement": _is_count,
}


class Trainer:
    """Trains an objective.

    A run has a folder with its settings, its state every so many steps, its log and its
    checkpoints: ``last.safetensors``, and ``best.safetensors`` if there is an evaluator. Started
    again, it resumes from its last state with the batches that it would have had, as all draws
    depend on the seed and the number of the step only.

    Args:
        objective: Network with its loss.
        source: Batches of this process by number.
        config: Settings of the loop.
        folder: Folder of the run.
        accelerator: Device, precision and processes.
        evaluator: Computes metrics after every `TrainerConfig.validate_every` epochs.
        preprocess: Applied to a batch on the device, if the source does not do it already.
        on_validated: Called with the number of the step after every validation, in the main
            process.
        save: Writes checkpoints; None writes none.
        on_epoch: Called with the number of the epoch, from 0, before its first step, and when a run
            resumes within it.
        workers: Processes that make batches; 0 makes them in this process.
        logs: Names of further logs, see `hear_train.loop.logs.open_logs`.
        settings: Everything that the run depends on besides precision and number of processes, as
            JSON can hold it.

    Raises:
        ConfigError: The folder has a run with other settings, or its state is damaged.
    """

    def __init__(
        self,
        objective: Objective,
        source: BatchSource,
        config: TrainerConfig,
        folder: Path,
        accelerator: Accelerator,
        *,
        evaluator: Evaluator | None = None,
        on_validated: Callable[[int], None] | None = None,
        preprocess: nn.Module | None = None,
        save: SaveCheckpoint | None = None,
        on_epoch: Sequence[Callable[[int], None]] = (),
        workers: int = 0,
        logs: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if config.steps_per_epoch is None:
            msg = "the trainer needs a number of steps per epoch"
            raise ConfigError(msg)
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self._steps = config.steps_per_epoch
        self.objective, self.position = objective, Position()
        self._source, self._workers, self._logs = source, workers, logs
        self._evaluator, self._save, self._on_epoch = evaluator, save, on_epoch
        self._on_validated = on_validated
        if accelerator.is_main_process:
            here = {
                "precision": accelerator.mixed_precision,
                "processes": accelerator.num_processes,
            }
            check_or_write_settings(
                folder, {**(settings or {}), **here}, _SETTINGS, "training states"
            )
        accelerator.wait_for_everyone()
        optimiser = config.optimiser
        groups = objective.parameter_groups(
            optimiser.lr,
            head_lr=optimiser.head_lr,
            layer_decay=optimiser.layer_decay,
            lrs=optimiser.lrs,
            frozen=optimiser.frozen,
        )
        self._module, self._optimiser = accelerator.prepare(objective, optimiser.build(groups))
        self._preprocess = None if preprocess is None else preprocess.to(accelerator.device)
        self._average: dict[str, Tensor] = {}
        if config.ema:
            self._average = {k: v.detach().clone() for k, v in objective.state_dict().items()}
        if state := last_state(folder):
            self._load(state)
            _log.info("%s: resuming after step %d", folder, self.position.step)

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * self._steps

    def run(self, report: Callable[[int, Mapping[str, float]], None] | None = None) -> Path:
        """Train until the last epoch, or until validation has not improved for too long.

        Args:
            report: Called after every step with its number and what the objective returned.

        Returns:
            The checkpoint: the best one if there is an evaluator, else the last one.

        Raises:
            ConfigError: Another process trains in the folder, the loss is not a finite number, or
                the GPU is out of memory.
        """
        main = self.accelerator.is_main_process
        with ExitStack() as stack:
            if main:
                stack.enter_context(exclusive_lock(self.folder / "run", _LOCK_HINT))
                self._check_state()
            stack.enter_context(keep_freed_memory())
            opened: AbstractContextManager[list[Log]] = nullcontext([])
            if main:
                opened = open_logs(self.folder, self.position.step, self._logs)
            logs = stack.enter_context(opened)
            with _memory_errors():
                self._train(logs, report)
            if main and self._save is not None:
                with self._averaged():
                    metrics = self.position.metrics
                    self._save(self.folder / "last.safetensors", self.objective.network, metrics)
        best = self.folder / "best.safetensors"
        return best if self.position.best and self._save else self.folder / "last.safetensors"

    def save(self) -> None:
        """Write the whole state; the previous one is kept until it is complete."""
        if self.accelerator.is_main_process:
            tensors = {
                "weights": self.objective.state_dict(),
                "optimiser": optimiser_tensors(self._plain_optimiser, self.objective),
            }
            if self._average:
                tensors["average"] = self._average
            scaler = self.accelerator.scaler
            values = {
                "position": self.position.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
            }
            write_state(self.folder, self.position.step, tensors, values)
        self.accelerator.wait_for_everyone()

    def _load(self, state: Path) -> None:
        tensors, values = read_state(state)
        needed = {"weights", "optimiser"} | ({"average"} if self._average else set())
        if missing := needed - set(tensors):
            msg = f"{state} lacks {sorted(missing)[0]}.safetensors: delete this folder to restart"
            raise ConfigError(msg)
        load_module(self.objective, tensors["weights"], state)
        load_optimiser(self._plain_optimiser, self.objective, tensors["optimiser"], state)
        for name in self._average:
            self._average[name] = tensors["average"][name].to(self.accelerator.device)
        position = values.get("position")
        try:
            self.position.load_state_dict(position if isinstance(position, dict) else {})
            if self.position.step != state_step(state):
                msg = f"the state of the run is that of step {self.position.step}"
                raise ConfigError(msg)
            if self.accelerator.scaler is not None and values.get("scaler"):
                _load_scaler(self.accelerator.scaler, values["scaler"])
        except ConfigError as error:
            msg = f"{state}: {error}. Delete this folder to restart."
            raise ConfigError(msg) from error

    def _check_state(self) -> None:
        """Check that no other process has continued the run since its state was loaded."""
        state = last_state(self.folder)
        if state is not None and state_step(state) > self.position.step:
            msg = f"another process has continued the run in {self.folder}: {_LOCK_HINT}"
            raise ConfigError(msg)

    def _train(
        self, logs: Sequence[Log], report: Callable[[int, Mapping[str, float]], None] | None
    ) -> None:
        config, position = self.config, self.position
        clock, timed = time.perf_counter(), position.step
        self._module.train()
        batches = self._remaining()
        epoch = -1
        while position.step < self.total and not self._exhausted():
            if position.step // self._steps != epoch:
                epoch = position.step // self._steps
                for hook in self._on_epoch:
                    hook(epoch)
            values, skipped = self._step(batches)
            position.take(skipped, values)
            step = position.step
            if not all(math.isfinite(value) for value in values.values()):
                msg = (
                    f"the loss is not a finite number after step {step}: try a lower learning rate "
                    "(optimiser.lr)"
                )
                raise ConfigError(msg)
            if report is not None:
                report(step, values)
            last = step == self.total
            if step % config.log_every == 0 or last:
                self._record(logs, (step - timed) / (time.perf_counter() - clock))
                clock, timed = time.perf_counter(), step
            epochs, within = divmod(step, self._steps)
            if not within and self._evaluator and (epochs % config.validate_every == 0 or last):
                self._validate(logs, self._evaluator)
                clock = time.perf_counter()
            if step % config.save_every == 0 or last or self._exhausted():
                self.save()

    def _step(self, batches: Iterator[Batch]) -> tuple[dict[str, float], dict[str, str]]:
        """Make one step of the optimiser, and return the mean terms and the skipped clips."""
        step, count = self.position.step, self.config.accumulate
        factor = self._factor(step)
        for group in self._optimiser.param_groups:
            group["lr"] = group["max_lr"] * factor
        sums: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        skipped: dict[str, str] = {}
        self._optimiser.zero_grad()
        for index in range(count):
            batch = next(batches).to(self.accelerator.device)
            skipped |= batch.skipped
            if self._preprocess is not None:
                batch = self._preprocess(batch)
            # Draws inside the network, as by dropout, depend on the step alone as well.
            torch.manual_seed(hash((self.config.seed, batch.step)))
            waits = index + 1 < count  # several processes exchange gradients with the last one
            with self.accelerator.no_sync(self._module) if waits else nullcontext():
                terms: dict[str, Tensor] = self._module(batch)
                self.accelerator.backward(terms["loss"] / count)
            values = {name: float(term.detach()) for name, term in terms.items()}
            sums.update(values)
            counts.update(values.keys())
        if self.config.grad_clip:
            self.accelerator.clip_grad_norm_(self._module.parameters(), self.config.grad_clip)
        self._optimiser.step()
        for name, value in self.objective.state_dict().items() if self._average else ():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - self.config.ema)
            else:
                self._average[name].copy_(value)
        return {name: total / counts[name] for name, total in sums.items()}, skipped

    def _factor(self, step: int) -> float:
        """Return the factor on the learning rates at a step, counted from 0."""
        return self.config.schedule.factor(step, self._steps, self.config.epochs)

    def _record(self, logs: Sequence[Log], steps_per_second: float) -> None:
        from accelerate.utils import gather_object

        position, processes = self.position, self.accelerator.num_processes
        # One process gets back what it gives, several a list of what all of them give.
        position.skipped = dict(gather_object([*position.skipped.items()]))
        clips = self._source.batch_size * self.config.accumulate * processes
        record = position.means() | {
            "lr": self.config.optimiser.lr * self._factor(position.step - 1),
            "skipped": float(len(position.skipped)),
            "clips_per_second": steps_per_second * clips,
        }
        for log in logs:
            log.write(position.step, record)

    def _validate(self, logs: Sequence[Log], evaluator: Evaluator) -> None:
        from accelerate.utils import broadcast_object_list

        position, found = self.position, [dict[str, float]()]
        if self.accelerator.is_main_process:
            self._module.eval()
            with self._averaged():
                found[0] = dict(evaluator(self.objective.network))
                if self._on_validated is not None:
                    self._on_validated(position.step)
                main = found[0][evaluator.main]
                better = main > position.best.get(evaluator.main, -math.inf)
                if better and self._save is not None:
                    path = self.folder / "best.safetensors"
                    self._save(path, self.objective.network, found[0])
            self._module.train()
        if self.accelerator.num_processes > 1:
            broadcast_object_list(found)
        position.metrics = found[0]
        if found[0][evaluator.main] > position.best.get(evaluator.main, -math.inf):
            position.best, position.without_improvement = found[0], 0
        else:
            position.without_improvement += 1
        for log in logs:
            log.write(position.step, found[0])

    def _exhausted(self) -> bool:
        patience = self.config.patience
        return bool(patience) and self.position.without_improvement >= patience

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Give the network the average of its weights for a while, if there is one."""
        if not self._average:
            yield
            return
        own = {name: value.clone() for name, value in self.objective.state_dict().items()}
        self.objective.load_state_dict(self._average)
        try:
            yield
        finally:
            self.objective.load_state_dict(own)

    @property
    def _plain_optimiser(self) -> torch.optim.Optimizer:
        return cast("torch.optim.Optimizer", self._optimiser.optimizer)

    def _remaining(self) -> Iterator[Batch]:
        count = self.config.accumulate
        return iter(
            DataLoader(
                cast("Any", self._source),
                batch_size=None,
                sampler=range(self.position.step * count, self.total * count),
                num_workers=self._workers,
                prefetch_factor=4 if self._workers else None,
                collate_fn=cast("Any", _as_it_is),
            )
        )


def _load_scaler(scaler: Any, state: Any) -> None:
    wanted = scaler.state_dict()
    if not isinstance(state, dict) or set(state) != set(wanted) or not _holds(state, _is_number):
        msg = "the state of the run does not have a valid 'scaler'"
        raise ConfigError(msg)
    scaler.load_state_dict(state)


def _as_it_is(batch: Batch) -> Batch:
    return batch


@contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        msg = (
            "the GPU is out of memory: use a smaller data.batch_size, and trainer.accumulate to "
            f"keep the number of clips of a step ({str(error).splitlines()[0]})"
        )
        raise ConfigError(msg) from error
