"""Checking of HEAR tasks: everything that is wrong with one, in one pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from hear_core.errors import AudioError
from hear_core.io.prefetch import prefetch
from hear_eval.tasks.audio import read_clip, sample_rates_of
from hear_eval.tasks.description import (
    METADATA,
    VOCABULARY,
    TaskDescription,
    TaskError,
    events_past_end,
    is_length,
    label_problems,
    metadata_problems,
    read_description,
    read_task_json,
    read_vocabulary,
    safe_names,
)

_SHOWN = 5  # classes in one line


class TaskProblem(NamedTuple):
    """A fault of a task.

    Args:
        file: Path in the folder of the task.
        reason: End of a sentence that begins with the file.
    """

    file: str
    reason: str


class TaskReport(NamedTuple):
    """The result of checking a task.

    Args:
        problems: Everything that is wrong.
        clips: Number of clips.
        splits: Names of the splits.
        sample_rates: Sample rates in Hz that there is audio at.
    """

    problems: list[TaskProblem]
    clips: int
    splits: list[str]
    sample_rates: list[int]


def check_task(task: Path, progress: Callable[[int, int], object] | None = None) -> TaskReport:
    """Find everything that is wrong with a task.

    Args:
        task: Folder of the task.
        progress: Called after every audio file with the number of files read and of all files.
    """
    found: list[TaskProblem] = []
    metadata: dict[str, Any] = {}
    try:
        metadata = read_task_json(task / METADATA)
    except TaskError as error:
        found.append(_problem(METADATA, task / METADATA, error))
    else:
        found += [TaskProblem(METADATA, reason) for reason in metadata_problems(metadata)]
    try:
        read_vocabulary(task)
    except TaskError as error:
        found.append(_problem(VOCABULARY, task / VOCABULARY, error))
    description = None if found else read_description(task)
    labels: dict[str, dict[str, Any]] = {}
    for split in safe_names(metadata.get("splits", [])):
        path = task / f"{split}.json"
        try:
            labels[split] = read_task_json(path)
        except TaskError as error:
            found.append(_problem(path.name, path, error))
            continue
        if description:
            for file, reason in label_problems(labels[split], description):
                found.append(TaskProblem(path.name, f"{file and file + ' '}{reason}"))
    found += _in_two_splits(labels)
    if description and not found:
        found += _untrained_classes(labels, description)
    is_event = metadata.get("embedding_type") == "event"
    found += _check_audio(
        task, labels, metadata.get("sample_duration"), progress, is_event=is_event
    )
    clips = sum(map(len, labels.values()))
    return TaskReport(found, clips, list(labels), sample_rates_of(task) if task.is_dir() else [])


def _problem(name: str, path: Path, error: Exception) -> TaskProblem:
    return TaskProblem(name, str(error).removeprefix(f"{path} "))


def _in_two_splits(labels: Mapping[str, Iterable[str]]) -> Iterator[TaskProblem]:
    """Find clips in two splits: predictors would be tested on their training data."""
    known: dict[str, str] = {}
    for split, files in labels.items():
        for file in files:
            if (other := known.setdefault(file, split)) != split:
                yield TaskProblem(f"{split}.json", f"{file} is in {other}.json as well")


def _untrained_classes(
    labels: Mapping[str, Mapping[str, Any]], description: TaskDescription
) -> Iterator[TaskProblem]:
    """Find classes without training data."""
    names = {split: _names(by_file, description) for split, by_file in labels.items()}
    every = set().union(*names.values())
    if unused := [name for name in description.vocabulary if name not in every]:
        yield TaskProblem(VOCABULARY, f"has classes that no clip has: {_some(unused)}")
    for fold in description.folds:
        trained = set().union(*(names[split] for split in fold.train))
        for split in (*fold.valid, *fold.test):
            if unseen := sorted(names[split] - trained):
                reason = f"has classes without training data in {', '.join(fold.train)}: "
                yield TaskProblem(f"{split}.json", reason + _some(unseen))


def _names(by_file: Mapping[str, Any], description: TaskDescription) -> set[str]:
    is_event = description.embedding_type == "event"
    return {
        str(label["label"] if is_event else label)
        for labels in by_file.values()
        for label in labels
    }


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _check_audio(
    task: Path,
    labels: Mapping[str, Mapping[str, Any]],
    seconds: Any,
    progress: Callable[[int, int], object] | None,
    *,
    is_event: bool,
) -> Iterator[TaskProblem]:
    found = sample_rates_of(task) if task.is_dir() else []
    if not found:
        yield TaskProblem(
            ".", "has no audio: no folder is named after a sample rate, such as 48000"
        )
    clips: list[tuple[int, str, str]] = []
    for rate in found:
        folder = task / str(rate)
        for split in sorted({path.name for path in folder.glob("[!.]*")} - labels.keys()):
            yield TaskProblem(f"{rate}/{split}", "is not a split of the task")
        for split, by_file in labels.items():
            there = {path.name for path in (folder / split).glob("[!.]*")}
            for file in sorted(by_file.keys() - there):
                yield TaskProblem(f"{rate}/{split}/{file}", f"is missing; {split}.json names it")
            for file in sorted(there - by_file.keys()):
                yield TaskProblem(f"{rate}/{split}/{file}", f"is not in {split}.json")
            clips += [(rate, split, file) for file in sorted(there & by_file.keys())]
    lengths: dict[int, dict[str, int]] = {rate: {} for rate in found}

    def length(clip: tuple[int, str, str]) -> int:
        return len(read_clip(task.joinpath(str(clip[0]), *clip[1:]), clip[0]))

    with closing(prefetch(length, clips)) as results:
        for i, ((rate, split, name), result) in enumerate(zip(clips, results, strict=True)):
            file = f"{rate}/{split}/{name}"
            try:
                lengths[rate][file] = result.result()
            except AudioError as error:
                yield _problem(file, task / file, error)
            else:
                if is_event:
                    seconds_here = lengths[rate][file] / rate
                    yield from _past_end(file, labels[split][name], seconds_here, split)
            if progress:
                progress(i + 1, len(clips))
    if is_length(seconds):
        for rate, by_file in lengths.items():
            yield from _of_other_lengths(by_file, rate, seconds)


def _past_end(file: str, events: Any, seconds: float, split: str) -> Iterator[TaskProblem]:
    """Find events past the end of a clip, among those whose times are valid."""
    try:
        times = [(float(event["start"]) / 1000, float(event["end"]) / 1000) for event in events]
    except (TypeError, ValueError, KeyError, OverflowError):
        return  # found as a problem of the labels
    for onset, offset in events_past_end(times, seconds):
        reason = (
            f"is {seconds:g} s long, but {split}.json has an event from {onset:g} to {offset:g} s"
        )
        yield TaskProblem(file, reason)


def _of_other_lengths(
    by_file: Mapping[str, int], sample_rate: int, seconds: float
) -> Iterator[TaskProblem]:
    """Find clips that do not have the length of the task; heareval makes batches of all of them.

    Lengths may be rounded up or down to a sample, but for all clips alike.
    """
    near = [length for length in by_file.values() if abs(length - seconds * sample_rate) < 1]
    usual = Counter(near).most_common(1)[0][0] if near else round(seconds * sample_rate)
    for file, length in by_file.items():
        if length != usual:
            reason = f"has {length} samples; the {seconds:g} s of the task are {usual}"
            yield TaskProblem(file, reason)
