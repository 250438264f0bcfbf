"""Options that are numbers: the range of each is checked before any work starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import typer

from hear_core.errors import shortened_repr

DAY = 86_400.0  # seconds
SMALLEST = 1e-3  # seconds; shorter windows and hops are slips of the keyboard
SAMPLE_RATES = (100, 1_000_000)  # in Hz: from infrasound loggers to ultrasound


def number(
    help_: str, low: float = -math.inf, high: float = math.inf, *names: str, **more: Any
) -> Any:
    """Return an option that takes finite numbers of a range, both ends included.

    Args:
        help_: Help text of the option, a noun phrase.
        low: Smallest value.
        high: Largest value.
        names: Names of the option, such as ``--lr``; by default the parameter's.
        more: Further arguments of `typer.Option`.
    """
    return typer.Option(*names, help=help_, callback=in_range(low, high), **more)


def in_range(low: float, high: float) -> Callable[[Any], Any]:
    """Return a callback that refuses numbers out of a range; NaN and infinities always."""

    def check(value: Any) -> Any:
        for single in value if isinstance(value, list | tuple) else [value]:
            if single is None or (abs(single) < math.inf and low <= single <= high):
                continue
            shown = f"{single:g}" if isinstance(single, float) else shortened_repr(single, 20)
            msg = f"{shown} is not a finite number {_described(low, high)}."
            raise typer.BadParameter(msg)
        return value

    return check


def _described(low: float, high: float) -> str:
    if math.isinf(high):
        return f"of at least {low:,g}"
    return f"from {low:,g} to {high:,g}"
