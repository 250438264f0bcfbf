"""Rows of arrays that are collected on disk, so that memory does not depend on their number."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.lib import format as npy

from hear_core.io.files import writing

PART_ROWS = 4096
"""Number of rows that are read at a time."""


class RowFile:
    """An array that grows by rows, in a temporary file without a name.

    Args:
        folder: Folder whose file system holds the rows. It is made if it does not exist.

    Attributes:
        shape: Shape of the array; (0,) before the first rows.
        dtype: Type of the values.

    Raises:
        FileError: The file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype = np.dtype(np.float32)
        self._folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it is closed by close

    def append(self, rows: np.ndarray) -> None:
        """Add rows (rows, ...) at the end.

        Raises:
            ValueError: The rows have another size or type than those before.
            FileError: The file cannot be written.
        """
        if not self.shape[0]:
            self.shape, self.dtype = (0, *rows.shape[1:]), rows.dtype
        if (rows.shape[1:], rows.dtype) != (self.shape[1:], self.dtype):
            msg = f"have the shape {rows.shape[1:]} and the type {rows.dtype} after others"
            raise ValueError(msg)
        with writing(self._folder):
            self._file.write(np.ascontiguousarray(rows).data)
        self.shape = (self.shape[0] + len(rows), *self.shape[1:])

    def parts(self) -> Iterator[np.ndarray]:
        """Yield the rows in parts of `PART_ROWS`; the last may have fewer."""
        self._file.seek(0)
        row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        for start in range(0, self.shape[0], PART_ROWS):
            count = min(PART_ROWS, self.shape[0] - start)
            content = self._file.read(count * row_bytes)
            yield np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


Rows: TypeAlias = np.ndarray | RowFile
"""An array in memory or on disk."""


def parts_of(rows: Rows) -> Iterator[np.ndarray]:
    """Yield an array in parts of consecutive rows; one in memory as a whole."""
    if isinstance(rows, RowFile):
        yield from rows.parts()
    else:
        yield rows


def write_npy(file: IO[bytes], rows: Rows) -> None:
    """Write an array in the format of ``.npy`` files, with the bytes of `numpy.save`."""
    if not isinstance(rows, RowFile):
        npy.write_array(file, rows, allow_pickle=False)
        return
    header = {"shape": rows.shape, "fortran_order": False, "descr": npy.dtype_to_descr(rows.dtype)}
    npy.write_array_header_1_0(file, header)
    for part in rows.parts():
        file.write(part.data)
