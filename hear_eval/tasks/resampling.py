"""The audio of a HEAR task at other sample rates: HEAR itself distributes 48000 Hz only."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from hear_core.errors import HearError
from hear_eval.embeddings.ahead import ahead
from hear_eval.tasks.audio import is_whole, rates
from hear_eval.tasks.description import METADATA, TaskError
from hear_eval.tasks.writing import convert


class Resampled(NamedTuple):
    """What became of the files of a task.

    Args:
        written: How many were written.
        kept: How many were there already.
        failures: Why others could not be read, by their paths.
    """

    written: int
    kept: int
    failures: dict[Path, str]


def resample_task(
    task: Path, sample_rate: int, progress: Callable[[int, int], object] | None = None
) -> Resampled:
    """Add the audio of a task at a rate, from the highest other rate that it has all of.

    Files that are there and whole are kept, so that a run that was cut off can go on. One that
    cannot be read does not stop the others.

    Args:
        task: Folder of the task.
        sample_rate: Wanted, in Hz.
        progress: Called after every file, with how many are done and how many there are.

    Raises:
        TaskError: The folder is no task, or holds no audio.
    """
    if not (task / METADATA).is_file():
        msg = f"{task} is not a HEAR task: it has no {METADATA}"
        raise TaskError(msg)
    found = rates(task)
    if not found:
        msg = f"{task} holds no audio: it has no folder named after a sample rate, such as 48000"
        raise TaskError(msg)
    files = {rate: sorted((task / str(rate)).glob("*/[!.]*")) for rate in found}
    others = [rate for rate in found if rate != sample_rate]
    # One that was cut off, while it was added itself, has fewer files.
    best = max(others, key=lambda rate: (len(files[rate]), rate), default=sample_rate)
    paths, source, target = files[best], task / str(best), task / str(sample_rate)

    def add(path: Path) -> bool:
        wanted = target / path.relative_to(source)
        if wanted.is_file() and is_whole(wanted, sample_rate):
            return False
        convert(path, wanted, sample_rate)
        return True

    written, failures = 0, {}
    with closing(ahead(add, paths)) as results:
        for i, (path, result) in enumerate(zip(paths, results, strict=True)):
            try:
                written += result.result()
            except HearError as error:
                failures[path] = str(error)
            if progress:
                progress(i + 1, len(paths))
    return Resampled(written, len(paths) - written - len(failures), failures)
