"""Teachers: networks that get the student's input, or stored predictions.

Files of predictions are those of EfficientAT and PaSST: logits (clips, classes) as ``.npy``, with
an index file next to it that names the clip of every row (a pickle of a dict from name to row, JSON
of the same, or one name a line), or an HDF5 file that holds both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from hear_core.audio.reading import audio_suffixes
from hear_core.errors import ConfigError, shortened_repr
from hear_core.frontends.log_mel import Frontend
from hear_core.io.arrays import read_array
from hear_core.io.hdf5_files import open_hdf5, read_numbers, read_strings
from hear_core.io.json_files import parse_json
from hear_core.io.pickles import read_pickle
from hear_core.networks.backbone import Backbone
from hear_core.networks.batch_norm_folding import fold_batch_norms
from hear_core.zoo.registry import Zoo
from hear_train.batch import Targets

_NAMES, _LOGITS = ("filenames", "audio_name", "names"), ("logits", "predictions")


class NetworkTeacher(nn.Module):
    """A frozen network, or an ensemble of several whose logits are averaged.

    Args:
        zoo: Networks by name.
        names: Names of the teachers in the zoo.
        model_file_path: Weights of a single teacher; the released ones if there is no path.
        taps: Taps of a single teacher to return as well.
        temperature: Divides the logits before the sigmoid.
        pretrained: If False, the weights are random, for tests.

    Attributes:
        classes: Number of classes.
        labels: Names of the classes.
        framewise: Whether the targets are those of frames, from detectors. A frame-wise network
            that was trained on whole clips only, such as ``BEATs_weak``, teaches clips.

    Raises:
        ConfigError: A name or tap is unknown, teachers differ in their classes, detectors and
            taggers are mixed, or taps or a path are given for an ensemble.
        CheckpointError: The weights cannot be found or loaded.
    """

    def __init__(
        self,
        zoo: Zoo,
        names: Sequence[str],
        model_file_path: str | Path = "",
        taps: Sequence[str] = (),
        *,
        temperature: float = 1.0,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        if len(names) != 1 and (taps or model_file_path or not names):
            msg = f"taps and weights are those of one teacher, but {len(names)} were given"
            raise ConfigError(msg)
        if "logits" in taps:
            msg = (
                "logits are not matched as a tap: objective.logits is the weight of their distance"
            )
            raise ConfigError(msg)
        self.labels = zoo[names[0]].labels
        if odd := [name for name in names if zoo[name].labels != self.labels]:
            msg = f"teachers must have the same classes, but {odd[0]} has others than {names[0]}"
            raise ConfigError(msg)
        self.networks, self.frontends = nn.ModuleList(), nn.ModuleList()
        self._predictions: list[str] = []
        for name in names:
            network = zoo.load(name, model_file_path) if pretrained else zoo.random_init(name)
            fold_batch_norms(network)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.networks.append(network.eval().requires_grad_(False))
            self.frontends.append(zoo[name].frontend())
            predicts = "logits"
            if network.framewise and not zoo[name].labels:
                predicts = "weak"  # it was trained on whole clips, and its frames were not
            self._predictions.append(predicts)
            if missing := set(taps) - set(network.tap_shapes):
                msg = f"{name} does not have the tap {', '.join(sorted(missing))}"
                raise ConfigError(msg)
        self.tap_channels = {tap: network.tap_shapes[tap].channels for tap in taps}
        kinds = {
            cast("Backbone", each).framewise and tap == "logits"
            for each, tap in zip(self.networks, self._predictions, strict=True)
        }
        if len(kinds) > 1:
            msg = f"an ensemble is of taggers or of detectors, but {', '.join(names)} are both"
            raise ConfigError(msg)
        self.framewise = kinds.pop()
        self.classes: int = network.tap_shapes[predicts].channels
        self.temperature = temperature

    def train(self, mode: bool = True) -> NetworkTeacher:
        """Stay in evaluation mode."""
        return self

    @torch.no_grad()
    def forward(
        self, log_mel_of: Callable[[Frontend], Tensor]
    ) -> tuple[Targets, dict[str, Tensor]]:
        """Return the targets of a batch, and the taps of the teacher.

        Args:
            log_mel_of: Returns the log-mel (batch, n_mels, frames) of a front-end.
        """
        total, taps = torch.zeros(()), dict[str, Tensor]()
        for frontend, network, tap in zip(
            self.frontends, self.networks, self._predictions, strict=True
        ):
            taps = network(log_mel_of(cast("Frontend", frontend)), (tap, *self.tap_channels))
            total = total + taps.pop(tap)
        probabilities = (total / len(self.networks) / self.temperature).sigmoid()
        if self.framewise:
            return Targets(strong=probabilities.squeeze(2)), taps
        return Targets(probabilities), taps


class StoredTeacher:
    """Stored predictions of a teacher, by the name of the clip.

    Args:
        path: Logits as ``.npy`` or HDF5.
        index: File with the clip names of the rows of the ``.npy``; by default the only file next
            to it that can be one.
        temperature: Divides the logits before the sigmoid.

    Raises:
        ConfigError: The files are missing or have another layout.
    """

    def __init__(self, path: Path, index: Path | None = None, temperature: float = 1.0) -> None:
        self.temperature = temperature
        if not path.is_file():
            msg = f"the file of teacher predictions {path} does not exist"
            raise ConfigError(msg)
        if path.suffix == ".npy":
            rows = read_array(path)
            names = _read_index(index or _beside(path))
        else:
            rows, names = _read_hdf5(path)
        low, high = min(names.values(), default=-1), max(names.values(), default=-1)
        if rows.ndim != 2 or low < 0 or high >= len(rows):
            msg = (
                f"{path} must hold logits (clips, classes) and has the shape {rows.shape}; its "
                f"index names rows {low} to {high}"
            )
            raise ConfigError(msg)
        self.path, self._rows = path, rows
        self._of = {_key(name): row for name, row in names.items()}
        if twins := _repeated(names):
            msg = f"{path} has two rows for {twins[0]} (folders and suffixes are ignored)"
            raise ConfigError(msg)
        self.classes = int(rows.shape[1])

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._of

    def of(self, clips: Sequence[str]) -> set[str]:
        """Return those of the given clip names that have a row.

        Raises:
            ConfigError: None has a row, or several clips would share one.
        """
        known = [name for name in clips if name in self]
        if clips and not known:
            msg = (
                f"none of the {len(clips)} clips, such as {clips[0]}, has a row in {self.path}, "
                f"whose rows have names such as {next(iter(self._of), '')!r}"
            )
            raise ConfigError(msg)
        if twins := _repeated(known):
            msg = (
                f"several clips share the name {twins[0]} (ignoring folder and suffix), so that "
                f"the rows of {self.path} are ambiguous: rename the clips, or leave some out"
            )
            raise ConfigError(msg)
        return set(known)

    def probabilities(self, name: str) -> np.ndarray:
        """Return the predicted probabilities of a clip, (classes,)."""
        logits = np.asarray(self._rows[self._of[_key(name)]], np.float32)
        return 1 / (1 + np.exp(-logits / self.temperature))


def _key(name: str) -> str:
    """Return the name of a clip without folder, suffix and the Y that some files put in front."""
    name = name.rpartition("/")[2]
    stem, dot, ending = name.rpartition(".")
    if dot and f".{ending.lower()}" in _suffixes():
        name = stem
    return name[1:] if len(name) == 12 and name[0] == "Y" else name


def _repeated(names: Iterable[str]) -> list[str]:
    """Return the keys that several names share."""
    return [name for name, number in Counter(map(_key, names)).items() if number > 1]


@cache
def _suffixes() -> set[str]:
    return audio_suffixes()


def _beside(path: Path) -> Path:
    found = [p for p in sorted(path.parent.iterdir()) if p.suffix in _READERS]
    own = [p for p in found if p.stem == path.stem]
    if len(own or found) != 1:
        msg = (
            f"cannot tell which clip each row of {path} belongs to: put one index file "
            f"({', '.join(_READERS)}) next to it"
        )
        raise ConfigError(msg)
    return (own or found)[0]


def _read_lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]


_READERS: Mapping[str, Callable[[Path], Any]] = {
    ".pkl": partial(read_pickle, content="a dict of clip names"),
    ".json": lambda path: parse_json(path.read_bytes(), str(path)),
    ".txt": _read_lines,
}


def _read_index(path: Path) -> dict[str, int]:
    """Return the row of every clip name; the names may also be a list in the order of rows."""
    if path.suffix not in _READERS:
        msg = f"{path} cannot be an index of clip names, which ends in {', '.join(_READERS)}"
        raise ConfigError(msg)
    try:
        found = _READERS[path.suffix](path)
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as an index of clip names: {error}"
        raise ConfigError(msg) from error
    rows = found if isinstance(found, dict) else dict(_numbered(found, path))
    for name, row in rows.items():
        if not isinstance(name, str) or type(row) is not int:
            msg = (
                f"{path} must map clip names to row numbers, or list the names, but has "
                f"{shortened_repr(name)}: {shortened_repr(row)}"
            )
            raise ConfigError(msg)
    return rows


def _numbered(names: Any, path: Path) -> Iterator[tuple[str, int]]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        msg = f"{path} must map clip names to row numbers, or list the names"
        raise ConfigError(msg)
    if len(set(names)) < len(names):
        twin = next(name for name, number in Counter(names).items() if number > 1)
        msg = f"{path} has two rows for {twin}"
        raise ConfigError(msg)
    for row, name in enumerate(names):
        yield name, row


def _read_hdf5(path: Path) -> tuple[np.ndarray, dict[str, int]]:
    layout = (
        f"of predictions, with a dataset of names ({', '.join(_NAMES)}) and one of logits "
        f"({', '.join(_LOGITS)})"
    )
    with open_hdf5(path, layout) as file:
        names, rows = read_strings(file, *_NAMES), read_numbers(file, *_LOGITS)
    if len(rows) != len(names):
        msg = f"{path} has {len(rows)} rows of logits for {len(names)} names"
        raise ConfigError(msg)
    return rows, dict(_numbered(names, path))
