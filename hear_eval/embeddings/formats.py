"""File formats of embeddings.

A format opens one output file as a context manager, which gives a function
``add(file, embeddings, timestamps)`` to be called once per audio file. The output file replaces an
older one and appears when it is complete. Its bytes depend only on what is added.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hear_core.errors import ConfigError
from hear_core.io.arrays import read_array
from hear_core.io.files import atomic_write, writing
from hear_eval.embeddings.rows import Rows, parts_of, write_npy

Add: TypeAlias = Callable[[str, Rows, Rows | None], None]

_ROW_GROUP_BYTES = 32 << 20


class EmbeddingFormat(NamedTuple):
    """A file format of embeddings.

    Args:
        suffix: Suffix of the output files.
        joins: Whether one output file holds the embeddings of several audio files.
        open: Context manager that writes an output file.
        is_complete: Function of the path of an output file that returns whether it is undamaged,
            and of whether it should hold timestamps.
        prefix: Prefix of the names of the index and of the settings in the output folder.
    """

    suffix: str
    joins: bool
    open: Callable[[Path], AbstractContextManager[Add]]
    is_complete: Callable[[Path, bool], bool]
    prefix: str = ""


@contextmanager
def _open_npy(path: Path) -> Iterator[Add]:
    beside = _timestamps_path(path)
    _remove(path, beside)

    def add(file: str, embeddings: Rows, timestamps: Rows | None) -> None:
        for target, array in ((beside, timestamps), (path, embeddings)):
            if array is not None:
                with atomic_write(target) as part, part.open("wb") as opened:
                    write_npy(opened, array)

    yield add


def _is_complete_npy(path: Path, timestamps: bool) -> bool:
    paths = [path, _timestamps_path(path)] if timestamps else [path]
    return all(map(_is_complete_array, paths))


def _is_complete_array(path: Path) -> bool:
    try:
        read_array(path, finite=False)
    except ConfigError:
        return False
    return True


def _timestamps_path(path: Path) -> Path:
    return path.with_suffix(".timestamps.npy")


@contextmanager
def _open_npz(path: Path) -> Iterator[Add]:
    _remove(path)

    def add(file: str, embeddings: Rows, timestamps: Rows | None) -> None:
        arrays = {"embeddings": embeddings}
        if timestamps is not None:
            arrays["timestamps"] = timestamps
        with atomic_write(path) as part, zipfile.ZipFile(part, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as opened:
                    write_npy(opened, array)

    yield add


def _is_complete_npz(path: Path, timestamps: bool) -> bool:
    wanted = {"embeddings.npy", "timestamps.npy"} if timestamps else {"embeddings.npy"}
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist()) == wanted and archive.testzip() is None
    except Exception:  # what is raised depends on where the archive is damaged
        return False


@contextmanager
def _open_parquet(path: Path) -> Iterator[Add]:
    import pyarrow as pa
    from pyarrow import parquet

    writer: Any = None
    waiting: list[Any] = []
    _remove(path)

    def add(file: str, embeddings: Rows, timestamps: Rows | None) -> None:
        stamps = repeat(None) if timestamps is None else parts_of(timestamps)
        for part_of_file, times in zip(parts_of(embeddings), stamps, strict=False):
            add_rows(file, np.atleast_2d(part_of_file), times)

    def add_rows(file: str, rows: np.ndarray, timestamps: np.ndarray | None) -> None:
        columns = {"file": pa.array([file] * len(rows))}
        if timestamps is not None:
            columns["timestamp"] = pa.array(timestamps)
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(rows.ravel(), rows.shape[1])
        waiting.append(pa.table(columns))
        if sum(table.nbytes for table in waiting) > _ROW_GROUP_BYTES:
            with writing(path, part):
                flush()

    def flush() -> None:
        nonlocal writer
        table = pa.concat_tables(waiting)
        waiting.clear()
        if writer is None:
            writer = parquet.ParquetWriter(part, table.schema)
        # One row group, so that its length is decided here and by nothing else.
        writer.write_table(table, row_group_size=len(table))

    with _maybe_written(path) as part:
        try:
            yield add
            if waiting:
                flush()
        finally:
            if writer is not None:
                writer.close()


class _NotWrittenError(Exception):
    pass


@contextmanager
def _maybe_written(path: Path) -> Iterator[Path]:
    """Provide a temporary path as `atomic_write` does, that need not be written."""
    with suppress(_NotWrittenError), atomic_write(path) as part:
        yield part
        if not part.exists():
            raise _NotWrittenError


def _is_complete_parquet(path: Path, timestamps: bool) -> bool:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        names = set(parquet.read_schema(path).names)
    except (OSError, pa.ArrowException):
        return False
    return names == {"file", "embedding"} | ({"timestamp"} if timestamps else set())


def _remove(*paths: Path) -> None:
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)


FORMATS = {
    "npy": EmbeddingFormat(".npy", joins=False, open=_open_npy, is_complete=_is_complete_npy),
    "npz": EmbeddingFormat(".npz", joins=False, open=_open_npz, is_complete=_is_complete_npz),
    "parquet": EmbeddingFormat(
        ".parquet",
        joins=True,
        open=_open_parquet,
        is_complete=_is_complete_parquet,
        # Arrow and pandas read a folder as one table, except for names that begin with _ or a dot.
        prefix="_",
    ),
}
