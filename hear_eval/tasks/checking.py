"""What is wrong with a HEAR task: all of it in one go, file by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from hear_core.errors import AudioError
from hear_core.io.prefetch import prefetch
from hear_eval.tasks.audio import rates, read_clip
from hear_eval.tasks.description import (
    METADATA,
    VOCABULARY,
    Description,
    TaskError,
    are_names,
    label_problems,
    problems,
    read_description,
    read_json,
    read_vocabulary,
)

_SHOWN = 5  # classes in one line


class Problem(NamedTuple):
    """What is wrong with a file of a task, or with a part of it.

    Args:
        file: Its path in the folder of the task.
        reason: The end of a sentence that begins with the file.
    """

    file: str
    reason: str


class Report(NamedTuple):
    """What was found in a task.

    Args:
        problems: What is wrong.
        clips: How many it has.
        splits: Their names.
        rates: The sample rates that it has audio of.
    """

    problems: list[Problem]
    clips: int
    splits: list[str]
    rates: list[int]


def check_task(task: Path, progress: Callable[[int, int], object] | None = None) -> Report:
    """Look for everything that is wrong with a task.

    Args:
        task: Its folder.
        progress: Called after every file of audio, with how many are read and how many there are.
    """
    found: list[Problem] = []
    metadata: dict[str, Any] = {}
    try:
        metadata = read_json(task / METADATA)
    except TaskError as error:
        found.append(_problem(METADATA, task / METADATA, error))
    else:
        found += [Problem(METADATA, reason) for reason in problems(metadata)]
    try:
        read_vocabulary(task)
    except TaskError as error:
        found.append(_problem(VOCABULARY, task / VOCABULARY, error))
    description = None if found else read_description(task)
    splits = metadata.get("splits", [])
    labels: dict[str, dict[str, Any]] = {}
    for split in splits if are_names(splits) else []:
        path = task / f"{split}.json"
        try:
            labels[split] = read_json(path)
        except TaskError as error:
            found.append(_problem(path.name, path, error))
            continue
        if description:
            for file, reason in label_problems(labels[split], description):
                found.append(Problem(path.name, f"{file and file + ' '}{reason}"))
    found += _twice(labels)
    if description and not found:
        found += _unseen(labels, description)
    found += _check_audio(task, labels, metadata.get("sample_duration"), progress)
    clips = sum(map(len, labels.values()))
    return Report(found, clips, list(labels), rates(task) if task.is_dir() else [])


def _problem(name: str, path: Path, error: Exception) -> Problem:
    return Problem(name, str(error).removeprefix(f"{path} "))


def _twice(labels: Mapping[str, Iterable[str]]) -> Iterator[Problem]:
    """Find clips in two splits: predictors would be tested on what they have learnt."""
    known: dict[str, str] = {}
    for split, files in labels.items():
        for file in files:
            if (other := known.setdefault(file, split)) != split:
                yield Problem(f"{split}.json", f"{file} is in {other}.json as well")


def _unseen(labels: Mapping[str, Mapping[str, Any]], description: Description) -> Iterator[Problem]:
    """Find classes that nothing is trained on."""
    names = {split: _names(by_file, description) for split, by_file in labels.items()}
    every = set().union(*names.values())
    if unused := [name for name in description.vocabulary if name not in every]:
        yield Problem(VOCABULARY, f"has classes that no clip has: {_some(unused)}")
    for fold in description.folds:
        trained = set().union(*(names[split] for split in fold.train))
        for split in (*fold.valid, *fold.test):
            if unseen := sorted(names[split] - trained):
                reason = f"has classes that {', '.join(fold.train)} lack, to train on: "
                yield Problem(f"{split}.json", reason + _some(unseen))


def _names(by_file: Mapping[str, Any], description: Description) -> set[str]:
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
) -> Iterator[Problem]:
    found = rates(task) if task.is_dir() else []
    if not found:
        yield Problem(".", "has no audio: no folder is named after a sample rate, such as 48000")
    clips: list[tuple[int, str]] = []
    for rate in found:
        folder = task / str(rate)
        for split in sorted({path.name for path in folder.glob("[!.]*")} - labels.keys()):
            yield Problem(f"{rate}/{split}", "is no split of the task")
        for split, by_file in labels.items():
            there = {path.name for path in (folder / split).glob("[!.]*")}
            for file in sorted(by_file.keys() - there):
                yield Problem(f"{rate}/{split}/{file}", f"is missing; {split}.json names it")
            for file in sorted(there - by_file.keys()):
                yield Problem(f"{rate}/{split}/{file}", f"is not in {split}.json")
            clips += [(rate, f"{rate}/{split}/{file}") for file in sorted(there & by_file.keys())]
    lengths: dict[int, dict[str, int]] = {rate: {} for rate in found}
    with closing(prefetch(lambda clip: len(read_clip(task / clip[1], clip[0])), clips)) as results:
        for i, ((rate, file), result) in enumerate(zip(clips, results, strict=True)):
            try:
                lengths[rate][file] = result.result()
            except AudioError as error:
                yield _problem(file, task / file, error)
            if progress:
                progress(i + 1, len(clips))
    if isinstance(seconds, int | float):
        for rate, by_file in lengths.items():
            yield from _of_other_lengths(by_file, rate, seconds)


def _of_other_lengths(by_file: Mapping[str, int], rate: int, seconds: float) -> Iterator[Problem]:
    """Find clips that are not as long as the task says; heareval makes batches of all of them.

    Half a sample may have been rounded either way, but for all clips alike.
    """
    near = [length for length in by_file.values() if abs(length - seconds * rate) < 1]
    usual = Counter(near).most_common(1)[0][0] if near else round(seconds * rate)
    for file, length in by_file.items():
        if length != usual:
            reason = f"has {length} samples; {seconds:g} s, as the task says, are {usual}"
            yield Problem(file, reason)
