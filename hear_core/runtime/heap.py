"""Settings of the C heap: freed memory that is needed again soon stays with the process."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt(3): the size from which a block is mapped and unmapped by itself, and the
# amount of freed memory that is kept. By default, glibc starts at 128 KiB for both and adapts
# slowly: a short training spends a fifth of its time on getting the same pages again.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_LARGEST, _KEPT = 32 << 20, 256 << 20
_TRIM_AFTERWARDS = 2 * _LARGEST  # what glibc would have adapted to


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep up to 256 MiB of freed memory, in blocks of less than 32 MiB, inside the context.

    This has no effect unless the C library is glibc. Processes forked inside inherit it.
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


def release_freed_memory() -> None:
    """Give freed memory back to the system, if the C library is glibc."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
        library.gnu_get_libc_version  # noqa: B018  # another C library has no such function
    except (OSError, AttributeError):
        return None
    return library
