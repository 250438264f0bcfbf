"""Logs of a training: a CSV file, and optionally TensorBoard and Weights & Biases."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from hear_core.errors import ConfigError, unknown
from hear_core.io.files import atomic_write


class Log(Protocol):
    """Receiver of values by name at a step."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Record values."""

    def close(self) -> None:
        """Close the log."""


class CsvLog:
    """A table with a row for every record.

    Args:
        folder: Folder of ``log.csv``.
        step: Step to continue after: later rows, of an interrupted run, are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "log.csv"
        self._rows = [row for row in read_log(self.path) if row["step"] <= step]
        if self._rows:
            self._rewrite()
        else:
            self.path.unlink(missing_ok=True)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        row = {"step": float(step), **values}
        known = list(self._rows[0]) if self._rows else list(row)
        self._rows.append(row)
        if len(self._rows) == 1 or set(row) - set(known):
            self._rewrite()  # with a header
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([row.get(name, "") for name in known])

    def close(self) -> None:
        """Do nothing, as every row is on disk."""

    def _rewrite(self) -> None:
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        self._rows[0] = {name: self._rows[0].get(name, float("nan")) for name in names}
        with (
            atomic_write(self.path) as part,
            part.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self._rows)


class TensorBoardLog:
    """Curves for TensorBoard."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            msg = "the log tensorboard needs the package tensorboard: pip install tensorboard"
            raise ConfigError(msg) from error
        self._writer = SummaryWriter(folder / "tensorboard", purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WandbLog:
    """Curves on Weights & Biases; with ``WANDB_MODE=offline`` they stay in the folder.

    The identifier of the run is kept in the folder, so that a run that resumes is the same there.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            import wandb
        except ImportError as error:
            msg = "the log wandb needs the package wandb: pip install wandb"
            raise ConfigError(msg) from error
        identifier = folder / "wandb.txt"
        if not identifier.is_file():
            identifier.write_text(uuid4().hex, encoding="utf-8")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "efficient-hear"),
            dir=folder,
            id=identifier.read_text(encoding="utf-8"),
            name=folder.resolve().name,
            resume="allow",
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


_MORE: Mapping[str, type[TensorBoardLog] | type[WandbLog]] = {
    "tensorboard": TensorBoardLog,
    "wandb": WandbLog,
}


@contextmanager
def open_logs(folder: Path, step: int, more: Sequence[str] = ()) -> Iterator[list[Log]]:
    """Open the table of a run and more logs by name, and close them at the end.

    Args:
        folder: Folder of the run.
        step: Step that the run continues after.
        more: Names of further logs: ``tensorboard``, ``wandb``.

    Raises:
        ConfigError: A name is unknown, or its package is not installed.
    """
    if odd := [name for name in more if name not in _MORE]:
        raise ConfigError(unknown("log", odd[0], _MORE))
    logs: list[Log] = [CsvLog(folder, step)]
    try:
        logs.extend(_MORE[name](folder, step) for name in more)
        yield logs
    finally:
        for log in logs:
            log.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """Read a ``log.csv``; a missing one is empty.

    A last line that was not written to its end is left out.

    Raises:
        ConfigError: The file is damaged.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            text = file.read()
        lines = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
        names = lines[0] if lines else ["step"]
        rows = [dict(zip(names, cells, strict=True)) for cells in lines[1:]]
        found = [{key: float(value) for key, value in row.items() if value} for row in rows]
        if len(set(names)) < len(names) or not all("step" in row for row in found):
            msg = "it must have a step in every row, and no column twice"
            raise ValueError(msg)
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        msg = f"{path} is damaged: {error}. Delete it to resume the run with a new log."
        raise ConfigError(msg) from error
    return found
