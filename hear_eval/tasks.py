"""HEAR tasks on disk: made from labelled clips, and brought to the rate of a model.

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
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import soundfile
from torch import nn

from hear_core.audio import read_audio
from hear_core.errors import ConfigError
from hear_eval.description import METADATA, VOCABULARY, TaskError


class Clip(NamedTuple):
    """One labelled recording: a file, the one class it belongs to, and its split."""

    path: Path
    label: str
    split: str


def make_scene_task(
    folder: Path, name: str, clips: Sequence[Clip], *, seconds: float, sample_rate: int
) -> Path:
    """Write a multi-class scene task with cross-validation over its splits.

    Args:
        folder: The task becomes a folder in it, called `name`.
        name: Of the task.
        clips: Of at least three splits, as the protocol trains, validates and tests on others.
        seconds: Every clip is cut or padded with silence to this length.
        sample_rate: Of the audio that is written, in Hz.

    Returns:
        The folder of the task.

    Raises:
        TaskError: There are too few splits or classes, two clips of a split share a name, or
            there is a task of this name already.
        AudioError: A file cannot be read.
    """
    splits = sorted({clip.split for clip in clips})
    vocabulary = sorted({clip.label for clip in clips})
    if len(splits) < 3 or len(vocabulary) < 2:
        msg = f"{name}: {len(splits)} splits and {len(vocabulary)} classes; it takes 3 and 2"
        raise TaskError(msg)
    labels: dict[str, dict[str, list[str]]] = {split: {} for split in splits}
    with new_task(folder, name) as task:
        for clip in clips:
            file = f"{clip.path.stem}.wav"
            if file in labels[clip.split]:
                msg = f"{name}: split {clip.split} has two clips that would be called {file}"
                raise TaskError(msg)
            labels[clip.split][file] = [clip.label]
            target = task / str(sample_rate) / clip.split / file
            _convert(clip.path, target, sample_rate, seconds)
        write_description(
            task,
            labels,
            vocabulary,
            embedding_type="scene",
            prediction_type="multiclass",
            split_mode="presplit_kfold",
            sample_duration=seconds,
            evaluation=["top1_acc"],
        )
    return folder / name


@contextmanager
def new_task(folder: Path, name: str) -> Iterator[Path]:
    """Give a folder to write a task into; it takes its place when the block has ended well.

    Until then it stands beside, so that what was cut off is never taken for a task.

    Args:
        folder: The task becomes a folder in it.
        name: Of the task.

    Raises:
        ConfigError: The name is none that a folder can have.
        TaskError: There is something of this name already.
    """
    task = folder / name
    if task.parent != folder or name == "..":
        msg = f"a task is named like a folder, not {name!r}"
        raise ConfigError(msg)
    if task.exists():
        msg = f"there is a {task} already: remove it, or give the new task another name"
        raise TaskError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{name}.", dir=folder) as beside:
        whole = Path(beside) / name
        whole.mkdir()
        yield whole
        whole.rename(task)


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


def resample_task(task: Path, sample_rate: int) -> int:
    """Add the audio of a task at a rate, from the highest other rate it has.

    Files that are already there are kept, so that a run that was cut off can go on.

    Args:
        task: Folder of the task.
        sample_rate: Wanted, in Hz.

    Returns:
        How many files were written.

    Raises:
        TaskError: The folder is no task, or holds no audio.
        AudioError: A file cannot be read.
    """
    if not (task / METADATA).is_file():
        msg = f"{task} is not a HEAR task: it has no {METADATA}"
        raise TaskError(msg)
    rates = [int(path.name) for path in task.iterdir() if path.name.isdecimal()]
    if not rates:
        msg = f"{task} holds no audio: it has no folder named after a sample rate, such as 48000"
        raise TaskError(msg)
    others = [rate for rate in rates if rate != sample_rate]
    source, target = task / str(max(others, default=sample_rate)), task / str(sample_rate)
    written = 0
    for path in sorted(source.glob("*/[!.]*")):
        wanted = target / path.relative_to(source)
        if not wanted.is_file():
            _convert(path, wanted, sample_rate)
            written += 1
    return written


def _convert(source: Path, target: Path, sample_rate: int, seconds: float | None = None) -> None:
    waveform = read_audio(source, sample_rate)
    if seconds is not None:
        samples = round(seconds * sample_rate)
        waveform = nn.functional.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
    write_audio(target, waveform.numpy(), sample_rate)


def write_audio(path: Path, waveform: np.ndarray, sample_rate: int) -> None:
    """Write a waveform (samples,) in [-1, 1] as a wav file of 16 bits, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    soundfile.write(part, waveform, sample_rate, subtype="PCM_16", format="WAV")
    part.replace(path)
