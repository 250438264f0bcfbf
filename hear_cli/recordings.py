"""Recordings that a command is given: each is processed on its own, and none stops the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
import typer

from hear_cli.failures import describe_failure
from hear_cli.outputs import Results
from hear_cli.progress import progress_bar
from hear_core.audio.files import find_recordings
from hear_core.audio.reading import duration_of
from hear_core.errors import FileError
from hear_core.events.formats import EventRow
from hear_core.events.timed_scores import TimedScores
from hear_core.io.prefetch import prefetch
from hear_core.io.resumable import Resumable
from hear_core.io.threads import torch_threads

T = TypeVar("T")
R = TypeVar("R")
Report = Callable[[float], None]
"""Is told how many seconds of a recording have been processed."""


class _Outcome(NamedTuple):
    """The rows of a recording, or the failure, and its length in seconds."""

    rows: list[EventRow] | Exception
    seconds: float
    resumed: bool = False


def recordings_in(inputs: Sequence[Path]) -> list[Path]:
    """Return the audio files of files, folders, patterns and tables, and report what is ignored.

    Raises:
        BadParameter: Nothing is found.
        ConfigError: A pattern matches nothing, or a table does not list files.
    """
    found = find_recordings(inputs)
    if others := found.ignored.total():
        kinds = ", ".join(
            f"{n} {suffix or 'without a suffix'}" for suffix, n in found.ignored.most_common()
        )
        typer.echo(
            f"hear: {others} files without the suffix of an audio format are ignored: {kinds}",
            err=True,
        )
    if not found.sources:
        msg = f"There are no audio files in {', '.join(map(str, inputs))}."
        raise typer.BadParameter(msg, param_hint="FILES")
    return [Path(source.name) for source in found.sources]


def reported(parts: Iterable[TimedScores], report: Report) -> Iterator[TimedScores]:
    """Yield parts of a recording, and report how much of it has been processed."""
    for part in parts:
        yield part
        report(float(part.offset[-1]))


def process(
    files: Sequence[Path],
    work: Callable[[Path, Report], list[EventRow]],
    results: Results,
    resumable: Resumable | None,
    jobs: int,
) -> None:
    """Process recordings, and write the rows of each as soon as it and those before it are done.

    Args:
        files: Recordings.
        work: Returns the rows of a recording.
        results: Outputs.
        resumable: Results of a former run to use, and of this one to keep; None for neither.
        jobs: Number of recordings to process at a time.
    """
    recordings = Recordings(files, jobs, resumable)
    with resumable.running() if resumable else nullcontext(), results.opened():
        for file, rows in recordings.process(work):
            try:
                results.add(file, rows)
            except FileError as error:
                if not results.separate:
                    raise
                recordings.fail(file, error)
    recordings.finish()


class Recordings:
    """Audio files to process, some at a time, with progress and results in order.

    Args:
        files: Paths of the files.
        jobs: Number of files to process at a time.
        resumable: Results of a former run to use, and of this one to keep; None for neither.
    """

    def __init__(
        self, files: Sequence[Path], jobs: int = 1, resumable: Resumable | None = None
    ) -> None:
        self._files, self._jobs, self._resumable = files, jobs, resumable
        self._failures: dict[Path, str] = {}

    def process(
        self, work: Callable[[Path, Report], list[EventRow]]
    ) -> Iterator[tuple[Path, list[EventRow]]]:
        """Yield files and what `work` returns for each; those for which it raises are left out."""
        start, audio, resumed = time.perf_counter(), 0.0, 0
        sizes = [file.stat().st_size if file.is_file() else 0 for file in self._files]
        with progress_bar() as progress:
            bar = progress.add_task("", total=sum(sizes) or None, now="")

            def outcome(item: tuple[Path, int]) -> _Outcome:
                file, size = item
                if (known := self._known(file)) is not None:
                    progress.advance(bar, size)
                    return _Outcome(known, 0.0, resumed=True)
                length, done = duration_of(file), 0.0

                def report(seconds: float) -> None:
                    nonlocal done
                    if length:
                        progress.advance(bar, size * max(0.0, min(seconds, length) - done) / length)
                    done = max(done, min(seconds, length or seconds))

                try:
                    rows = work(file, report)
                except Exception as error:  # whatever it is, the other files are not to blame
                    return _Outcome(error, 0.0)
                finally:
                    progress.advance(bar, size * (1 - done / length) if length else size)
                return _Outcome(rows, done or length or 0.0)  # a header may promise too much

            items = zip(self._files, sizes, strict=True)
            with closing(_some_at_a_time(outcome, items, self._jobs)) as outcomes:
                for number, (file, found) in enumerate(zip(self._files, outcomes, strict=True), 1):
                    audio += found.seconds
                    resumed += found.resumed
                    progress.update(bar, now=f"{number} of {len(self._files)} files")
                    if isinstance(found.rows, Exception):
                        self._failures[file] = describe_failure(found.rows)
                        continue
                    if self._resumable and not found.resumed:
                        self._resumable.keep(file, [list(row[1:]) for row in found.rows])
                    yield file, found.rows
        if len(self._files) > 1:
            _summarise(len(self._files), resumed, audio, time.perf_counter() - start)

    def _known(self, file: Path) -> list[EventRow] | None:
        known = self._resumable.result_of(file) if self._resumable else None
        try:
            return None if known is None else [EventRow(str(file), *row) for row in known]
        except TypeError:  # damaged: the file is processed again
            return None

    def fail(self, file: Path, error: Exception) -> None:
        """List a file as left out, as its results could not be written."""
        self._failures[file] = describe_failure(error)

    def finish(self) -> None:
        """List the files that were left out, and exit with code 1 if there are any."""
        if self._failures:
            count = f"{len(self._failures)} of {len(self._files)} files"
            typer.echo(f"hear: {count} could not be processed:", err=True)
            for file, reason in self._failures.items():
                named = reason if str(file) in reason else f"{file}: {reason}"
                typer.echo(f"  {named}", err=True)
            raise typer.Exit(1)
        if self._resumable:
            self._resumable.remove()


def _some_at_a_time(
    function: Callable[[T], R], items: Iterable[T], jobs: int
) -> Generator[R, None, None]:
    """Yield the results of a function in order, with some calls at a time.

    With a single job, a result is taken before the next call begins.
    """
    if jobs == 1:
        yield from map(function, items)
        return
    with (
        torch_threads(max(1, torch.get_num_threads() // jobs)),
        closing(prefetch(function, items, threads=jobs)) as futures,
    ):
        for future in futures:
            yield future.result()


def _summarise(files: int, resumed: int, audio: float, seconds: float) -> None:
    before = f", {resumed} of them in an earlier run" if resumed else ""
    typer.echo(
        f"hear: {files} files{before}; {audio:.0f} s of audio in {seconds:.1f} s, "
        f"{audio / max(seconds, 1e-9):.0f} times real time",
        err=True,
    )
