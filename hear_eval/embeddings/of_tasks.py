"""Embeddings of HEAR tasks, in the folders that heareval writes and its predictions read.

A task is embedded split by split, and a split in batches, in the order in which heareval writes
rows. A run that was killed goes on after the last batch that was written, and ends with the same
bytes: how clips are put into batches depends on the task and on nothing else.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hear_core.io.files import SETTINGS, atomic_write, check_or_write_settings, exclusive_lock
from hear_core.io.prefetch import prefetch
from hear_eval.embeddings.batches import among, batches, embed
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.rows import Append, SplitFiles
from hear_eval.tasks.audio import read_clip, sample_rates_of
from hear_eval.tasks.description import (
    METADATA,
    VOCABULARY,
    TaskDescription,
    TaskError,
    read_description,
    read_labels,
    read_task_json,
)

# What heareval puts into a batch at most, so that any plug-in that ran there has the memory.
BATCH_SAMPLES = round(0.7 * 120 * 16000)

_DONE, _PROFILE = ".done.embeddings", "profile.embeddings.json"
_MOST_READ = 64  # clips that are read ahead


class Step(NamedTuple):
    """What was embedded just now, and what is left of the task.

    Args:
        split: Of the clips.
        clips: How many.
        seconds: How long they are together.
        left: How many clips of the task are to be embedded yet.
    """

    split: str
    clips: int
    seconds: float
    left: int


def folder_name(module: str, options: Mapping[str, Any]) -> str:
    """Return what heareval calls the folder of a module's embeddings."""
    parts = [f"{_slug(key)}={_slug(str(value))}" for key, value in options.items()]
    return "-".join([module, *parts])


def run_task(
    plugin: Plugin, task: Path, out: Path, *, batch_samples: int = BATCH_SAMPLES
) -> Iterator[Step]:
    """Embed a task, or what is left of it.

    Args:
        plugin: What it is embedded with.
        task: Folder of the task.
        out: Folder of its embeddings, which is called like the task.
        batch_samples: Most samples in a batch; a longer clip is a batch of its own.

    Yields:
        First how much is to be done, with no clips; nothing at all if everything was done before.

    Raises:
        TaskError: The task contradicts itself, or has no audio of the plug-in's rate.
        AudioError: A clip cannot be read.
        EmbeddingError: The plug-in fails, or what it gives is no embedding.
        ConfigError: Another process embeds the task, or the folder was made otherwise.
    """
    description = read_description(task)
    for split in description.splits:
        read_labels(task, split, description)  # for what may be wrong with them
    # As they stand there: numbers are numbers in what heareval writes.
    labels = {split: read_task_json(task / f"{split}.json") for split in description.splits}
    timestamps = description.embedding_type == "event"
    settings = plugin.settings | {
        "embeddings": "timestamps" if timestamps else "scene",
        "task": _fingerprint(task, description),
        "batch_samples": batch_samples,
    }
    if _is_done(out, settings):
        return
    _check_audio(task, labels, plugin.sample_rate)
    with exclusive_lock(out / "embeddings", "wait for it; other tasks can be embedded meanwhile"):
        if _is_done(out, settings):
            return
        files = {split: SplitFiles(out, split) for split in description.splits}
        if not (out / SETTINGS).is_file():
            # Nobody knows how far heareval came before it was stopped here.
            for there in files.values():
                there.discard()
        check_or_write_settings(out, settings)
        for name in (METADATA, VOCABULARY, *(f"{split}.json" for split in description.splits)):
            with atomic_write(out / name) as part:
                shutil.copyfile(task / name, part)
        start = time.perf_counter()
        run = _Run(plugin, task / str(plugin.sample_rate), description, batch_samples)
        yield from run.splits(files, labels)
        _profile(out / _PROFILE, plugin.device, time.perf_counter() - start)
        (out / _DONE).touch()


def _is_done(out: Path, settings: Mapping[str, Any]) -> bool:
    """Say whether a folder is whole; if it is heareval's own, that is all that is known of it."""
    if not (out / _DONE).is_file():
        return False
    if (out / SETTINGS).is_file():
        check_or_write_settings(out, settings)
    return True


class _Run:
    """Embeds the splits of a task, one after the other."""

    def __init__(
        self, plugin: Plugin, audio: Path, description: TaskDescription, batch_samples: int
    ) -> None:
        self._plugin, self._audio, self._batch_samples = plugin, audio, batch_samples
        self._timestamps = description.embedding_type == "event"
        longest = (description.seconds or 0) * plugin.sample_rate
        self._depth = min(_MOST_READ, int(batch_samples / longest)) if longest else 0

    def splits(
        self, files: Mapping[str, SplitFiles], labels: Mapping[str, Mapping[str, list[Any]]]
    ) -> Iterator[Step]:
        shuffler = random.Random(0)  # noqa: S311  # that of heareval, whose rows stand in its order
        todo: dict[str, list[str]] = {}
        for split, by_clip in labels.items():
            clips = list(by_clip)
            shuffler.shuffle(clips)
            if files[split].done:
                files[split].tidy()
            else:
                written = files[split].resume(clips)
                todo[split] = clips[written:]
        left = sum(map(len, todo.values()))
        yield Step("", 0, 0.0, left)
        for split, clips in todo.items():
            with files[split].appending() as append:
                for count, seconds in self._split(split, clips, files[split], append):
                    left -= count
                    yield Step(split, count, seconds, left)
            files[split].finish(labels[split])

    def _split(
        self, split: str, clips: Sequence[str], files: SplitFiles, append: Append
    ) -> Iterator[tuple[int, float]]:
        paths = [self._audio / split / clip for clip in clips]
        size = files.size or self._plugin.size(timestamps=self._timestamps)
        reads = prefetch(lambda path: read_clip(path, self._plugin.sample_rate), paths, self._depth)
        with closing(reads):
            for names, audio in batches(clips, reads, self._batch_samples):
                places = [f"{split}/{name}" for name in names]
                found, times = embed(self._plugin, audio, places, size, timestamps=self._timestamps)
                size = found.shape[-1]
                append(names, found, times)
                yield len(names), audio.size / self._plugin.sample_rate


def _check_audio(task: Path, labels: Mapping[str, Mapping[str, Any]], sample_rate: int) -> None:
    folder = task / str(sample_rate)
    if not folder.is_dir():
        found = ", ".join(map(str, sample_rates_of(task))) or "none"
        msg = (
            f"{task} has no audio at {sample_rate} Hz, only at {found}: "
            f"hear tasks resample {task} --rate {sample_rate}"
        )
        raise TaskError(msg)
    for split, by_clip in labels.items():
        there = {path.name for path in (folder / split).glob("*")}
        if missing := [clip for clip in by_clip if clip not in there]:
            msg = (
                f"{folder / split} lacks {among(missing)} of {len(by_clip)} clips: "
                f"hear tasks check {task}"
            )
            raise TaskError(msg)


def _fingerprint(task: Path, description: TaskDescription) -> str:
    key = hashlib.sha256()
    for name in (METADATA, VOCABULARY, *(f"{split}.json" for split in description.splits)):
        key.update((task / name).read_bytes())
    return key.hexdigest()


def _profile(path: Path, device: str, elapsed: float) -> None:
    gpu = device.startswith("cuda")
    found = {
        "time_elapsed": elapsed,
        "gpu_max_mem": torch.cuda.max_memory_allocated(device) / 2**30 if gpu else None,
        "gpu_device_name": torch.cuda.get_device_name(device) if gpu else "cpu",
    }
    with atomic_write(path) as part:
        part.write_text(json.dumps(found, indent=4), encoding="utf-8")


def _slug(text: str) -> str:
    """Return lower-case letters and digits with hyphens between, as python-slugify does."""
    text = re.sub(r"(?<=\d),(?=\d)", "", text.replace("'", "-").lower())
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")
