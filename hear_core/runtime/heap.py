"""Memory that is freed and wanted again at once, as in training, stays with the process."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Of mallopt(3): from which size on a block is asked of the system and given back for itself, and
# how much freed memory stays. Left alone, glibc starts at 128 KiB for both and learns slowly: a
# short training spends a fifth of its time on getting the same pages again and again.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_LARGEST, _KEPT = 32 << 20, 256 << 20
_TRIM_AFTERWARDS = 2 * _LARGEST  # what glibc would have come to


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory up to 256 MiB, in blocks of less than 32 MiB, until the end.

    It changes nothing where the C library is not glibc. Processes forked within inherit it.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, _LARGEST)
    library.mallopt(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        library.mallopt(_TRIM_THRESHOLD, _TRIM_AFTERWARDS)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
        library.gnu_get_libc_version  # noqa: B018  # another C library has no such function
    except (OSError, AttributeError):
        return None
    return library
