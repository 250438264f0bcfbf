"""Files of the embeddings of one split of a task, in the format of heareval.

``<split>.embeddings.npy`` has rows of float32 without a header; their number and length are in
``<split>.embedding-dimensions.json``. ``<split>.target-labels.pkl`` has the labels of every row,
and for events ``<split>.filename-timestamps.json`` has the clip and the time in milliseconds.

Rows are appended to a temporary file that gets its name when all rows are there. A journal has a
line for every batch in it, which is written after the rows of the batch.
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

from hear_core.io.files import atomic_write, writing
from hear_core.io.journal import Journal

# Called with the clips of a batch, their rows, and the times (clips, timestamps) of events.
Append: TypeAlias = Callable[[Sequence[str], np.ndarray, np.ndarray | None], None]

_AFTER = 0.0001  # milliseconds after its end in which an event still counts, as in heareval
_BYTES = np.dtype(np.float32).itemsize


class WrittenBatch(NamedTuple):
    """A line of the journal.

    Args:
        clips: Names of the clips whose rows were written.
        size: Number of values of an embedding.
        times: Times of the rows of each clip in milliseconds; None for scenes, with one row each.
    """

    clips: list[str]
    size: int
    times: list[list[float]] | None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.clips) if self.times is None else sum(map(len, self.times))


class SplitFiles:
    """The files of a split in a folder of embeddings.

    Args:
        folder: Folder of the embeddings of a task.
        split: Name of the split.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split = folder, split
        self._rows = self._file("embeddings.npy")
        self._part = folder / f".{split}.embeddings.npy.part"
        self._journal = Journal(folder / f".{split}.journal")
        self._batches: list[WrittenBatch] = []

    @property
    def done(self) -> bool:
        """Whether all files are there."""
        return self._rows.is_file()

    @property
    def size(self) -> int | None:
        """Number of values of the embeddings written so far; None if there are none."""
        return self._batches[0].size if self._batches else None

    def discard(self) -> None:
        """Remove the embeddings, complete or not."""
        for path in (self._rows, self._part, self._journal.path):
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove the journal, which a run leaves that is killed after its last batch."""
        self._journal.remove()

    def resume(self, clips: Sequence[str]) -> int:
        """Keep the batches that were written before.

        Args:
            clips: Names of all clips of the split, in the order of the rows.

        Returns:
            The number of clips at the beginning that are written.
        """
        written, count, kept = self._part.stat().st_size if self._part.is_file() else 0, 0, 0
        for batch in _batches(self._journal):
            bytes_ = batch.rows * batch.size * _BYTES
            if list(clips[count : count + len(batch.clips)]) != batch.clips:
                break
            if kept + bytes_ > written:
                break
            self._batches.append(batch)
            count, kept = count + len(batch.clips), kept + bytes_
        self._journal.write(self._batches)
        with writing(self._rows, self._part):
            self._part.touch()
            os.truncate(self._part, kept)
        return count

    @contextmanager
    def appending(self) -> Iterator[Append]:
        """Open the files to write further batches, with rows (clips, ..., size)."""
        with (
            writing(self._rows, self._part),
            self._part.open("ab") as rows,
            self._journal.appending() as append_line,
        ):

            def append(clips: Sequence[str], found: np.ndarray, times: np.ndarray | None) -> None:
                listed = None if times is None else [row.tolist() for row in times]
                batch = WrittenBatch(list(clips), found.shape[-1], listed)
                rows.write(np.ascontiguousarray(found, np.float32).tobytes())
                rows.flush()
                os.fsync(rows.fileno())
                append_line(batch)
                self._batches.append(batch)

            yield append

    def finish(self, labels: Mapping[str, Sequence[Any]]) -> None:
        """Write all other files, and give the file of rows its name.

        Args:
            labels: Labels by clip: its classes, or its events with times in milliseconds.
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
    """Return the classes that are active at points in time.

    Args:
        events: Events with a label, a start and an end in milliseconds, both inclusive.
        times: Points in time in milliseconds.

    Returns:
        The active classes at every time, each once.
    """
    at = np.asarray(times, np.float64)
    active: list[dict[Any, None]] = [{} for _ in times]
    for event in events:
        start, end = float(event["start"]), float(event["end"])
        for row in np.flatnonzero((start <= at) & (at < end + _AFTER)):
            active[row][event["label"]] = None
    return [list(found) for found in active]


def _batches(journal: Journal) -> Iterator[WrittenBatch]:
    """Yield the batches of a journal up to the first entry that is not one."""
    for found in journal.read():
        try:
            batch = WrittenBatch(*found)
            if not (batch.clips and type(batch.size) is int and batch.size > 0 and batch.rows):
                return
        except (TypeError, ValueError):
            return
        yield batch
