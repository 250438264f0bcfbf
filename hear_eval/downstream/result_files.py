"""Files of an evaluation in a folder of embeddings: a journal while it runs, then the results.

Every file appears when it is complete, and the one that marks the folder as evaluated comes last.
Names and JSON are those of heareval, so that each knows what the other has evaluated; predictions
are NumPy archives, which need no pickle.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hear_core.errors import ConfigError
from hear_core.io.files import atomic_write, exclusive_lock, remove_stale_parts
from hear_core.io.json_files import read_json
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.downstream.protocol import Outcome
from hear_eval.downstream.results import tested_folds
from hear_eval.tasks.description import METADATA, TaskError

SCORES, DONE = "test.predicted-scores.json", "prediction-done.json"
_INPUTS = ("*.embeddings.npy", "*.target-labels.pkl")
_JOURNAL, _SETTINGS = ".evaluation", "settings.json"
_LEVELS = 2  # from a folder of models to the folders of tasks


def task_folders(folders: Iterable[Path], marks: Sequence[str] = (METADATA,)) -> list[Path]:
    """Return the folders of embeddings of tasks in some folders, each once.

    Two levels are searched. Folders of tasks are not: heareval may leave tens of thousands of files
    in one.

    Args:
        folders: Folders of tasks, of models, or of all models. Anything else is ignored.
        marks: Names of files of which a folder of a task has at least one.
    """
    found: dict[Path, Path] = {}
    for folder in _search(folders, marks, _LEVELS):
        found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _search(folders: Iterable[Path], marks: Sequence[str], levels: int) -> Iterator[Path]:
    for folder in folders:
        if not folder.is_dir():
            continue
        if any((folder / name).is_file() for name in marks):
            yield folder
        elif levels:
            yield from _search(sorted(folder.iterdir()), marks, levels - 1)


def evaluation_lock(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from evaluating the same folder.

    Raises:
        TaskError: There is no such folder.
        ConfigError: Another process evaluates it.
        FileError: The folder cannot be written.
    """
    if not folder.is_dir():
        msg = f"{folder} is not a folder of embeddings"
        raise TaskError(msg)
    return exclusive_lock(folder / SCORES, "wait for it")


def read_scores(folder: Path) -> dict[str, Any] | None:
    """Return the scores of an evaluated folder, also one that heareval evaluated, else None.

    A folder whose scores are damaged counts as not evaluated.
    """
    scores = _read_object(folder / SCORES)
    if scores is None or _read_object(folder / DONE) is None:
        return None
    folds = tested_folds(scores)
    values = [v for fold in folds.values() for k, v in fold.items() if k.startswith("test_")]
    numeric = all(isinstance(value, int | float) for value in values)
    return scores if folds and numeric else None


def read_done(folder: Path) -> dict[str, Any]:
    """Return how a folder was evaluated; empty if that is not known."""
    return _read_object(folder / DONE) or {}


def _read_object(path: Path) -> dict[str, Any] | None:
    """Return a JSON object from a file; None if the file is missing or damaged."""
    try:
        return read_json(path)
    except ConfigError:
        return None


def may_have_changed(folder: Path) -> bool:
    """Return whether embeddings or labels may have changed since the folder was evaluated.

    They may have been only copied or moved, which a checksum tells from a change.
    """
    done = (folder / DONE).stat().st_mtime_ns
    stats = [path.stat() for pattern in _INPUTS for path in folder.glob(pattern)]
    return any(max(stat.st_mtime_ns, stat.st_ctime_ns) >= done for stat in stats)


def reopen(folder: Path) -> None:
    """Remove the mark of an evaluated folder."""
    (folder / DONE).unlink(missing_ok=True)


def write_results(
    folder: Path,
    scores: Mapping[str, Any],
    predictions: Mapping[str, Mapping[str, np.ndarray]],
    done: Mapping[str, Any],
) -> None:
    """Write the results of a folder, and then mark it as evaluated.

    Predictions that heareval may have left there belong to other scores, and are removed.

    Raises:
        FileError: A file cannot be written.
    """
    for path in folder.glob("*.predictions.pkl"):
        path.unlink()
    remove_stale_parts(
        folder, {SCORES, DONE, *(f"{split}.predictions.npz" for split in predictions)}
    )
    for split, arrays in predictions.items():
        with atomic_write(folder / f"{split}.predictions.npz") as part, part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # of allow_pickle
    for name, content in ((SCORES, scores), (DONE, done)):
        with atomic_write(folder / name) as part:
            part.write_text(json.dumps(content, indent=4), encoding="utf-8")


def fingerprint(task: EmbeddedTask) -> str:
    """Return a checksum of the embeddings of a task, their targets and their timestamps."""
    checksum = hashlib.sha256(repr((tuple(task.embeddings.shape), task.rows)).encode())
    for tensor in (task.embeddings, task.targets):
        checksum.update(tensor.contiguous().view(torch.uint8).numpy().data)
    for event_rows in task.event_rows.values():
        checksum.update(json.dumps([event_rows.files, dict(event_rows.events)]).encode())
        checksum.update(event_rows.timestamps.tobytes())
    return checksum.hexdigest()


class OutcomeJournal:
    """A journal of the predictors that are trained, for an evaluation to be resumed.

    Args:
        folder: Folder of the embeddings.
        settings: Everything that the outcomes depend on. Outcomes under other settings are removed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder / _JOURNAL
        path = self._folder / _SETTINGS
        wanted = json.dumps(settings, sort_keys=True)
        if not path.is_file() or path.read_bytes() != wanted.encode():
            self.remove()
            with atomic_write(path) as part:
                part.write_text(wanted, encoding="utf-8")

    def read(self, key: str) -> list[Outcome | None] | None:
        """Return the outcomes of a group of predictors; None if they are missing or damaged."""
        try:
            with np.load(self._path(key), allow_pickle=False) as arrays:
                known = json.loads(str(arrays["outcomes"]))
                return [
                    _outcome(outcome, arrays[str(number)]) if outcome else None
                    for number, outcome in enumerate(known)
                ]
        except Exception:  # whatever is damaged, and however, is trained again
            return None

    def write(self, key: str, outcomes: Sequence[Outcome | None]) -> None:
        """Write the outcomes of a group of predictors."""
        known = [{**o._asdict(), "logits": None} if o else None for o in outcomes]
        logits = {str(i): o.logits for i, o in enumerate(outcomes) if o}
        with atomic_write(self._path(key)) as part, part.open("wb") as file:
            np.savez(file, outcomes=np.array(json.dumps(known)), **logits)  # type: ignore[arg-type]

    def remove(self) -> None:
        """Remove the journal."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def _outcome(known: Mapping[str, Any], logits: np.ndarray) -> Outcome:
    setting = tuple((name, value) for name, value in known["setting"])
    return Outcome(known["score"], known["epoch"], setting, logits, known["minutes"])
