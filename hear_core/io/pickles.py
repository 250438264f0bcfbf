"""Reading of pickles that others made, without running what they name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NoReturn

from hear_core.errors import ConfigError, HearError


def read_pickle(path: Path, content: str, *, error: type[HearError] = ConfigError) -> Any:
    """Read a pickle of lists, dicts, strings and numbers.

    A pickle is a program that can call any function. Everything that names a function or a class
    is refused.

    Args:
        path: File to read.
        content: Expected content of the file, for error messages, such as "lists of labels".
        error: Class of the errors that are raised.

    Raises:
        HearError: The file cannot be read or holds anything else. It is an instance of `error`.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file).load()
    except Exception as problem:  # a damaged pickle can raise anything
        msg = f"{path} is not a pickle of {content}: {problem}"
        raise error(msg) from problem


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        msg = f"it names {module}.{name}, which is not a list, dict, string or number"
        raise pickle.UnpicklingError(msg)
