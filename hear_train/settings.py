"""Settings: mappings of YAML files as data classes, with checked types and named errors."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hear_core.errors import ConfigError, shortened_repr, unknown

T = TypeVar("T")

_TOO_LARGE = 10**18  # for a 64-bit integer, with room for products


def from_mapping(kind: type[T], entries: Mapping[str, Any], where: str) -> T:
    """Return a dataclass made from a mapping, checking all names and types.

    Args:
        kind: The dataclass.
        entries: Its values by name.
        where: Name of the mapping, for messages.

    Raises:
        ConfigError: A name is unknown or a value has the wrong type.
    """
    hints, values = get_type_hints(kind), {}
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    for name, value in entries.items():
        if name not in known:
            raise ConfigError(f"{where}: " + unknown("key", str(name), known))
        values[name] = _convert(hints[name], value, f"{where}: {name}")
    try:
        return kind(**values)
    except ConfigError as error:
        if str(error).startswith(where):
            raise
        msg = f"{where}: {error}"
        raise ConfigError(msg) from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Return a value of YAML as a type; numbers and lists are converted where that is exact."""
    origin = get_origin(hint)
    if origin in (types.UnionType, Union):
        if value is None and type(None) in get_args(hint):
            return None
        return _convert(next(a for a in get_args(hint) if a is not type(None)), value, where)
    if is_dataclass(hint):
        if not isinstance(value, dict):
            msg = f"{where} must be a section of names and values, not {shortened_repr(value)}"
            raise ConfigError(msg)
        return from_mapping(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        items = [value] if isinstance(value, str | int | float) else value
        if not isinstance(items, list | tuple):
            msg = f"{where} must be a list, not {shortened_repr(value)}"
            raise ConfigError(msg)
        kinds = get_args(hint)
        if kinds[-1] is not ... and len(kinds) != len(items):
            msg = f"{where} must have {len(kinds)} values, not {len(items)}"
            raise ConfigError(msg)
        return tuple(_convert(kinds[0], item, where) for item in items)
    if origin is not None:  # a mapping
        if not isinstance(value, dict):
            msg = f"{where} must map names to values, not {shortened_repr(value)}"
            raise ConfigError(msg)
        return {str(k): _convert(get_args(hint)[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is Any:
        return value
    if hint is float and not isinstance(value, bool):
        try:
            number = float(value)  # YAML reads 1e-4 as a text
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    elif hint is int and isinstance(value, int):
        if not isinstance(value, bool) and abs(value) < _TOO_LARGE:
            return value
    elif isinstance(value, hint) and not (hint is str and "\0" in value):
        return value
    kind = {float: "a finite number", int: "a whole number below 1e18"}.get(hint)
    msg = f"{where} must be {kind or f'of type {hint.__name__}'}, not {shortened_repr(value)}"
    raise ConfigError(msg)
