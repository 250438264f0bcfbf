"""Reading of JSON files that may be damaged or made by anybody."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from hear_core.errors import ConfigError, HearError


def read_json(
    path: Path, *, error: type[HearError] = ConfigError, hint: str = "", finite: bool = False
) -> dict[str, Any]:
    """Read a JSON object from a file.

    Args:
        path: File to read.
        error: Class of the errors that are raised.
        hint: Advice for when the file cannot be read: a sentence that ends the message.
        finite: Whether to refuse NaN and infinite numbers, which JSON does not have but Python
            reads and writes.

    Raises:
        HearError: The file is missing, is not JSON in UTF-8, or does not hold an object. It is
            an instance of `error`.
    """
    found = parse_json(
        _content(path, error, hint), str(path), error=error, hint=hint, finite=finite
    )
    if not isinstance(found, dict):
        msg = f"{path} must hold a JSON object, but holds a {type(found).__name__}. {hint}"
        raise error(msg.strip())
    return found


def parse_json(
    content: bytes | str,
    name: str,
    *,
    error: type[HearError] = ConfigError,
    hint: str = "",
    finite: bool = False,
) -> Any:
    """Parse JSON.

    Args:
        content: The text; bytes are UTF-8, with or without a byte order mark.
        name: Name of the source, for error messages.
        error: Class of the errors that are raised.
        hint: Advice for when the text cannot be parsed: a sentence that ends the message.
        finite: Whether to refuse NaN and infinite numbers.

    Raises:
        HearError: The content is not JSON, or has a key twice in an object. It is an instance of
            `error`.
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        if not finite:
            return json.loads(text, object_pairs_hook=_with_unique_keys)
        return json.loads(
            text,
            object_pairs_hook=_with_unique_keys,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as problem:
        reason = "it is nested too deeply" if isinstance(problem, RecursionError) else problem
        msg = f"{name} is not valid JSON: {reason}. {hint}"
        raise error(msg.strip()) from problem


def _content(path: Path, error: type[HearError], hint: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as problem:
        msg = f"{path} does not exist. {hint}"
        raise error(msg.strip()) from problem
    except OSError as problem:
        msg = f"cannot read {path}: {problem.strerror}. {hint}"
        raise error(msg.strip()) from problem


def _with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        repeated = next(key for key, number in Counter(k for k, _ in pairs).items() if number > 1)
        msg = f"{repeated!r} is listed more than once"
        raise ValueError(msg)
    return found


def _refuse(constant: str) -> NoReturn:
    msg = f"it holds {constant}"
    raise ValueError(msg)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _refuse(text)
    return value
