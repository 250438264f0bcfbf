"""Work on many things in threads, a few ahead of whoever takes the results."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(
    work: Callable[[T], R], things: Iterable[T], depth: int = 0
) -> Generator[Future[R], None, None]:
    """Do work in as many threads as there are cores.

    Close it where taking results may end early: then no thread is at work any more.

    Args:
        work: What is done with each thing; reading and resampling audio let other threads run.
        things: In the order in which the results are wanted.
        depth: Most results that wait to be taken, so that memory is bounded; 0 is a few more than
            there are threads.

    Yields:
        What became of each thing.
    """
    threads = os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads, "ahead")
    running: deque[Future[R]] = deque()
    try:
        for thing in things:
            running.append(pool.submit(work, thing))
            if len(running) > max(depth, 2 * threads):
                yield running.popleft()
        while running:
            yield running.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
