"""Which taps make the best embedding: parts of an embedding, evaluated alone and together.

A task is embedded once, with all taps. Every candidate is then some of the columns of what there
is, evaluated as `hear_eval.downstream.evaluation` does it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, combinations
from pathlib import Path
from typing import NamedTuple

from hear_core.errors import ConfigError
from hear_core.io.journal import Journal
from hear_core.metrics.registry import METRICS
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.evaluation import DEFAULT, Options, evaluate_task
from hear_eval.downstream.files import fingerprint
from hear_eval.downstream.results import primary_score

Columns = Sequence[int]


class Candidate(NamedTuple):
    """Some parts of an embedding, and what they are worth.

    Args:
        parts: Their names.
        dimensions: Of the embedding that they make.
        scores: Primary test scores, by task.
    """

    parts: tuple[str, ...]
    dimensions: int
    scores: Mapping[str, float]

    @property
    def mean(self) -> float:
        """The mean of its scores."""
        return sum(self.scores.values()) / len(self.scores)


class State(NamedTuple):
    """How far a search is: evaluations that are done, how many there are at most, what is next."""

    done: int
    of: int
    parts: tuple[str, ...]
    task: str


def search(
    tasks: Sequence[EmbeddedTask],
    parts: Mapping[str, Columns],
    options: Options = DEFAULT,
    *,
    most: int = 63,
    journal: Path | None = None,
    on_state: Callable[[State], None] = lambda _: None,
) -> list[Candidate]:
    """Evaluate combinations of the parts of an embedding.

    All combinations are tried if they are not too many. Else each part is tried alone, the best of
    them with each of the others, and so on, which finds what adds most to what there is.

    Args:
        tasks: Embedded with all parts, whose primary scores are the better the higher.
        parts: Columns of the embeddings, by the name of the part.
        options: How tasks are evaluated.
        most: Most combinations to try, at least as many as there are parts.
        journal: A file that keeps what is evaluated, so that a search that was cut off goes on.
        on_state: Is told what is evaluated next.

    Returns:
        What was tried, in that order.

    Raises:
        ConfigError: There are no tasks, no parts or two of one name, too few combinations are
            allowed, or the lower the primary score of a task the better.
        TaskError: A task cannot be evaluated.
    """
    _check(tasks, parts, most)
    bench = _Bench(tasks, parts, options, journal, on_state)
    names = list(parts)
    if 2 ** len(names) - 1 <= most:
        subsets = chain.from_iterable(combinations(names, n + 1) for n in range(len(names)))
        bench.of = (2 ** len(names) - 1) * len(tasks)
        return [bench.measure(subset) for subset in subsets]
    found: list[Candidate] = []
    bench.of = sum(range(1, len(names) + 1)) * len(tasks)
    chosen: tuple[str, ...] = ()
    while len(found) + len(left := [name for name in names if name not in chosen]) <= most and left:
        level = [bench.measure(_ordered((*chosen, name), names)) for name in left]
        chosen = max(level, key=lambda candidate: candidate.mean).parts
        found += level
    return found


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those that none is better than at as few dimensions, the smallest first."""
    best: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.dimensions, -c.mean)):
        if not best or candidate.mean > best[-1].mean:
            best.append(candidate)
    return best


def _ordered(parts: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in parts)


def _check(tasks: Sequence[EmbeddedTask], parts: Mapping[str, Columns], most: int) -> None:
    if not tasks or not parts:
        msg = f"a search takes tasks and parts, and there are {len(tasks)} and {len(parts)}"
        raise ConfigError(msg)
    if most < len(parts):
        msg = f"{most} combinations are not enough to try each of {len(parts)} parts"
        raise ConfigError(msg)
    names = [task.description.name for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"there are several tasks called {twice[0]}"
        raise ConfigError(msg)
    for task in tasks:
        score = task.description.evaluation[0]
        if not METRICS[score].maximise:
            msg = f"{task.description.name} is scored by {score}, the lower the better: no mean"
            raise ConfigError(msg)


class _Bench:
    """Evaluates combinations, unless the journal has what came of them."""

    def __init__(
        self,
        tasks: Sequence[EmbeddedTask],
        parts: Mapping[str, Columns],
        options: Options,
        journal: Path | None,
        on_state: Callable[[State], None],
    ) -> None:
        self._tasks, self._parts, self._options = tasks, parts, options
        self._journal = Journal(journal) if journal else None
        self._on_state = on_state
        self._keys = [self._key(task) for task in tasks]
        self._known = _known(self._journal) if self._journal else {}
        self.of, self._done = 0, 0

    def measure(self, names: tuple[str, ...]) -> Candidate:
        columns = [column for name in names for column in self._parts[name]]
        scores = {}
        for task, key in zip(self._tasks, self._keys, strict=True):
            name = task.description.name
            self._on_state(State(self._done, self.of, names, name))
            entry = hashlib.sha256(f"{key} {columns}".encode()).hexdigest()
            if entry not in self._known:
                found = evaluate_task(task.columns(columns), self._options)
                self._known[entry] = primary_score(found.scores)
                self._keep(entry, names, name)
            scores[name] = self._known[entry]
            self._done += 1
        return Candidate(names, len(columns), scores)

    def _key(self, task: EmbeddedTask) -> str:
        return f"{fingerprint(task)} {self._options} {json.dumps(task.description.metadata)}"

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
