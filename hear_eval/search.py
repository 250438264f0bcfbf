"""Search for the taps that make the best embedding.

A task is embedded once, with all taps. Every combination of taps is some of the columns of that
embedding, evaluated by `hear_eval.downstream.evaluation`.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, combinations
from pathlib import Path
from typing import NamedTuple

from hear_core.errors import ConfigError
from hear_core.io.files import atomic_write
from hear_core.io.journal import Journal
from hear_core.metrics.registry import METRICS
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.evaluation import DEFAULT, EvaluationSettings, evaluate_task
from hear_eval.downstream.result_files import fingerprint
from hear_eval.downstream.results import primary_score

Columns = Sequence[int]


class TapCombination(NamedTuple):
    """A combination of the parts of an embedding, and its scores.

    Args:
        parts: Names of the parts.
        dimensions: Number of dimensions of the parts together.
        scores: Main metric on the test split, by task.
    """

    parts: tuple[str, ...]
    dimensions: int
    scores: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Mean of the scores over the tasks."""
        return sum(self.scores.values()) / len(self.scores)


class SearchProgress(NamedTuple):
    """Evaluations that are done, the largest number of all, and the next combination and task."""

    done: int
    of: int
    parts: tuple[str, ...]
    task: str


def search_taps(
    tasks: Sequence[EmbeddedTask],
    parts: Mapping[str, Columns],
    settings: EvaluationSettings = DEFAULT,
    *,
    max_combinations: int = 63,
    journal: Path | None = None,
    on_progress: Callable[[SearchProgress], None] = lambda _: None,
) -> list[TapCombination]:
    """Evaluate combinations of the parts of an embedding.

    All combinations are tried if there are not too many. Otherwise the search is greedy: each part
    is tried alone, the best of them with each of the others, and so on.

    Args:
        tasks: Tasks, embedded with all parts, with a main metric for which higher is better.
        parts: Columns of the embeddings, by the name of the part.
        settings: Settings of the evaluation.
        max_combinations: Largest number of combinations to try, at least the number of parts.
        journal: File that records what is evaluated, so that an interrupted search can be resumed.
        on_progress: Called before every evaluation.

    Returns:
        The combinations, in the order in which they were tried.

    Raises:
        ConfigError: There are no tasks, no parts or two tasks of one name, too few combinations are
            allowed, or lower is better for the main metric of a task.
        TaskError: A task cannot be evaluated.
    """
    _check(tasks, parts, max_combinations)
    bench = _Bench(tasks, parts, settings, journal, on_progress)
    names = list(parts)
    if 2 ** len(names) - 1 <= max_combinations:
        subsets = chain.from_iterable(combinations(names, n + 1) for n in range(len(names)))
        bench.of = (2 ** len(names) - 1) * len(tasks)
        return [bench.measure(subset) for subset in subsets]
    found: list[TapCombination] = []
    bench.of = sum(range(1, len(names) + 1)) * len(tasks)
    chosen: tuple[str, ...] = ()
    while (
        len(found) + len(left := [name for name in names if name not in chosen]) <= max_combinations
        and left
    ):
        level = [bench.measure(_ordered((*chosen, name), names)) for name in left]
        chosen = max(level, key=lambda candidate: candidate.mean).parts
        found += level
    return found


def pareto_front(candidates: Sequence[TapCombination]) -> list[TapCombination]:
    """Return the combinations that no other exceeds with as few dimensions, the smallest first."""
    best: list[TapCombination] = []
    for candidate in sorted(candidates, key=lambda c: (c.dimensions, -c.mean)):
        if not best or candidate.mean > best[-1].mean:
            best.append(candidate)
    return best


def write_combinations(path: Path, found: Sequence[TapCombination]) -> None:
    """Write combinations into a CSV table, the best first.

    Args:
        path: File to write.
        found: Combinations that `search_taps` returned.

    Raises:
        FileError: The file cannot be written.
    """
    best = pareto_front(found)
    header = ["taps", "dimensions", "mean", *found[0].scores, "best of its size"]
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for each in sorted(found, key=lambda combination: -combination.mean):
            row = [" ".join(each.parts), each.dimensions, each.mean, *each.scores.values()]
            writer.writerow([*row, int(each in best)])


def _ordered(parts: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in parts)


def _check(
    tasks: Sequence[EmbeddedTask], parts: Mapping[str, Columns], max_combinations: int
) -> None:
    if not tasks or not parts:
        msg = f"a search needs tasks and parts, but there are {len(tasks)} and {len(parts)}"
        raise ConfigError(msg)
    if max_combinations < len(parts):
        msg = f"{max_combinations} combinations are not enough to try each of {len(parts)} parts"
        raise ConfigError(msg)
    names = [task.description.name for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"there are several tasks named {twice[0]}"
        raise ConfigError(msg)
    for task in tasks:
        score = task.description.evaluation[0]
        if not METRICS[score].maximise:
            msg = f"{task.description.name} is scored by {score}, for which lower is better"
            raise ConfigError(msg)


class _Bench:
    """Evaluates combinations whose scores are not in the journal."""

    def __init__(
        self,
        tasks: Sequence[EmbeddedTask],
        parts: Mapping[str, Columns],
        settings: EvaluationSettings,
        journal: Path | None,
        on_progress: Callable[[SearchProgress], None],
    ) -> None:
        self._tasks, self._parts, self._settings = tasks, parts, settings
        self._journal = Journal(journal) if journal else None
        self._on_state = on_progress
        self._keys = [self._key(task) for task in tasks]
        self._known = _known(self._journal) if self._journal else {}
        self.of, self._done = 0, 0

    def measure(self, names: tuple[str, ...]) -> TapCombination:
        columns = [column for name in names for column in self._parts[name]]
        scores = {}
        for task, key in zip(self._tasks, self._keys, strict=True):
            name = task.description.name
            self._on_state(SearchProgress(self._done, self.of, names, name))
            entry = hashlib.sha256(f"{key} {columns}".encode()).hexdigest()
            if entry not in self._known:
                found = evaluate_task(task.columns(columns), self._settings)
                self._known[entry] = primary_score(found.scores)
                self._keep(entry, names, name)
            scores[name] = self._known[entry]
            self._done += 1
        return TapCombination(names, len(columns), scores)

    def _key(self, task: EmbeddedTask) -> str:
        key = json.dumps([self._settings._asdict(), task.description.metadata])
        return f"{fingerprint(task)} {key}"

    def _keep(self, entry: str, names: Sequence[str], task: str) -> None:
        if self._journal:
            score = self._known[entry]
            line = {"key": entry, "parts": list(names), "task": task, "score": score}
            self._journal.append(line)


def _known(journal: Journal) -> dict[str, float]:
    """Return the scores in a journal by key, without entries that are not of this kind."""
    found = {}
    for entry in journal.read():
        with suppress(TypeError, KeyError, ValueError):
            found[entry["key"]] = float(entry["score"])
    return found
