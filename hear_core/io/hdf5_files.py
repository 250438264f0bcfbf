"""Reading of HDF5 files that may be damaged or made by anybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hear_core.errors import ConfigError, HearError
from hear_core.io.arrays import all_finite

_HIGHEST_RATIO = 2000  # of data to bytes in the file; deflate reaches 1032


@contextmanager
def open_hdf5(path: Path, layout: str, *, error: type[HearError] = ConfigError) -> Iterator[Any]:
    """Open an HDF5 file for reading, and report whatever goes wrong while it is read.

    Args:
        path: File to read.
        layout: Content that the file must have, as the end of a sentence: "with the dataset mp3".
        error: Class of the errors that are raised.

    Yields:
        The open ``h5py.File``.

    Raises:
        HearError: The file is missing, is not HDF5, is damaged, or does not have the layout. It is
            an instance of `error`.
    """
    h5py = import_h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except HearError:
        raise
    except Exception as problem:  # what is raised depends on where a file is damaged
        msg = f"{path} is not an HDF5 file {layout}: {problem}"
        raise error(msg) from problem


def read_numbers(file: Any, *names: str) -> np.ndarray:
    """Return the first of several datasets that a file has, as an array of finite numbers.

    Args:
        file: A file of `open_hdf5`, which reports the errors.
        names: Names that the dataset may have.

    Raises:
        ValueError: The file has none of the datasets, or it does not hold finite numbers.
    """
    name, found = _dataset(file, names)
    if found.dtype.kind not in "bfiu":
        msg = f"{name} holds {found.dtype} and not numbers"
        raise ValueError(msg)
    values: np.ndarray = found[:]
    if not all_finite(values):
        msg = f"{name} holds NaN or infinite values"
        raise ValueError(msg)
    return values


def read_strings(file: Any, *names: str) -> list[str]:
    """Return the first of several datasets that a file has, as a list of strings.

    Args:
        file: A file of `open_hdf5`, which reports the errors.
        names: Names that the dataset may have.

    Raises:
        ValueError: The file has none of the datasets, or it is not a list of strings in UTF-8.
    """
    name, found = _dataset(file, names)
    values = found[:]
    if found.ndim != 1 or not all(isinstance(value, str | bytes) for value in values):
        msg = f"{name} is not a list of strings: it holds {found.dtype} of shape {found.shape}"
        raise ValueError(msg)
    return [value if isinstance(value, str) else value.decode() for value in values]


def import_h5py() -> Any:
    """Import and return the package h5py.

    Raises:
        ConfigError: The package is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        msg = "HDF5 files need the package h5py: pip install 'efficient-hear[train]'"
        raise ConfigError(msg) from error
    return h5py


def _dataset(file: Any, names: tuple[str, ...]) -> tuple[str, Any]:
    name = next((name for name in names if name in file), None)
    if name is None:
        msg = f"it does not have the dataset {' or '.join(names)}"
        raise ValueError(msg)
    found = file[name]
    if not isinstance(found, import_h5py().Dataset) or not found.shape:
        msg = f"{name} is a {'group' if hasattr(found, 'keys') else 'single value'}, not an array"
        raise ValueError(msg)
    if found.nbytes > _HIGHEST_RATIO * Path(file.filename).stat().st_size:
        msg = f"{name} claims {found.nbytes} bytes, more than the file can hold"
        raise ValueError(msg)
    return name, found
