"""Golden arrays and facts from the files beside this module, and comparison with them."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent


@lru_cache
def facts(path: str) -> Any:
    """Return the content of a JSON file, such as ``mn/modules`` or ``sed/manifests/BEATs``."""
    return json.loads(gzip.decompress((FOLDER / f"{path}.json.gz").read_bytes()))


@lru_cache
def arrays(path: str) -> Mapping[str, np.ndarray]:
    """Return the arrays of a file by name, such as those of ``sed/BEATs``.

    Large arrays of floats are thinned: they have their full shape, with NaN where no value is
    stored. Compare with `assert_close`.
    """
    found = {}
    with np.load(FOLDER / f"{path}.npz") as file:
        for key in file.files:
            name, *thinning = key.split("~")
            found[name] = restore(file[key], *thinning) if thinning else file[key]
    return MappingProxyType(found)


def thinned(name: str, array: np.ndarray, most: int) -> tuple[str, np.ndarray]:
    """Return an array as it is stored: its key in the file, and at most `most` values of it.

    Every n-th value in C order is kept, where n has no factor in common with the length of an axis,
    so that every row and column keeps some.
    """
    if array.size <= most or not np.issubdtype(array.dtype, np.floating):
        return name, array
    step = -(-array.size // most)
    while math.gcd(step, math.prod(array.shape)) > 1:
        step += 1
    shape = "x".join(map(str, array.shape))
    return f"{name}~{step}~{shape}", array.reshape(-1)[::step]


def restore(values: np.ndarray, step: str, shape: str) -> np.ndarray:
    """Return a thinned array in its full shape, with NaN where no value is stored."""
    full = np.full([int(size) for size in shape.split("x")], np.nan, values.dtype)
    full.reshape(-1)[:: int(step)] = values
    return full


def assert_close(found: Any, golden: Any, *, atol: float, rtol: float = 0.0) -> None:
    """Assert that an array or tensor has the shape of a golden array, and the values it stores."""
    found, golden = np.asarray(found), np.asarray(golden)
    assert found.shape == golden.shape, f"shape {found.shape} instead of {golden.shape}"
    stored = ~np.isnan(golden)
    assert stored.any(), "the golden array has no values here"
    np.testing.assert_allclose(found[stored], golden[stored], atol=atol, rtol=rtol)
