"""Teachers: a network that hears what the student hears, or predictions that it left in a file.

Files are those of EfficientAT and PaSST: logits (clips, classes) as ``.npy``, with the clip of
every row in a file beside it (a pickle of a dict from name to row, JSON of the same, or names line
by line), or an HDF5 file that holds both.
"""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hear_core.audio.reading import audio_suffixes
from hear_core.errors import ConfigError
from hear_core.networks.batch_norm_folding import fold_batch_norms
from hear_core.zoo.registry import Zoo

_NAMES, _LOGITS = ("filenames", "audio_name", "names"), ("logits", "predictions")


class Teacher(nn.Module):
    """A frozen network.

    Args:
        zoo: Where it stands.
        name: Its name there.
        model_file_path: Its weights; the released ones if there is no path.
        taps: What it tells besides its logits.
        pretrained: If False, it has random weights, which is good for tests only.
    """

    def __init__(
        self,
        zoo: Zoo,
        name: str,
        model_file_path: str | Path = "",
        taps: Sequence[str] = (),
        *,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        row = zoo[name]
        network = zoo.load(name, model_file_path) if pretrained else zoo.random_init(name)
        fold_batch_norms(network)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network, self.labels, self.taps = (
            network.eval().requires_grad_(False),
            row.labels,
            taps,
        )
        self.frontend = row.frontend()
        self.classes = network.tap_shapes["logits"].channels
        if "logits" in taps:
            msg = "logits are learned in any case: --logit-weight gives their distance a weight"
            raise ConfigError(msg)
        if missing := set(taps) - set(network.tap_shapes):
            msg = f"{name} has no tap {', '.join(sorted(missing))} to learn from"
            raise ConfigError(msg)

    def train(self, mode: bool = True) -> Teacher:
        """Stay as it is: a teacher does not learn."""
        return self

    @torch.no_grad()
    def forward(self, log_mel: Tensor) -> dict[str, Tensor]:
        """Return its logits (batch, classes) and taps for a log-mel (batch, n_mels, frames)."""
        return self.network(log_mel, ("logits", *self.taps))


class StoredTeacher:
    """Predictions of a teacher, by the name of the clip.

    Args:
        path: ``.npy`` of logits, or HDF5.
        index: Names of the rows of the ``.npy``; default: the one file beside it that can be that.

    Raises:
        ConfigError: The files are missing or hold something else.
    """

    def __init__(self, path: Path, index: Path | None = None) -> None:
        if not path.is_file():
            msg = f"there is no file {path} with predictions of a teacher"
            raise ConfigError(msg)
        if path.suffix == ".npy":
            rows: Any = _read_array(path)
            names = _read_index(index or _beside(path))
        else:
            rows, names = _read_hdf5(path)
        low, high = min(names.values(), default=-1), max(names.values(), default=-1)
        if rows.ndim != 2 or low < 0 or high >= len(rows):
            msg = (
                f"{path} holds {rows.shape}, but predictions are (clips, classes), and its names "
                f"are of the rows {low} to {high}"
            )
            raise ConfigError(msg)
        self.path, self._rows = path, rows
        self._of = {_key(name): row for name, row in names.items()}
        if twins := _repeated(names):
            msg = f"{path} has two rows for clips called {twins[0]}, apart from folders and endings"
            raise ConfigError(msg)
        self.classes = int(rows.shape[1])

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._of

    def of(self, clips: Sequence[str]) -> set[str]:
        """Return those of the names of clips that it has a row for.

        Raises:
            ConfigError: It has none for any, or does not say which of several clips a row is of.
        """
        known = [name for name in clips if name in self]
        if clips and not known:
            msg = (
                f"none of {len(clips)} clips, such as {clips[0]}, has a row in {self.path}, whose "
                f"rows are called like {next(iter(self._of), 'nothing')}"
            )
            raise ConfigError(msg)
        if twins := _repeated(known):
            msg = (
                f"several clips are called {twins[0]}, apart from folders and endings, so that it "
                f"is not said which of them a row of {self.path} is of"
            )
            raise ConfigError(msg)
        return set(known)

    def probabilities(self, name: str) -> np.ndarray:
        """Return what it says of a clip, (classes,), as probabilities."""
        logits = np.asarray(self._rows[self._of[_key(name)]], np.float32)
        return 1 / (1 + np.exp(-logits))


def _key(name: str) -> str:
    """Return the name of a clip without folders, ending and leading Y, which not all files have."""
    name = name.rpartition("/")[2]
    stem, dot, ending = name.rpartition(".")
    if dot and f".{ending.lower()}" in _suffixes():
        name = stem
    return name[1:] if len(name) == 12 and name[0] == "Y" else name


def _repeated(names: Iterable[str]) -> list[str]:
    """Return what several of the names come to."""
    return [name for name, number in Counter(map(_key, names)).items() if number > 1]


@cache
def _suffixes() -> set[str]:
    return audio_suffixes()


def _read_array(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:
        msg = f"{path} is no NumPy array of numbers: {error}"
        raise ConfigError(msg) from error


def _beside(path: Path) -> Path:
    found = [p for p in sorted(path.parent.iterdir()) if p.suffix in _READERS]
    own = [p for p in found if p.stem == path.stem]
    if len(own or found) != 1:
        msg = (
            f"which clips the rows of {path} are of is not said: put one file of the kinds "
            f"{', '.join(_READERS)} beside it, or name it"
        )
        raise ConfigError(msg)
    return (own or found)[0]


class _Numbers(pickle.Unpickler):
    """Reads dicts, strings and numbers only: a pickle can name code to run."""

    def find_class(self, module: str, name: str) -> Any:
        msg = f"it holds {module}.{name}"
        raise pickle.UnpicklingError(msg)


def _read_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        return _Numbers(file).load()


def _read_lines(path: Path) -> dict[str, int]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name.strip(): row for row, name in enumerate(lines)}


_READERS: Mapping[str, Any] = {
    ".pkl": _read_pickle,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".txt": _read_lines,
}


_UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    AttributeError,
    TypeError,
    pickle.PickleError,
)


def _read_index(path: Path) -> dict[str, int]:
    try:
        found = _READERS[path.suffix](path)
        if isinstance(found, list):
            found = {name: row for row, name in enumerate(found)}
        return {str(name): int(row) for name, row in found.items()}
    except _UNREADABLE as error:
        msg = f"{path} does not say which clip every row is of: {error}"
        raise ConfigError(msg) from error


def _read_hdf5(path: Path) -> tuple[np.ndarray, dict[str, int]]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            names = next(file[key][:] for key in _NAMES if key in file)
            rows = next(file[key][:] for key in _LOGITS if key in file)
    except (OSError, StopIteration) as error:
        msg = (
            f"{path} is no HDF5 file of predictions: it must have a dataset of names "
            f"({', '.join(_NAMES)}) and one of logits ({', '.join(_LOGITS)}): {error}"
        )
        raise ConfigError(msg) from error
    return rows, {name.decode(): row for row, name in enumerate(names)}
