"""Records of a training: a CSV file always, TensorBoard and Weights & Biases where wanted."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from hear_core.errors import ConfigError, unknown


class Log(Protocol):
    """Takes numbers by name at a step."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers."""

    def close(self) -> None:
        """Finish."""


class CsvLog:
    """A table, a row for every record.

    Args:
        folder: Where ``log.csv`` is.
        step: Go on after this step: later rows, of a run that was cut off, are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "log.csv"
        self._rows = [row for row in read(self.path) if row["step"] <= step]
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
        """Do nothing: every row is on disk."""

    def _rewrite(self) -> None:
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        self._rows[0] = {name: self._rows[0].get(name, float("nan")) for name in names}
        part = self.path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self._rows)
        part.replace(self.path)


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
    """Curves on Weights & Biases; ``WANDB_MODE=offline`` keeps them here.

    The run's identifier stands in the folder, so that a run that goes on is the same one there.
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
    """Open the table of a run in a folder, and more logs by name; close them in any case.

    Args:
        folder: Of the run.
        step: That the run goes on after.
        more: Of ``tensorboard`` and ``wandb``.

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


def read(path: Path) -> list[dict[str, float]]:
    """Read a ``log.csv``; nothing if there is none."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{key: float(value) for key, value in row.items() if value} for row in rows]
