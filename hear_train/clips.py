"""Clips to train on: folders and tables of audio files, and HDF5 files of mp3s as PaSST packs them.

A clip that cannot be read is an error of `Clips.read` only; who reads counts them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hear_core.audio.reading import audio_suffixes, read_audio, resample
from hear_core.errors import AudioError, ConfigError
from hear_core.zoo.labels import select_classes

_HDF5 = {".h5", ".hdf", ".hdf5"}
_LEAST = 2  # samples, to play faster or slower


class Clip(NamedTuple):
    """One clip.

    Args:
        name: Of its file, with the folders below that which was given.
        read: Reads it at a rate.
        labels: A bit for every class, eight to a byte, if it has any: AudioSet's two million clips
            would take gigabytes as numbers.
    """

    name: str
    read: Callable[[int], np.ndarray]
    labels: np.ndarray | None = None


class Clips(Sequence[Clip]):
    """Clips by number.

    Args:
        clips: All of them.
        sample_rate: To read at.

    Raises:
        ConfigError: There are none.
    """

    def __init__(self, clips: Iterable[Clip], sample_rate: int) -> None:
        self._clips, self.sample_rate = list(clips), sample_rate
        self._kept: dict[int, np.ndarray] = {}
        if not self._clips:
            msg = "there is no clip to train on: give folders, tables or files of audio"
            raise ConfigError(msg)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: Any) -> Any:
        return self._clips[index]

    def read(self, index: int) -> np.ndarray:
        """Return the samples of a clip, (samples,), float32.

        Raises:
            AudioError: It cannot be read, is shorter than two samples, or holds what is no number.
        """
        if index in self._kept:
            return self._kept[index].astype(np.float32) / 32767
        return self._sound(self._clips[index])

    def _sound(self, clip: Clip) -> np.ndarray:
        samples = clip.read(self.sample_rate)
        if len(samples) < _LEAST:
            msg = f"{clip.name} has {len(samples)} samples at {self.sample_rate} Hz"
            raise AudioError(msg)
        if not np.isfinite(samples).all():
            msg = f"{clip.name} holds NaN or infinite values"
            raise AudioError(msg)
        return samples

    def keep(self) -> dict[str, str]:
        """Read every clip into memory, as 16 bit, and drop those that cannot be read.

        Returns:
            Why those were dropped, by name.
        """
        good: list[Clip] = []
        failed: dict[str, str] = {}
        for clip in self._clips:
            try:
                samples = self._sound(clip)
            except AudioError as error:
                failed[clip.name] = str(error)
                continue
            self._kept[len(good)] = (samples.clip(-1, 1) * 32767).round().astype(np.int16)
            good.append(clip)
        self._clips = good
        if not good:
            msg = f"none of {len(failed)} clips can be read: {next(iter(failed.values()))}"
            raise ConfigError(msg)
        return failed


def find(inputs: Iterable[Path], keep_out: Sequence[str], labels: Sequence[str]) -> list[Clip]:
    """Find clips.

    Args:
        inputs: Folders, which are searched with all folders in them; files of audio; CSV tables
            with the column ``filename``, beside the table, and maybe ``labels``, which are
            separated by ``;``; HDF5 files as PaSST packs AudioSet.
        keep_out: Patterns of names that are left out, such as ``5-*``; with or without folders.
        labels: Of the classes.

    Raises:
        ConfigError: An input does not exist or holds something else, or all clips are left out.
    """
    clips: list[Clip] = []
    for given in inputs:
        if not given.exists():
            msg = f"there is no file or folder {given}"
            raise ConfigError(msg)
        if given.is_dir():
            clips += [_of_file(path, path.relative_to(given)) for path in _audio_below(given)]
        elif given.suffix == ".csv":
            clips += _of_table(given, labels)
        elif is_packed(given):
            clips += of_hdf5(given, len(labels))
        else:
            clips.append(_of_file(given, Path(given.name)))
    kept = [clip for clip in clips if not any(_matches(clip.name, out) for out in keep_out)]
    if clips and not kept:
        msg = f"all {len(clips)} clips, such as {clips[0].name}, are kept out by {[*keep_out]}"
        raise ConfigError(msg)
    return kept


def is_packed(path: Path) -> bool:
    """Tell whether a file holds many clips, as of a whole AudioSet."""
    return path.suffix in _HDF5


def _matches(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern) or fnmatch(Path(name).name, pattern)


def of_hdf5(path: Path, classes: int) -> list[Clip]:
    """Return the clips of a file of PaSST: ``audio_name``, ``mp3`` bytes, packed ``target`` bits.

    Raises:
        ConfigError: The file has another layout.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            names = [name.decode() for name in file["audio_name"][:]]
            packed = file["target"][:] if "target" in file else None
            if "mp3" not in file or len(file["mp3"]) != len(names):
                missing = "mp3"
                raise KeyError(missing)
    except (OSError, KeyError) as error:
        msg = (
            f"{path} is no HDF5 file in the layout of PaSST, which has the datasets audio_name, "
            f"mp3 and target: {error}"
        )
        raise ConfigError(msg) from error
    size = (len(names), -(-classes // 8))
    if packed is not None and (packed.dtype != np.uint8 or packed.shape != size):
        msg = (
            f"{path}: target is {packed.dtype} {packed.shape}, but {len(names)} clips of {classes} "
            f"classes have uint8 {size}: a bit for every class"
        )
        raise ConfigError(msg)
    targets = [None] * len(names) if packed is None else packed
    return [
        Clip(name, partial(_read_packed, path, index, name), target)
        for index, (name, target) in enumerate(zip(names, targets, strict=True))
    ]


def _of_file(path: Path, name: Path, labels: np.ndarray | None = None) -> Clip:
    return Clip(name.as_posix(), partial(_read_file, path), labels)


def _of_table(table: Path, labels: Sequence[str]) -> list[Clip]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{table} is no CSV table in UTF-8: {error}"
        raise ConfigError(msg) from error
    if not rows or "filename" not in rows[0]:
        msg = f"{table} must have rows, and the column filename; labels is another it may have"
        raise ConfigError(msg)
    clips = []
    for number, row in enumerate(rows, 2):
        if not row["filename"]:
            msg = f"{table}, row {number}, has no filename"
            raise ConfigError(msg)
        try:
            hot = _hot(row.get("labels") or "", labels)
        except ConfigError as error:
            msg = f"{table}, row {number}: {error}"
            raise ConfigError(msg) from error
        clips.append(_of_file(table.parent / row["filename"], Path(row["filename"]), hot))
    return clips


def _hot(text: str, labels: Sequence[str]) -> np.ndarray | None:
    """Return a bit for each class, 1 for those that a text names; None if it names none."""
    index = {label: i for i, label in enumerate(labels)}
    found = np.zeros(len(labels), bool)
    for part in filter(None, map(str.strip, text.split(";"))):
        found[[index[label] for label in select_classes(part, labels)]] = True
    return np.packbits(found) if found.any() else None


def _audio_below(folder: Path) -> list[Path]:
    known = audio_suffixes()
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in known and not path.name.startswith(".")
    )


def _read_file(path: Path, sample_rate: int) -> np.ndarray:
    return read_audio(path, sample_rate).numpy()


def _read_packed(path: Path, index: int, name: str, sample_rate: int) -> np.ndarray:
    import h5py
    import soundfile

    try:
        with h5py.File(path, "r") as file:
            content = file["mp3"][index]
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError, RuntimeError) as error:
        msg = f"{name} in {path} cannot be read as audio: {error}"
        raise AudioError(msg) from error
    if len(samples) == 0:
        msg = f"{name} in {path} holds no samples"
        raise AudioError(msg)
    return resample(samples.mean(axis=1), rate, sample_rate)
