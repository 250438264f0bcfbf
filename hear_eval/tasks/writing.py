"""Writing of HEAR tasks.

The layout is that of the tasks that HEAR distributes (https://hearbenchmark.com/hear-tasks.html):
``task_metadata.json``, ``labelvocabulary.csv``, one ``<split>.json`` per split with the labels of
its files, and the audio as ``<sample rate>/<split>/<file name>``.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import numpy as np
import soundfile

from hear_core.errors import ConfigError
from hear_core.io.files import atomic_write, exclusive_lock, writing
from hear_core.io.names import check_name
from hear_eval.tasks.audio import read_recording
from hear_eval.tasks.description import METADATA, VOCABULARY, TaskError

LONGEST = 24 * 3600.0  # seconds of a clip


class WrittenClip(NamedTuple):
    """Length in seconds of a clip that was written, and of the recording it was made from."""

    seconds: float
    source_seconds: float


@contextmanager
def new_task(folder: Path, name: str) -> Iterator[Path]:
    """Provide a folder to write a task into, which is moved into place when the block ends well.

    Until then it is hidden, so that what an interrupted process leaves is never taken for a task;
    the next process that makes the same task removes it.

    Args:
        folder: Folder in which the folder of the task is made.
        name: Name of the task.

    Raises:
        ConfigError: The name is not valid as the name of a folder, or another process makes the
            task.
        TaskError: There is a file or folder of this name already.
        FileError: The folder cannot be written.
    """
    check_name(name, "the task name", room=len("..part"))
    if name.startswith("."):
        msg = f"the task name {name!r} must not begin with a dot"
        raise ConfigError(msg)
    task = folder / name
    beside = folder / f".{name}.part"
    made = beside / name
    with exclusive_lock(made, "wait for it, or give the new task another name"):
        try:
            if task.exists():
                msg = f"{task} exists already: remove it, or give the new task another name"
                raise TaskError(msg)
            rmtree(made, ignore_errors=True)  # of a process that was killed
            with writing(task, made):
                made.mkdir()
            yield made
            with writing(task, made):
                made.rename(task)
        finally:
            rmtree(made, ignore_errors=True)
            # The lock is removed last: what another process then writes is its own.
            rmtree(beside, ignore_errors=True)


def write_description(
    task: Path,
    labels: Mapping[str, Mapping[str, Sequence[Any]]],
    vocabulary: Iterable[str],
    **metadata: Any,
) -> None:
    """Write all files of a task except its audio.

    Args:
        task: Folder of the task. The name of the folder is the name of the task.
        labels: Labels by split and file name: the classes of a scene, or the events in the form of
            HEAR, ``{"label": ..., "start": ..., "end": ...}`` with times in milliseconds.
        vocabulary: Names of all classes, by class index.
        metadata: Further fields of ``task_metadata.json``.

    Raises:
        FileError: A file cannot be written.
    """
    for split, by_file in labels.items():
        with atomic_write(task / f"{split}.json") as part:
            part.write_text(json.dumps(by_file, indent=1), encoding="utf-8")
    with (
        atomic_write(task / VOCABULARY) as part,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([("idx", "label"), *enumerate(vocabulary)])
    common = {
        "task_name": task.name,
        "version": "1.0.0",
        "default_mode": "full",
        "mode": "full",
        "splits": list(labels),
    }
    with atomic_write(task / METADATA) as part:
        part.write_text(json.dumps(common | metadata, indent=1), encoding="utf-8")


def check_clip_length(seconds: float | None) -> None:
    """Check the length that clips are padded or truncated to.

    Raises:
        ConfigError: It is not a number of seconds above 0 and at most `LONGEST`.
    """
    if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= LONGEST):
        msg = f"the length of clips must be above 0 and at most {LONGEST:g} s, but is {seconds:g}"
        raise ConfigError(msg)


def convert_clip(
    source: Path, target: Path, sample_rate: int, seconds: float | None = None
) -> WrittenClip:
    """Write an audio file as a clip of a task.

    Args:
        source: Path of the file to read.
        target: Path of the wav file to write.
        sample_rate: Sample rate in Hz of the clip.
        seconds: Length in seconds to which the clip is truncated or padded with silence; None keeps
            the length of the file.

    Raises:
        AudioError: The file cannot be read, is truncated, or has samples that are not finite.
        FileError: The clip cannot be written.
    """
    waveform = read_recording(source, sample_rate)
    found = len(waveform)
    if seconds is not None:
        samples = max(1, round(seconds * sample_rate))
        waveform = np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
    write_audio(target, waveform, sample_rate)
    return WrittenClip(len(waveform) / sample_rate, found / sample_rate)


def write_audio(path: Path, waveform: np.ndarray, sample_rate: int) -> None:
    """Write a waveform (samples,) in [-1, 1] as a 16-bit wav file, completely or not at all.

    Raises:
        FileError: The file cannot be written.
    """
    content = io.BytesIO()  # soundfile does not report a full disk
    soundfile.write(content, waveform, sample_rate, subtype="PCM_16", format="WAV")
    with atomic_write(path) as part:
        part.write_bytes(content.getbuffer())
