"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under the names of their columns; without names there is no head."""
    table = Table(*columns, box=None, pad_edge=False, show_header=bool(columns))
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=400)  # a pipe has no width; do not fold names
    console.print(table)


def short(number: float) -> str:
    """Write a number with three digits: 983599 is 984k, 541085095 is 541M."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * factor:
            digits = 2 - sum(number / factor >= bound for bound in (9.995, 99.95))
            return f"{number / factor:.{digits}f}{letter}"
    return f"{number:g}"
