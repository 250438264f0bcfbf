"""The audio of a HEAR task at other sample rates: HEAR itself distributes 48000 Hz only."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple

from hear_core.errors import HearError
from hear_core.io.files import exclusive_lock
from hear_core.io.prefetch import prefetch
from hear_eval.tasks.audio import flaw, rates
from hear_eval.tasks.description import METADATA, TaskError, are_names, read_json
from hear_eval.tasks.writing import convert


class Resampled(NamedTuple):
    """What became of the files of a task.

    Args:
        written: How many were written.
        kept: How many were there already.
        failures: Why others could not be, by the paths of what they would have been made from.
    """

    written: int
    kept: int
    failures: dict[Path, str]


def resample_task(
    task: Path, sample_rate: int, progress: Callable[[int, int], object] | None = None
) -> Resampled:
    """Add the audio of a task at a rate, from the highest other rate that has all of its files.

    Where none has all, it is the one that has most. Files that are there and whole, by their
    headers, are kept, so that a run that was cut off can go on. One that is damaged is written
    again, but from a higher rate only: no copy takes the place of what may be the original. What
    cannot be read does not stop the others.

    Args:
        task: Folder of the task.
        sample_rate: Wanted, in Hz.
        progress: Called as files are done, with how many are and how many there are.

    Raises:
        TaskError: The folder is no task, or holds no audio.
        ConfigError: Another process writes the audio of this rate.
    """
    if not (task / METADATA).is_file():
        msg = f"{task} is not a HEAR task: it has no {METADATA}"
        raise TaskError(msg)
    best, files = _best(task, sample_rate)
    source, target = task / str(best), task / str(sample_rate)
    with closing(prefetch(lambda file: flaw(target / file, sample_rate), files)) as reasons:
        flaws = {file: reason.result() for file, reason in zip(files, reasons, strict=True)}
    why = f"{best} Hz is a lower rate" if best < sample_rate else "the task has no other rate"
    failures = {
        source / file: f"{target / file} {reason}; it is not made again, since {why}: get it anew"
        for file, reason in flaws.items()
        if reason and best <= sample_rate and (target / file).exists()
    }
    todo = [file for file in files if flaws[file] and source / file not in failures]
    settled = len(files) - len(todo)
    kept = settled - len(failures)
    if progress and settled:
        progress(settled, len(files))

    def add(file: Path) -> None:
        convert(source / file, target / file, sample_rate)

    # Where nothing is to be written, the folder need not be writable.
    with (
        exclusive_lock(target, "wait for it") if todo else nullcontext(),
        closing(prefetch(add, todo)) as results,
    ):
        for done, (file, result) in enumerate(zip(todo, results, strict=True), settled + 1):
            try:
                result.result()
            except HearError as error:
                failures[source / file] = str(error)
            if progress:
                progress(done, len(files))
    return Resampled(len(files) - kept - len(failures), kept, failures)


def _best(task: Path, sample_rate: int) -> tuple[int, list[Path]]:
    """Return the rate that audio is made from, and its files as paths in its folder."""
    there = {rate: _files(task / str(rate)) for rate in rates(task)}
    if not there:
        msg = f"{task} holds no audio: it has no folder named after a sample rate, such as 48000"
        raise TaskError(msg)
    named = _named(task) or set().union(*there.values())
    others = there.keys() - {sample_rate}
    best = max(others, key=lambda rate: (len(there[rate] & named), rate), default=sample_rate)
    return best, sorted(there[best])


def _files(folder: Path) -> set[Path]:
    """Return the audio of a rate, as paths in its folder."""
    return {path.relative_to(folder) for path in folder.glob("*/[!.]*")}


def _named(task: Path) -> set[Path]:
    """Return the audio that the splits of a task name, as `_files`; none if they cannot be read."""
    try:
        splits = read_json(task / METADATA).get("splits", [])
        return {
            Path(split, file)
            for split in (splits if are_names(splits) else [])
            for file in read_json(task / f"{split}.json")
        }
    except TaskError:
        return set()
