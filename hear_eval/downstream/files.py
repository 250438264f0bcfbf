"""What an evaluation leaves in a folder of embeddings: a journal while it runs, then its results.

Every file appears under its name only when it is whole, and the one that says that the folder is
done comes last. The names and the JSON are those of heareval, so that each knows what the other has
done; predictions are NumPy archives, which need no pickle.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from hear_core.io import files
from hear_core.io.files import atomic_write
from hear_eval.downstream.early_stopping import Outcome
from hear_eval.downstream.embedded_task import EmbeddedTask
from hear_eval.tasks.description import METADATA, TaskError

SCORES, DONE = "test.predicted-scores.json", "prediction-done.json"
_INPUTS = ("*.embeddings.npy", "*.target-labels.pkl")
_JOURNAL, _SETTINGS = ".evaluation", "settings.json"
_LEVELS = 2  # from a folder of models to those of tasks


def task_folders(folders: Iterable[Path], marks: Sequence[str] = (METADATA,)) -> list[Path]:
    """Return the folders of embeddings of tasks in some folders, each once.

    They are looked for down to two levels, and what is in them is not looked at: heareval may
    leave tens of thousands of files in the folder of a task.

    Args:
        folders: Of tasks, of models, or of all models. What is no folder is passed over.
        marks: Names of files of which each has at least one.
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


def alone(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from evaluating the same folder.

    Raises:
        TaskError: There is no such folder.
        ConfigError: Another process is evaluating it.
    """
    if not folder.is_dir():
        msg = f"{folder} is no folder of embeddings"
        raise TaskError(msg)
    return files.exclusive_lock(folder / SCORES, "wait for it")


def read_scores(folder: Path) -> dict[str, Any] | None:
    """Return the scores of a folder that is done, by this project or by heareval, else None."""
    try:
        json.loads((folder / DONE).read_text(encoding="utf-8"))
        scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return scores if isinstance(scores, dict) else None


def read_done(folder: Path) -> dict[str, Any]:
    """Return how a folder that is done was evaluated; nothing if that is not known."""
    try:
        done = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return done if isinstance(done, dict) else {}


def touched(folder: Path) -> bool:
    """Say whether embeddings or labels may be others than when the folder was done.

    They may have been copied or moved only, which a checksum tells from a change.
    """
    done = (folder / DONE).stat().st_mtime_ns
    stats = [path.stat() for pattern in _INPUTS for path in folder.glob(pattern)]
    return any(max(stat.st_mtime_ns, stat.st_ctime_ns) >= done for stat in stats)


def reopen(folder: Path) -> None:
    """Take away the mark of a folder that is done."""
    (folder / DONE).unlink(missing_ok=True)


def write(
    folder: Path,
    scores: Mapping[str, Any],
    predictions: Mapping[str, Mapping[str, np.ndarray]],
    done: Mapping[str, Any],
) -> None:
    """Write the results of a folder, and then that it is done.

    The predictions that heareval may have left there are of other scores, and go.
    """
    for path in folder.glob("*.predictions.pkl"):
        path.unlink()
    for split, arrays in predictions.items():
        with atomic_write(folder / f"{split}.predictions.npz") as part, part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # of allow_pickle
    for name, content in ((SCORES, scores), (DONE, done)):
        with atomic_write(folder / name) as part:
            part.write_text(json.dumps(content, indent=4), encoding="utf-8")


def fingerprint(task: EmbeddedTask) -> str:
    """Return a checksum of the embeddings of a task and of what they stand for."""
    checksum = hashlib.sha256(repr((tuple(task.embeddings.shape), task.rows)).encode())
    for tensor in (task.embeddings, task.targets):
        checksum.update(tensor.contiguous().view(torch.uint8).numpy().data)
    for moments in task.moments.values():
        checksum.update(json.dumps([moments.files, dict(moments.events)]).encode())
        checksum.update(moments.timestamps.tobytes())
    return checksum.hexdigest()


class Journal:
    """Predictors of a folder that are trained, while others are not; see `Outcome`.

    Args:
        folder: Of the embeddings.
        settings: What the outcomes depend on. Those that were kept under others are thrown away.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._folder = folder / _JOURNAL
        path = self._folder / _SETTINGS
        wanted = json.dumps(settings, sort_keys=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != wanted:
            self.remove()
            with atomic_write(path) as part:
                part.write_text(wanted, encoding="utf-8")

    def read(self, key: str) -> list[Outcome | None] | None:
        """Return the outcomes of a group of predictors, or None if there are none, or damaged."""
        try:
            with np.load(self._path(key), allow_pickle=False) as arrays:
                known = json.loads(str(arrays["outcomes"]))
                return [
                    _outcome(outcome, arrays[str(number)]) if outcome else None
                    for number, outcome in enumerate(known)
                ]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None

    def write(self, key: str, outcomes: Sequence[Outcome | None]) -> None:
        """Keep the outcomes of a group of predictors."""
        known = [{**o._asdict(), "logits": None} if o else None for o in outcomes]
        logits = {str(i): o.logits for i, o in enumerate(outcomes) if o}
        with atomic_write(self._path(key)) as part, part.open("wb") as file:
            np.savez(file, outcomes=np.array(json.dumps(known)), **logits)  # type: ignore[arg-type]

    def remove(self) -> None:
        """Throw away what is kept."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def _outcome(known: Mapping[str, Any], logits: np.ndarray) -> Outcome:
    setting = tuple((name, value) for name, value in known["setting"])
    return Outcome(known["score"], known["epoch"], setting, logits, known["minutes"])
