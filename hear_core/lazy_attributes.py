"""Attributes of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_attributes(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a ``__getattr__`` for a package, so that importing it does not import PyTorch.

    Args:
        package: Name of the package.
        modules: Module of each attribute.
    """

    def get(name: str) -> Any:
        if name not in modules:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg, name=name)
        return getattr(import_module(modules[name]), name)

    return get
