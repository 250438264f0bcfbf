"""The training loop: on any device, in any number of processes, and after any interruption."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hear_core.errors import ConfigError
from hear_core.runtime.heap import keep_freed_memory
from hear_train.lessons import Lesson, Lessons, Listening
from hear_train.logs import Log, open_logs
from hear_train.schedule import Schedule

_log = logging.getLogger(__name__)

_SETTINGS, _STATE = "settings.json", "state-"


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn.

    Args:
        epochs: How many.
        steps: Of an epoch.
        rate: Highest learning rate.
        schedule: Factor on it by epoch.
        decay: Weight decay of AdamW.
        clip: Longest gradient; longer ones are scaled down. 0 leaves all as they are.
        save_every: Steps between two states on disk.
        log_every: Steps between two records.
        seed: Of everything that is drawn.
    """

    epochs: int = 200
    steps: int = 100
    rate: float = 8e-4
    schedule: Schedule = field(default_factory=Schedule)
    decay: float = 0.0
    clip: float = 5.0
    save_every: int = 500
    log_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"epochs": 1, "steps": 1, "save_every": 1, "log_every": 1, "seed": 0, "rate": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                msg = f"{name} is {getattr(self, name)} in the plan; the least is {low}"
                raise ConfigError(msg)


class _Position:
    """How far a run has come, and what it will write down next; a part of its state."""

    def __init__(self) -> None:
        self.step = 0
        self.skipped: dict[str, str] = {}
        self.sums: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def state_dict(self) -> dict[str, Any]:
        numbers = {"sums": dict(self.sums), "counts": dict(self.counts)}
        return {"step": self.step, "skipped": dict(self.skipped), **numbers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step, self.skipped = int(state["step"]), dict(state["skipped"])
        self.sums, self.counts = Counter(state["sums"]), Counter(state["counts"])

    def take(self, lesson: Lesson, values: Mapping[str, float]) -> None:
        """Count a step."""
        self.step += 1
        self.skipped |= lesson.skipped
        self.sums.update(values)
        self.counts.update(values.keys())

    def means(self) -> dict[str, float]:
        """Return the means since they were last asked for, each over the steps that had it."""
        found = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = Counter(), Counter()
        return found


class Trainer:
    """Trains a module whose forward takes a lesson and returns the loss among other numbers.

    A run lives in a folder: its settings, its state every so many steps, its log. Started again,
    it goes on from its last state, with the lessons that it would have had: what is drawn depends
    on the seed and the number of the step alone.

    Args:
        module: The student, and what learns with it.
        lessons: By step, those of this process.
        plan: How to learn.
        folder: Of the run.
        accelerator: Device, precision and processes.
        listening: Applied to a lesson first, where that is not done by the lessons themselves.
        workers: Processes that make lessons; 0 makes them in this one.
        logs: More logs than the CSV file.
        settings: What the run depends on besides precision and number of processes, as JSON can
            hold it.

    Raises:
        ConfigError: The folder has a run of other settings.
    """

    def __init__(
        self,
        module: nn.Module,
        lessons: Lessons,
        plan: Plan,
        folder: Path,
        accelerator: Accelerator,
        *,
        listening: Listening | None = None,
        workers: int = 0,
        logs: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.plan, self.folder, self.accelerator = plan, folder, accelerator
        self.position = _Position()
        optimiser = torch.optim.AdamW(module.parameters(), lr=plan.rate, weight_decay=plan.decay)
        self.module, self.optimiser = accelerator.prepare(module, optimiser)
        self._lessons, self._workers, self._logs = lessons, workers, logs
        self._listening = None if listening is None else listening.to(accelerator.device)
        accelerator.register_for_checkpointing(self.position)
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            here = {
                "precision": accelerator.mixed_precision,
                "processes": accelerator.num_processes,
            }
            _check_settings(folder / _SETTINGS, {**(settings or {}), **here})
        accelerator.wait_for_everyone()
        if state := last_state(folder):
            accelerator.load_state(str(state))
            _log.info("%s: going on after step %d", folder, self.position.step)

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.plan.epochs * self.plan.steps

    def run(self, report: Callable[[int, Mapping[str, float]], None] | None = None) -> None:
        """Train to the end of the plan.

        Args:
            report: Called after every step with its number and what the module returned.
        """
        opened: AbstractContextManager[list[Log]] = nullcontext([])
        if self.accelerator.is_main_process:
            opened = open_logs(self.folder, self.position.step, self._logs)
        with keep_freed_memory(), opened as logs:
            clock, timed = time.perf_counter(), self.position.step
            self.module.train()
            for lesson in self._remaining():
                values = self._learn(lesson)
                self.position.take(lesson, values)
                step = self.position.step
                if not all(math.isfinite(value) for value in values.values()):
                    msg = f"the loss is no number after step {step}: try a lower learning rate"
                    raise ConfigError(msg)
                if report is not None:
                    report(step, values)
                if step % self.plan.log_every == 0 or step == self.total:
                    self._record(logs, (step - timed) / (time.perf_counter() - clock))
                    clock, timed = time.perf_counter(), step
                if step % self.plan.save_every == 0 or step == self.total:
                    self.save()

    def save(self) -> None:
        """Write the whole state; an earlier one stays until it is complete."""
        before = last_state(self.folder)
        target = self.folder / f"{_STATE}{self.position.step:08}"
        part = target.with_suffix(".part")
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(part))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process and before != target:
            part.replace(target)
            if before is not None:
                shutil.rmtree(before)
        self.accelerator.wait_for_everyone()

    def _learn(self, lesson: Lesson) -> dict[str, float]:
        lesson = lesson.to(self.accelerator.device)
        if self._listening is not None:
            lesson = self._listening(lesson)
        step = self.position.step
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(step)
        # What is drawn inside the network, as by dropout, depends on the step alone, too.
        torch.manual_seed(hash((self.plan.seed, lesson.number)))
        terms: dict[str, Tensor] = self.module(lesson)
        self.optimiser.zero_grad()
        self.accelerator.backward(terms["loss"])
        if self.plan.clip:
            self.accelerator.clip_grad_norm_(self.module.parameters(), self.plan.clip)
        self.optimiser.step()
        return {name: float(term.detach()) for name, term in terms.items()}

    def _record(self, logs: Sequence[Log], steps_per_second: float) -> None:
        position, processes = self.position, self.accelerator.num_processes
        # One process gives back what it is given, several a list of all of theirs.
        position.skipped = dict(gather_object([*position.skipped.items()]))
        record = position.means() | {
            "rate": self._rate(position.step - 1),
            "skipped": float(len(position.skipped)),
            "sounds_per_second": steps_per_second * self._lessons.batch * processes,
        }
        for log in logs:
            log.write(position.step, record)

    def _rate(self, step: int) -> float:
        return self.plan.rate * self.plan.schedule.factor(step // self.plan.steps)

    def _remaining(self) -> Iterator[Lesson]:
        return iter(
            DataLoader(
                self._lessons,
                batch_size=None,
                sampler=range(self.position.step, self.total),
                num_workers=self._workers,
                prefetch_factor=4 if self._workers else None,
            )
        )


def last_state(folder: Path) -> Path | None:
    """Return the last complete state of a run."""
    found = sorted(p for p in folder.glob(f"{_STATE}*") if p.suffix != ".part")
    return found[-1] if found else None


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Compare the settings of a run with those that are on disk; write them if there are none."""
    new = json.loads(json.dumps(settings))
    if path.is_file():
        old = json.loads(path.read_text(encoding="utf-8"))
        if odd := [key for key in old | new if old.get(key) != new.get(key)]:
            msg = (
                f"{path.parent} has a run with {odd[0]} {old.get(odd[0])!r}, not "
                f"{new.get(odd[0])!r}: take another folder, or the same settings to go on with it"
            )
            raise ConfigError(msg)
        return
    part = path.with_suffix(".part")
    part.write_text(json.dumps(new, indent=2), encoding="utf-8")
    part.replace(path)
