"""Resampling of HEAR tasks: HEAR distributes audio at 48000 Hz only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from hear_core.errors import HearError
from hear_core.io.files import exclusive_lock, remove_stale_parts
from hear_core.io.prefetch import prefetch
from hear_eval.tasks.audio import check_task_sample_rate, header_flaw, sample_rates_of
from hear_eval.tasks.description import METADATA, TaskError, read_task_json, safe_names
from hear_eval.tasks.writing import convert_clip


class ResampledTask(NamedTuple):
    """The result of resampling a task.

    Args:
        written: Number of files that were written.
        kept: Number of files that were there already.
        failures: Reasons why files could not be written, by the path of their source.
    """

    written: int
    kept: int
    failures: dict[Path, str]


def resample_task(
    task: Path, sample_rate: int, progress: Callable[[int, int], object] | None = None
) -> ResampledTask:
    """Add the audio of a task at another sample rate, from the highest rate that is complete.

    If no rate has all clips, the rate with most of them is the source. Files that are there and
    complete, judging by their headers, are kept, so that an interrupted run can be resumed. A
    damaged file is written again, but only from a higher rate: no copy replaces what may be the
    original. A file that cannot be read does not stop the others.

    Args:
        task: Folder of the task.
        sample_rate: Sample rate in Hz to add.
        progress: Called after every file with the number of files done and of all files.

    Raises:
        TaskError: The folder is not a task, or has no audio.
        ConfigError: The sample rate is out of range, or another process writes the same audio.
    """
    check_task_sample_rate(sample_rate)
    if not (task / METADATA).is_file():
        msg = f"{task} is not a HEAR task: it has no {METADATA}"
        raise TaskError(msg)
    best, files = _best_source(task, sample_rate)
    source, target = task / str(best), task / str(sample_rate)
    with closing(prefetch(lambda file: header_flaw(target / file, sample_rate), files)) as reasons:
        flaws = {file: reason.result() for file, reason in zip(files, reasons, strict=True)}
    why = f"{best} Hz is a lower rate" if best < sample_rate else "the task has no other rate"
    failures = {
        source / file: (
            f"{target / file} {reason}; it is not written again, since {why}: download it again"
        )
        for file, reason in flaws.items()
        if reason and best <= sample_rate and (target / file).exists()
    }
    todo = [file for file in files if flaws[file] and source / file not in failures]
    settled = len(files) - len(todo)
    kept = settled - len(failures)
    if progress and settled:
        progress(settled, len(files))

    def add(file: Path) -> None:
        convert_clip(source / file, target / file, sample_rate)

    # If nothing has to be written, the folder need not be writable.
    with (
        _writing_alone(target) if todo else nullcontext(),
        closing(prefetch(add, todo)) as results,
    ):
        for done, (file, result) in enumerate(zip(todo, results, strict=True), settled + 1):
            try:
                result.result()
            except HearError as error:
                failures[source / file] = str(error)
            if progress:
                progress(done, len(files))
    return ResampledTask(len(files) - kept - len(failures), kept, failures)


@contextmanager
def _writing_alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to a folder, and remove what killed ones left there."""
    with exclusive_lock(folder, "wait for it"):
        remove_stale_parts(folder)
        yield


def _best_source(task: Path, sample_rate: int) -> tuple[int, list[Path]]:
    """Return the sample rate to convert from, and its files relative to its folder."""
    there = {rate: _files(task / str(rate)) for rate in sample_rates_of(task)}
    if not there:
        msg = f"{task} has no audio: no folder in it is named after a sample rate, such as 48000"
        raise TaskError(msg)
    named = _named(task) or set().union(*there.values())
    others = there.keys() - {sample_rate}
    best = max(others, key=lambda rate: (len(there[rate] & named), rate), default=sample_rate)
    return best, sorted(there[best])


def _files(folder: Path) -> set[Path]:
    """Return the audio files of a sample rate, relative to its folder."""
    return {path.relative_to(folder) for path in folder.glob("*/[!.]*")}


def _named(task: Path) -> set[Path]:
    """Return the files that the splits of a task name, as `_files`; none if they are damaged."""
    try:
        return {
            Path(split, file)
            for split in safe_names(read_task_json(task / METADATA).get("splits", []))
            for file in safe_names(list(read_task_json(task / f"{split}.json")))
        }
    except TaskError:
        return set()
