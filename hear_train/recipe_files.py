"""Files of recipes: the published ones and the user's own, as entries of YAML.

This module does without PyTorch, so that recipes can be listed and shown at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hear_core.errors import ConfigError, shortened_repr, unknown
from hear_core.io.yaml_files import parse_yaml

_PACKAGE = "training_configs"


def list_recipes() -> list[str]:
    """Return the names of the published recipes."""
    files = (file.name for file in resources.files(_PACKAGE).iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def recipe_text(name: str | Path) -> str:
    """Return the YAML of a published recipe, or of a file of one's own.

    Raises:
        ConfigError: The recipe does not exist or cannot be read.
    """
    if str(name) in list_recipes():
        return resources.files(_PACKAGE).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(unknown("recipe", str(name), list_recipes()))
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as a recipe: {error}"
        raise ConfigError(msg) from error


def read_recipe(name: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the entries of a recipe of any kind, see `load_recipe`."""
    entries = parse_yaml(recipe_text(name), str(name)) or {}
    if not isinstance(entries, dict):
        msg = f"{name} must map names to values"
        raise ConfigError(msg)
    for override in overrides:
        override_entry(entries, override)
    return entries


def override_entry(entries: dict[str, Any], override: str) -> None:
    """Replace an entry of a recipe, in place.

    Args:
        entries: Entries of the recipe.
        override: Entry and its value in YAML, such as ``trainer.epochs=3``.

    Raises:
        ConfigError: It does not have this form, or names something that is not a section.
    """
    path, equals, text = override.partition("=")
    if not equals or not path:
        msg = f"{override!r} must have the form key.path=value, such as trainer.epochs=3"
        raise ConfigError(msg)
    value = parse_yaml(text, f"the value of {shortened_repr(override)}")
    *sections, name = path.split(".")
    for section in sections:
        if entries.get(section) is None:
            entries[section] = {}
        if not isinstance(entries[section], dict):
            msg = f"{override!r}: {section} is not a section of the recipe"
            raise ConfigError(msg)
        entries = entries[section]
    entries[name] = value
