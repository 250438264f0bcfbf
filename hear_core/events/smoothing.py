"""Smoothing of scores over time, also of streams."""

from __future__ import annotations

import numpy as np

from hear_core.errors import ConfigError

_AT_ONCE = 1024  # rows whose windows exist at the same time


class MovingAverage:
    """Mean of every row and those before it, for rows that arrive in parts.

    The result does not depend on how the rows are divided into calls.

    Args:
        size: Number of rows in a mean; the first rows have fewer before them.
        classes: Number of values in a row.

    Raises:
        ConfigError: The size is below 1.
    """

    def __init__(self, size: int, classes: int) -> None:
        if size < 1:
            msg = f"smoothing must be at least one window, but is {size}"
            raise ConfigError(msg)
        self._size = size
        self._kept = np.zeros((0, classes), np.float32)

    def feed(self, rows: np.ndarray) -> np.ndarray:
        """Take the next rows (rows, classes), and return their means."""
        if self._size == 1 or not len(rows):
            return rows
        before = self._size - 1
        rows = np.concatenate([self._kept, rows])
        first = len(self._kept)
        short = [rows[: index + 1].mean(0) for index in range(first, min(before, len(rows)))]
        self._kept = rows[-before:]
        if len(rows) <= before:
            return np.stack(short)
        full = np.lib.stride_tricks.sliding_window_view(rows, self._size, axis=0)
        means = full[max(first - before, 0) :].mean(-1)
        return np.concatenate([np.stack(short), means]) if short else means


class MedianFilter:
    """Centred median filter over rows, class by class, for rows that arrive in parts.

    Beyond both ends, the rows are reflected, the outermost one included (scipy's mode "reflect").
    The result does not depend on how the rows are divided into calls.

    Args:
        size: Number of rows in a window, odd.
        classes: Number of values in a row.

    Raises:
        ConfigError: The size is even or below 1.
    """

    def __init__(self, size: int, classes: int) -> None:
        if size < 1 or size % 2 == 0:
            msg = f"median must be an odd number of rows, but is {size}"
            raise ConfigError(msg)
        self._half = size // 2
        self._kept = np.zeros((0, classes), np.float32)
        self._begin = 0  # index of the first row that is kept
        self._done = 0

    def feed(self, rows: np.ndarray) -> np.ndarray:
        """Take the next rows (rows, classes), and return the filtered rows that are final."""
        self._kept = np.concatenate([self._kept, rows])
        return self._filter(max(self._done, self._end() - self._half))

    def finish(self) -> np.ndarray:
        """Return the remaining filtered rows; the filter takes no more."""
        return self._filter(self._end())

    def _end(self) -> int:
        return self._begin + len(self._kept)

    def _filter(self, until: int) -> np.ndarray:
        if until == self._done:
            return self._kept[:0]
        period = 2 * self._end()
        index = np.arange(self._done - self._half, until + self._half) % period
        rows = self._kept[np.minimum(index, period - 1 - index) - self._begin]
        windows = np.lib.stride_tricks.sliding_window_view(rows, 2 * self._half + 1, axis=0)
        medians = [
            np.partition(windows[first : first + _AT_ONCE], self._half, axis=-1)[..., self._half]
            for first in range(0, len(windows), _AT_ONCE)
        ]
        self._done, begin = until, max(0, until - self._half)
        self._kept, self._begin = self._kept[begin - self._begin :].copy(), begin
        return np.concatenate(medians)
