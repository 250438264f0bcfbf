"""Reading of NumPy arrays that may be damaged or made by anybody."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hear_core.errors import ConfigError, HearError

_BLOCK = 1 << 22  # values that are checked at a time


def read_array(
    path: Path, *, error: type[HearError] = ConfigError, finite: bool = True
) -> np.ndarray:
    """Open a ``.npy`` file of numbers; the values stay on disk until they are used.

    Args:
        path: File to read.
        error: Class of the errors that are raised.
        finite: Whether to refuse NaN and infinite values, which takes reading the file once.

    Raises:
        HearError: The file is missing, truncated, longer than its header says, or not an array of
            real numbers. It is an instance of `error`.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
        size = path.stat().st_size
    except FileNotFoundError as problem:
        msg = f"{path} does not exist"
        raise error(msg) from problem
    except Exception as problem:  # the header is Python source, and what is raised depends on it
        msg = f"{path} cannot be read as a NumPy array of numbers: {problem}"
        raise error(msg) from problem
    problem_found = ""
    if array.dtype.kind not in "fiu":
        problem_found = f"it holds {array.dtype}"
    elif array.offset + array.nbytes != size:
        problem_found = f"it has {size} bytes, but its header promises {array.nbytes} of values"
    elif finite and not all_finite(array):
        problem_found = "it holds NaN or infinite values"
    if problem_found:
        msg = f"{path} cannot be read as a NumPy array of numbers: {problem_found}"
        raise error(msg)
    return array


def all_finite(array: np.ndarray) -> bool:
    """Return whether an array does not hold NaN or infinite values, in little memory."""
    flat = np.ravel(array, order="K")
    return array.dtype.kind != "f" or all(
        bool(np.isfinite(flat[start : start + _BLOCK]).all())
        for start in range(0, flat.size, _BLOCK)
    )
