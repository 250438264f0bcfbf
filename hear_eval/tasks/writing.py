"""Writing HEAR tasks to disk.

The layout is that of the tasks HEAR distributes (https://hearbenchmark.com/hear-tasks.html):
``task_metadata.json``, ``labelvocabulary.csv``, a ``<split>.json`` of labels by file name, and the
audio as ``<sample rate>/<split>/<file name>``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import numpy as np
import soundfile

from hear_core.errors import ConfigError
from hear_core.io.files import atomic_write, exclusive_lock
from hear_eval.tasks.audio import read_recording
from hear_eval.tasks.description import METADATA, VOCABULARY, TaskError


class Clip(NamedTuple):
    """A file, the one class it belongs to, and its split."""

    path: Path
    label: str
    split: str


@contextmanager
def new_task(folder: Path, name: str) -> Iterator[Path]:
    """Give a folder to write a task into; it takes its place when the block has ended well.

    Until then it stands beside, so that what was cut off is never taken for a task; the next
    process that makes it clears that away.

    Args:
        folder: The task becomes a folder in it.
        name: Of the task.

    Raises:
        ConfigError: The name is none that a folder can have, or another process makes the task.
        TaskError: There is something of this name already.
    """
    task = folder / name
    if task.parent != folder or name == "..":
        msg = f"a task is named like a folder, not {name!r}"
        raise ConfigError(msg)
    beside = folder / f".{name}.part"
    made = beside / name
    with exclusive_lock(made, "wait for it, or give the new task another name"):
        try:
            if task.exists():
                msg = f"there is a {task} already: remove it, or give the new task another name"
                raise TaskError(msg)
            rmtree(made, ignore_errors=True)  # of a process that was killed
            made.mkdir()
            yield made
            made.rename(task)
        finally:
            rmtree(made, ignore_errors=True)
            # Last goes the lock: what another process may put there from then on is its own.
            rmtree(beside, ignore_errors=True)


def write_description(
    task: Path,
    labels: Mapping[str, Mapping[str, Sequence[Any]]],
    vocabulary: Iterable[str],
    **metadata: Any,
) -> None:
    """Write all that a task is but its audio.

    Args:
        task: Folder of the task, whose name is that of the task.
        labels: By split and file name: of a scene its classes, of events what HEAR wants of them,
            which is ``{"label": …, "start": …, "end": …}`` with times in milliseconds.
        vocabulary: All classes.
        metadata: The further fields of ``task_metadata.json``.
    """
    for split, by_file in labels.items():
        (task / f"{split}.json").write_text(json.dumps(by_file, indent=1), encoding="utf-8")
    with (task / VOCABULARY).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("idx", "label"), *enumerate(vocabulary)])
    common = {
        "task_name": task.name,
        "version": "1.0.0",
        "default_mode": "full",
        "mode": "full",
        "splits": list(labels),
    }
    (task / METADATA).write_text(json.dumps(common | metadata, indent=1), encoding="utf-8")


def convert(source: Path, target: Path, sample_rate: int, seconds: float | None = None) -> int:
    """Write any audio file as the audio of a task.

    Args:
        source: The file.
        target: The file that is written.
        sample_rate: Wanted, in Hz.
        seconds: It is cut or padded with silence to this length; None keeps its own.

    Returns:
        How many samples it has.

    Raises:
        AudioError: The file cannot be read, is cut off, or holds what is no number.
    """
    waveform = read_recording(source, sample_rate)
    if seconds is not None:
        samples = round(seconds * sample_rate)
        waveform = np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
    write_audio(target, waveform, sample_rate)
    return len(waveform)


def write_audio(path: Path, waveform: np.ndarray, sample_rate: int) -> None:
    """Write a waveform (samples,) in [-1, 1] as a wav file of 16 bits, whole or not at all."""
    with atomic_write(path) as part:
        soundfile.write(part, waveform, sample_rate, subtype="PCM_16", format="WAV")
