"""Reading of tables (CSV, TSV) as spreadsheets and data sets write them."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

from hear_core.errors import ConfigError, HearError

SUFFIXES = frozenset({".csv", ".tsv"})
"""Suffixes of the names of tables, in lower case."""

_DELIMITERS = ",;\t"


def is_table(path: Path) -> bool:
    """Return whether a file is named like a table, in lower or upper case."""
    return path.suffix.lower() in SUFFIXES


def read_table(
    path: Path, *, error: type[HearError] = ConfigError
) -> list[tuple[int, dict[str, str]]]:
    """Read a table whose first row names its columns.

    Cells are separated by commas, semicolons or tabs: by whichever the first row has most of. The
    text is UTF-8, or UTF-16 with a byte order mark. Rows without any content are left out.

    Args:
        path: File to read.
        error: Class of the errors that are raised.

    Returns:
        The line of the file that each row ends on, counted from 1, and its cells by column.

    Raises:
        HearError: The file cannot be read, is not a table, names a column twice, or has a row
            with fewer or more cells than columns. It is an instance of `error`.
    """
    text = _text(path, error)
    header = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=header.count))
    rows: list[tuple[int, dict[str, str]]] = []
    columns: list[str] = []
    try:
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            if not columns:
                columns = _columns(path, cells, error)
                continue
            while len(cells) > len(columns) and not cells[-1].strip():
                cells.pop()
            if len(cells) != len(columns):
                msg = (
                    f"{path}, line {reader.line_num}: {len(cells)} cells in {len(columns)} columns"
                )
                raise error(msg)
            rows.append((reader.line_num, dict(zip(columns, cells, strict=True))))
    except csv.Error as problem:
        msg = f"{path} is not a table after line {reader.line_num}: {problem}"
        raise error(msg) from problem
    return rows


def _text(path: Path, error: type[HearError]) -> str:
    try:
        content = path.read_bytes()
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except OSError as problem:
        msg = f"cannot read {path}: {problem.strerror}"
        raise error(msg) from problem
    except UnicodeDecodeError as problem:
        msg = f"{path} is not UTF-8; save it as UTF-8: {problem}"
        raise error(msg) from problem


def _columns(path: Path, cells: list[str], error: type[HearError]) -> list[str]:
    columns = [cell.strip() for cell in cells]
    while columns and not columns[-1]:
        columns.pop()
    if twice := {name for name in columns if columns.count(name) > 1}:
        msg = f"{path} names the column {sorted(twice)[0]!r} more than once"
        raise error(msg)
    return columns
