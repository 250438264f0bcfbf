"""Reading of YAML files that may be damaged or made by anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hear_core.errors import ConfigError, HearError

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

_MAX_DEPTH = 32
"""Deepest nesting that is read; some thousand levels would overflow the stack of libyaml."""


def read_yaml(path: Path, *, error: type[HearError] = ConfigError) -> Any:
    """Read a YAML file.

    Args:
        path: File to read, in UTF-8.
        error: Class of the errors that are raised.

    Raises:
        HearError: The file is missing or cannot be parsed, see `parse_yaml`. It is an instance of
            `error`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as problem:
        msg = f"{path} does not exist"
        raise error(msg) from problem
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8"
        msg = f"cannot read {path}: {reason}"
        raise error(msg) from problem
    return parse_yaml(text, str(path), error=error)


def parse_yaml(text: str, name: str, *, error: type[HearError] = ConfigError) -> Any:
    """Parse YAML, without running code from it.

    Args:
        text: The text.
        name: Name of the source, for error messages.
        error: Class of the errors that are raised.

    Raises:
        HearError: The text is not YAML, has a key twice in a mapping, or is nested too deeply; the
            message names the line. It is an instance of `error`.
    """
    try:
        _check_depth(text)
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - it is a safe loader
    except (yaml.YAMLError, ValueError) as problem:  # also of values, such as impossible dates
        msg = f"{name} is not valid YAML: {problem}"
        raise error(msg) from problem


class _StrictLoader(SafeLoader):
    """A YAML loader that refuses repeated keys."""


def _mapping_of_unique_keys(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                problem = f"{key.value!r} is listed more than once"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping_of_unique_keys)


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            problem = f"it is nested more than {_MAX_DEPTH} levels deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]
