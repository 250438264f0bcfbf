"""The files of embeddings of one split of a task, in the format of heareval.

``<split>.embeddings.npy`` holds rows of float32 and no header, whose number and length stand in
``<split>.embedding-dimensions.json``; ``<split>.target-labels.pkl`` the labels of every row, and
``<split>.filename-timestamps.json``, of events only, its clip and its time in milliseconds.

Rows are appended to a file that takes its name when the last of them is there. What is in it is
said by a journal, with a line for every batch, which is written after the rows of that batch.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hear_core.io.files import atomic_write

# Takes the clips of a batch, their rows, and the times (clips, timestamps) of those if any.
Append: TypeAlias = Callable[[Sequence[str], np.ndarray, np.ndarray | None], None]

_AFTER = 0.0001  # milliseconds after its end in which an event is still heard, as in heareval
_BYTES = np.dtype(np.float32).itemsize


class Batch(NamedTuple):
    """A line of the journal.

    Args:
        clips: Names of the clips whose rows were written.
        size: Of an embedding.
        times: Of the rows of each clip, in milliseconds; None for scenes, which have one row.
    """

    clips: list[str]
    size: int
    times: list[list[float]] | None

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(self.clips) if self.times is None else sum(map(len, self.times))


class SplitFiles:
    """The files of a split in a folder of embeddings.

    Args:
        folder: The folder.
        split: Name of the split.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split = folder, split
        self._rows = self._file("embeddings.npy")
        self._part = folder / f".{split}.embeddings.npy.part"
        self._journal = folder / f".{split}.journal"
        self._batches: list[Batch] = []

    @property
    def done(self) -> bool:
        """Whether all of them are there."""
        return self._rows.is_file()

    @property
    def size(self) -> int | None:
        """Of the embeddings that were written so far; None if there are none."""
        return self._batches[0].size if self._batches else None

    def discard(self) -> None:
        """Remove what is there, finished or not."""
        for path in (self._rows, self._part, self._journal):
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what a run left that was killed when all was done."""
        self._journal.unlink(missing_ok=True)

    def resume(self, clips: Sequence[str]) -> int:
        """Take up the batches that were written before.

        Args:
            clips: All of the split, in the order of the rows.

        Returns:
            How many of the first clips are written.
        """
        written, count, kept = self._part.stat().st_size if self._part.is_file() else 0, 0, 0
        for batch in _read(self._journal):
            bytes_ = batch.rows * batch.size * _BYTES
            if list(clips[count : count + len(batch.clips)]) != batch.clips:
                break
            if kept + bytes_ > written:
                break
            self._batches.append(batch)
            count, kept = count + len(batch.clips), kept + bytes_
        with atomic_write(self._journal) as part:
            part.write_text("".join(map(_line, self._batches)), encoding="utf-8")
        self._part.touch()
        os.truncate(self._part, kept)
        return count

    @contextmanager
    def appending(self) -> Iterator[Append]:
        """Open the files to write further batches, whose rows are (clips, …, size)."""
        with self._part.open("ab") as rows, self._journal.open("a", encoding="utf-8") as journal:

            def append(clips: Sequence[str], found: np.ndarray, times: np.ndarray | None) -> None:
                listed = None if times is None else [row.tolist() for row in times]
                batch = Batch(list(clips), found.shape[-1], listed)
                rows.write(np.ascontiguousarray(found, np.float32).tobytes())
                rows.flush()
                os.fsync(rows.fileno())
                journal.write(_line(batch))
                journal.flush()
                self._batches.append(batch)

            yield append

    def finish(self, labels: Mapping[str, Sequence[Any]]) -> None:
        """Write all other files, and give the rows their name.

        Args:
            labels: By clip: its classes, or its events with times in milliseconds.
        """
        rows = sum(batch.rows for batch in self._batches)
        dimensions = json.dumps([rows, self.size])
        targets: list[list[Any]] = []
        places: list[tuple[str, float]] = []
        timed = False
        for batch in self._batches:
            if batch.times is None:
                targets += [list(labels[clip]) for clip in batch.clips]
                continue
            timed = True
            for clip, times in zip(batch.clips, batch.times, strict=True):
                targets += labels_at(labels[clip], times)
                place = str(self._folder / self._split / clip)
                places += [(place, time) for time in times]
        with atomic_write(self._file("embedding-dimensions.json")) as part:
            part.write_text(dimensions, encoding="utf-8")
        with atomic_write(self._file("target-labels.pkl")) as part:
            part.write_bytes(pickle.dumps(targets))
        if timed:
            with atomic_write(self._file("filename-timestamps.json")) as part:
                part.write_text(json.dumps(places, indent=4), encoding="utf-8")
        self._part.replace(self._rows)
        self.tidy()

    def _file(self, kind: str) -> Path:
        return self._folder / f"{self._split}.{kind}"


def labels_at(events: Sequence[Mapping[str, Any]], times: Sequence[float]) -> list[list[Any]]:
    """Return the classes that are heard at points in time.

    Args:
        events: With a label, a start and an end in milliseconds; they include both.
        times: In milliseconds.

    Returns:
        The classes at every time, each once.
    """
    at = np.asarray(times, np.float64)
    heard: list[dict[Any, None]] = [{} for _ in times]
    for event in events:
        start, end = float(event["start"]), float(event["end"])
        for row in np.flatnonzero((start <= at) & (at < end + _AFTER)):
            heard[row][event["label"]] = None
    return [list(found) for found in heard]


def _line(batch: Batch) -> str:
    return json.dumps(batch) + "\n"


def _read(journal: Path) -> Iterator[Batch]:
    """Yield the batches of a journal up to a line that was cut off."""
    if not journal.is_file():
        return
    for text in journal.read_text(encoding="utf-8").splitlines():
        try:
            yield Batch(*json.loads(text))
        except (ValueError, TypeError):
            return
