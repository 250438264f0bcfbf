"""Prefetching: work in threads, a few results ahead of the consumer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(
    function: Callable[[T], R], items: Iterable[T], depth: int = 0, *, threads: int = 0
) -> Generator[Future[R], None, None]:
    """Apply a function to items in threads.

    Close the generator if results are not taken to the end: it returns once no thread is at work.

    Args:
        function: Applied to each item. It should release the interpreter lock, as reading and
            resampling audio do.
        items: Items in the order in which the results are wanted.
        depth: Largest number of results that wait to be taken, which bounds the memory; 0 means
            twice the number of threads.
        threads: Number of threads; 0 means as many as there are cores.

    Yields:
        The future of each item, in order; its ``result()`` returns or raises.
    """
    threads = threads or os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads, "prefetch")
    running: deque[Future[R]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > max(depth, 2 * threads):
                yield running.popleft()
        while running:
            yield running.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
