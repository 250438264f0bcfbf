"""The files that embeddings are kept in: each appears under its name only when it is whole.

A format is a context manager. It is opened on the path of one output file, replaces what may
stand there, and gives a function ``add(file, embeddings, timestamps)``, to be called once for
every audio file that goes into it. The bytes depend on what is added and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hear_core.io.files import atomic_write

Add: TypeAlias = Callable[[str, np.ndarray, np.ndarray | None], None]

_ROW_GROUP_BYTES = 32 << 20


class Format(NamedTuple):
    """One way of keeping embeddings.

    Args:
        suffix: Of its files.
        joins: Whether one file takes the embeddings of many audio files.
        open: The context manager.
    """

    suffix: str
    joins: bool
    open: Callable[[Path], AbstractContextManager[Add]]


@contextmanager
def _npy(path: Path) -> Iterator[Add]:
    beside = path.with_suffix(".timestamps.npy")
    path.unlink(missing_ok=True)
    beside.unlink(missing_ok=True)

    def add(file: str, embeddings: np.ndarray, timestamps: np.ndarray | None) -> None:
        for target, array in ((beside, timestamps), (path, embeddings)):
            if array is not None:
                with atomic_write(target) as part, part.open("wb") as opened:
                    np.save(opened, array)

    yield add


@contextmanager
def _npz(path: Path) -> Iterator[Add]:
    path.unlink(missing_ok=True)

    def add(file: str, embeddings: np.ndarray, timestamps: np.ndarray | None) -> None:
        arrays = {"embeddings": embeddings}
        if timestamps is not None:
            arrays["timestamps"] = timestamps
        with atomic_write(path) as part, part.open("wb") as opened:
            np.savez(opened, **arrays)  # type: ignore[arg-type]  # of allow_pickle

    yield add


@contextmanager
def _parquet(path: Path) -> Iterator[Add]:
    import pyarrow as pa
    from pyarrow import parquet

    writer: Any = None
    waiting: list[Any] = []
    path.unlink(missing_ok=True)

    def add(file: str, embeddings: np.ndarray, timestamps: np.ndarray | None) -> None:
        rows = np.atleast_2d(embeddings)
        columns = {"file": pa.array([file] * len(rows))}
        if timestamps is not None:
            columns["timestamp"] = pa.array(timestamps)
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(rows.ravel(), rows.shape[1])
        waiting.append(pa.table(columns))
        if sum(table.nbytes for table in waiting) > _ROW_GROUP_BYTES:
            flush()

    def flush() -> None:
        nonlocal writer
        table = pa.concat_tables(waiting)
        waiting.clear()
        if writer is None:
            writer = parquet.ParquetWriter(part, table.schema)
        # One row group, so that its length is decided here and by nothing else.
        writer.write_table(table, row_group_size=len(table))

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        yield add
        if waiting:
            flush()
    finally:
        if writer is not None:
            writer.close()
    if writer is not None:
        part.replace(path)


FORMATS = {
    "npy": Format(".npy", joins=False, open=_npy),
    "npz": Format(".npz", joins=False, open=_npz),
    "parquet": Format(".parquet", joins=True, open=_parquet),
}
