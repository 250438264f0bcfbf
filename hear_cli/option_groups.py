"""Groups of options that several commands share, each declared once.

A group is a `NamedTuple` whose fields are annotated as options of Typer. A command that takes one
has it as a parameter with a default, whose values become the defaults of the options:

    @with_groups
    def tag(files: Files, events: EventOptions = EventOptions(threshold=0.3)) -> None: ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that has the fields of its groups as options, for Typer to read."""
    hints = get_type_hints(command, include_extras=True)
    parameters, groups = [], {}
    for name, parameter in inspect.signature(command).parameters.items():
        default = parameter.default
        if hasattr(default, "_fields"):
            groups[name] = default
            fields = get_type_hints(type(default), include_extras=True)
            offered = {field: (getattr(default, field), fields[field]) for field in default._fields}
        else:
            offered = {name: (default, hints[name])}
        parameters += [
            inspect.Parameter(
                option, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=hint
            )
            for option, (value, hint) in offered.items()
        ]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        given = {
            name: type(group)(**{field: values.pop(field) for field in group._fields})
            for name, group in groups.items()
        }
        command(**values, **given)

    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return wrapper
