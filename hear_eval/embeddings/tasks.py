"""Embedding of HEAR tasks, in the layout that heareval writes and its predictions read.

A task is embedded split by split, and a split in batches, in the order in which heareval writes
rows. A run that was killed resumes after the last batch that was written, and ends with the same
bytes: how clips are put into batches depends on the task only.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hear_core.errors import ConfigError
from hear_core.io.files import (
    SETTINGS,
    atomic_write,
    check_or_write_settings,
    exclusive_lock,
    remove_stale_parts,
    writing,
)
from hear_core.io.prefetch import prefetch
from hear_core.zoo.registry import is_checkpoint_path
from hear_eval.embeddings.batches import embed_batch, make_batches, name_first
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.split_files import Append, SplitFiles
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

# Largest batch of heareval, so that any plug-in that ran there has enough memory.
BATCH_SAMPLES = round(0.7 * 120 * 16000)

_DONE, _PROFILE = ".done.embeddings", "profile.embeddings.json"
_MOST_READ = 64  # clips to prefetch


class TaskProgress(NamedTuple):
    """The clips of a task that were embedded last, and what is left.

    Args:
        split: Split of the clips.
        clips: Number of the clips.
        seconds: Total length of the clips in seconds.
        left: Number of clips of the task that are still to be embedded.
    """

    split: str
    clips: int
    seconds: float
    left: int


class EmbeddedAudio(NamedTuple):
    """The number of clips that were embedded, their length, and the time taken, in seconds."""

    clips: int
    seconds: float
    elapsed: float


def folder_name(module: str, options: Mapping[str, Any]) -> str:
    """Return the name that heareval gives to the folder of a module's embeddings.

    For a checkpoint, it is made of the names of its folder and file: ``mine-best`` is that of
    ``runs/mine/best.safetensors``.
    """
    if is_checkpoint_path(module):
        path = Path(module).absolute()
        module = "-".join(part for part in (path.parent.name, path.stem) if part)
    parts = [f"{_slug(key)}={_slug(str(value))}" for key, value in options.items()]
    return "-".join([module, *parts])


def run_task(
    plugin: Plugin, task: Path, out: Path, *, batch_samples: int = BATCH_SAMPLES
) -> Iterator[TaskProgress]:
    """Embed a task, or resume its embedding.

    Args:
        plugin: Plug-in that embeds the task.
        task: Folder of the task.
        out: Folder of its embeddings, with the name of the task.
        batch_samples: Largest number of samples in a batch; a longer clip is a batch by itself.

    Yields:
        First a step without clips, with the number that is left; nothing if the task is complete.

    Raises:
        TaskError: The task is damaged, or has no audio at the sample rate of the plug-in.
        AudioError: A clip cannot be read.
        EmbeddingError: The plug-in fails, or its embeddings are not valid.
        ConfigError: Another process embeds the task, the folder has embeddings that were made with
            other settings, or `batch_samples` is not positive.
        FileError: A file cannot be written.
    """
    if batch_samples < 1:
        msg = f"a batch must have at least 1 sample, not {batch_samples}"
        raise ConfigError(msg)
    description = read_description(task)
    for split in description.splits:
        read_labels(task, split, description)  # to check them
    # Unchanged: what is a number in the task is a number in what heareval writes.
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
            # It is not known how far heareval came before it was interrupted here.
            for there in files.values():
                there.discard()
        check_or_write_settings(out, settings)
        remove_stale_parts(out)
        for name in (METADATA, VOCABULARY, *(f"{split}.json" for split in description.splits)):
            with atomic_write(out / name) as part:
                shutil.copyfile(task / name, part)
        start = time.perf_counter()
        embedder = _TaskEmbedder(plugin, task / str(plugin.sample_rate), description, batch_samples)
        yield from embedder.splits(files, labels)
        _profile(out / _PROFILE, plugin.device, time.perf_counter() - start)
        with writing(out / _DONE):
            (out / _DONE).touch()


def embed_task(
    plugin: Plugin,
    task: Path,
    out: Path,
    *,
    batch_samples: int = BATCH_SAMPLES,
    on_progress: Callable[[TaskProgress], object] = lambda _: None,
) -> EmbeddedAudio:
    """Embed a task as `run_task` does, to its end.

    Args:
        plugin: Plug-in that embeds the task.
        task: Folder of the task.
        out: Folder of its embeddings, with the name of the task.
        batch_samples: Largest number of samples in a batch; a longer clip is a batch by itself.
        on_progress: Called with every step of `run_task`.

    Returns:
        Summary of the embedded clips; it counts none if the task was complete.
    """
    start, clips, seconds = time.perf_counter(), 0, 0.0
    for step in run_task(plugin, task, out, batch_samples=batch_samples):
        clips, seconds = clips + step.clips, seconds + step.seconds
        on_progress(step)
    return EmbeddedAudio(clips, seconds, time.perf_counter() - start)


def _is_done(out: Path, settings: Mapping[str, Any]) -> bool:
    """Return whether a folder is complete; of one that heareval made, nothing else is known."""
    if not (out / _DONE).is_file():
        return False
    if (out / SETTINGS).is_file():
        check_or_write_settings(out, settings)
    return True


class _TaskEmbedder:
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
    ) -> Iterator[TaskProgress]:
        shuffler = random.Random(0)  # noqa: S311  # that of heareval, for the same order of rows
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
        yield TaskProgress("", 0, 0.0, left)
        for split, clips in todo.items():
            with files[split].appending() as append:
                for count, seconds in self._split(split, clips, files[split], append):
                    left -= count
                    yield TaskProgress(split, count, seconds, left)
            files[split].finish(labels[split])

    def _split(
        self, split: str, clips: Sequence[str], files: SplitFiles, append: Append
    ) -> Iterator[tuple[int, float]]:
        paths = [self._audio / split / clip for clip in clips]
        size = files.size or self._plugin.size(timestamps=self._timestamps)
        reads = prefetch(lambda path: read_clip(path, self._plugin.sample_rate), paths, self._depth)
        with closing(reads):
            for names, audio in make_batches(clips, reads, self._batch_samples):
                places = [f"{split}/{name}" for name in names]
                found, times = embed_batch(
                    self._plugin, audio, places, size, timestamps=self._timestamps
                )
                size = found.shape[-1]
                append(names, found, times)
                yield len(names), audio.size / self._plugin.sample_rate


def _check_audio(task: Path, labels: Mapping[str, Mapping[str, Any]], sample_rate: int) -> None:
    folder = task / str(sample_rate)
    if not folder.is_dir():
        found = ", ".join(map(str, sample_rates_of(task))) or "none"
        msg = (
            f"{task} has no audio at {sample_rate} Hz, only at {found}; add it with: "
            f"hear tasks resample {task} --rate {sample_rate}"
        )
        raise TaskError(msg)
    for split, by_clip in labels.items():
        there = {path.name for path in (folder / split).glob("*")}
        if missing := [clip for clip in by_clip if clip not in there]:
            msg = (
                f"{folder / split} lacks {name_first(missing)} of {len(by_clip)} clips; for "
                f"details: hear tasks check {task}"
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
