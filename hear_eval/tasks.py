"""HEAR tasks on disk: made from labelled clips, and brought to the rate of a model.

The layout is that of the tasks HEAR distributes (https://hearbenchmark.com/hear-tasks.html):
``task_metadata.json``, ``labelvocabulary.csv``, a ``<split>.json`` of labels by file name, and the
audio as ``<sample rate>/<split>/<file name>``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import soundfile
from torch import nn

from hear_core.audio import read_audio
from hear_core.errors import HearError

_METADATA, _VOCABULARY = "task_metadata.json", "labelvocabulary.csv"


class TaskError(HearError, ValueError):
    """A task that is incomplete or contradicts itself."""


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
        TaskError: There are too few splits or classes, or two clips of a split share a name.
        AudioError: A file cannot be read.
    """
    splits = sorted({clip.split for clip in clips})
    vocabulary = sorted({clip.label for clip in clips})
    if len(splits) < 3 or len(vocabulary) < 2:
        msg = f"{name}: {len(splits)} splits and {len(vocabulary)} classes; it takes 3 and 2"
        raise TaskError(msg)
    task = folder / name
    for split in splits:
        labels: dict[str, list[str]] = {}
        for clip in (clip for clip in clips if clip.split == split):
            file = f"{clip.path.stem}.wav"
            if file in labels:
                msg = f"{name}: split {split} has two clips that would be called {file}"
                raise TaskError(msg)
            labels[file] = [clip.label]
            _convert(clip.path, task / str(sample_rate) / split / file, sample_rate, seconds)
        _write(task / f"{split}.json", json.dumps(labels, indent=1))
    with (task / _VOCABULARY).open("w", newline="") as vocabulary_file:
        csv.writer(vocabulary_file).writerows([("idx", "label"), *enumerate(vocabulary)])
    metadata = {
        "task_name": name,
        "version": "1.0.0",
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "presplit_kfold",
        "sample_duration": seconds,
        "evaluation": ["top1_acc"],
        "default_mode": "full",
        "mode": "full",
        "splits": splits,
    }
    # Written last: a task without its metadata is none, so that one cut off here is never used.
    _write(task / _METADATA, json.dumps(metadata, indent=1))
    return task


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
    if not (task / _METADATA).is_file():
        msg = f"{task} is not a HEAR task: it has no {_METADATA}"
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
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    soundfile.write(part, waveform.numpy(), sample_rate, subtype="PCM_16", format="WAV")
    part.replace(target)


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
