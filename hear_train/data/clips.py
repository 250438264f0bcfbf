"""Clips to train on: audio files with their labels, which are read when they are drawn.

A clip that cannot be read is an error of `Clips.read` only; the sources of batches replace such a
clip and count it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from hear_core.audio.files import find_audio_files
from hear_core.audio.reading import read_audio
from hear_core.errors import AudioError, ConfigError
from hear_core.io.arrays import read_array
from hear_core.io.files import atomic_write
from hear_core.io.tables import is_table, read_table
from hear_core.zoo.labels import select_classes
from hear_train.data.hdf5 import PackedClip, file_identity, is_packed, read_index
from hear_train.data.panns import is_panns, read_panns

_MIN_SAMPLES = 2  # a waveform that can be resampled in time has two
_INT16 = 32767


class Reader(Protocol):
    """Reads the samples of a clip.

    One that has a method ``identity`` can be cached: it returns strings that differ for different
    contents, and raises an `OSError` if there is no content.
    """

    def __call__(self, sample_rate: int, /) -> np.ndarray:
        """Return the samples (samples,), float32, at a sample rate in Hz."""


@dataclass(frozen=True)
class FileReader:
    """Reads an audio file.

    Args:
        path: The file.
    """

    path: Path

    def identity(self) -> tuple[str, ...]:
        """Return values that identify the file and its content."""
        return file_identity(self.path)

    def __call__(self, sample_rate: int) -> np.ndarray:
        """Return the samples (samples,), float32, at a sample rate in Hz."""
        return read_audio(self.path, sample_rate).numpy()


class Clip(NamedTuple):
    """One clip.

    Args:
        name: Name of its file, relative to the folder that was given.
        read: Reads its samples.
        labels: Bit for every class, packed eight to a byte; None without labels. As numbers, the
            labels of AudioSet's two million clips would take gigabytes.
        known: Bit for every class that was annotated, packed; None if all were.
        group: Recording that the clip belongs to; clips of one group stay in one split.
        events: Class, onset and offset in seconds of every event, (events, 3), float64; None if
            events were not annotated.
        seconds: Length in seconds; 0 if it is not known without decoding the clip.
    """

    name: str
    read: Reader
    labels: np.ndarray | None = None
    known: np.ndarray | None = None
    group: str = ""
    events: np.ndarray | None = None
    seconds: float = 0.0


class Clips(Sequence[Clip]):
    """Clips by number, and their samples at one sample rate.

    Args:
        clips: The clips.
        sample_rate: Sample rate in Hz that they are read at.
        cache: Folder for resampled waveforms as 16-bit arrays, which are faster to read than
            compressed files; None keeps none. An array is used as long as path, size and time of
            the last change of the audio file stay the same.

    Raises:
        ConfigError: There are no clips.
    """

    def __init__(self, clips: Iterable[Clip], sample_rate: int, cache: Path | None = None) -> None:
        self._clips, self.sample_rate, self._cache = list(clips), sample_rate, cache
        self._kept: dict[int, np.ndarray] = {}
        if not self._clips:
            msg = "there are no clips to train on: give folders, tables or files of audio"
            raise ConfigError(msg)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: Any) -> Any:
        return self._clips[index]

    def read(self, index: int) -> np.ndarray:
        """Return the samples of a clip, (samples,), float32.

        Raises:
            AudioError: The clip cannot be read, has fewer than two samples, or holds NaN or
                infinite values.
        """
        if index in self._kept:
            return self._kept[index].astype(np.float32) / _INT16
        clip = self._clips[index]
        file = None if self._cache is None else self._cached(self._cache, clip)
        if file is None:
            return self._samples(clip)
        try:
            return read_array(file).astype(np.float32) / _INT16
        except ConfigError:  # missing or damaged
            kept = _as_int16(self._samples(clip))
            with atomic_write(file) as part, part.open("wb") as opened:
                np.save(opened, kept)
            return kept.astype(np.float32) / _INT16

    def _cached(self, folder: Path, clip: Clip) -> Path | None:
        """Return the file of a clip in the cache, named after its content; None if it has none."""
        identify = getattr(clip.read, "identity", None)
        if identify is None:
            return None
        try:
            content = "\n".join((*identify(), str(self.sample_rate)))
        except OSError:
            return None  # reading reports it
        key = hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()
        return folder / key[:2] / f"{key}.npy"

    def keep(self) -> dict[str, str]:
        """Read all clips into memory, as 16-bit integers, and drop those that cannot be read.

        Returns:
            Reasons why clips were dropped, by name.

        Raises:
            ConfigError: No clip can be read.
        """
        good: list[Clip] = []
        failed: dict[str, str] = {}
        for clip in self._clips:
            try:
                samples = self._samples(clip)
            except AudioError as error:
                failed[clip.name] = str(error)
                continue
            self._kept[len(good)] = _as_int16(samples)
            good.append(clip)
        self._clips = good
        if not good:
            msg = f"none of the {len(failed)} clips can be read: {next(iter(failed.values()))}"
            raise ConfigError(msg)
        return failed

    def _samples(self, clip: Clip) -> np.ndarray:
        samples = clip.read(self.sample_rate)
        if len(samples) < _MIN_SAMPLES:
            msg = f"{clip.name} has {len(samples)} samples at {self.sample_rate} Hz"
            raise AudioError(msg)
        if not np.isfinite(samples).all():
            msg = f"{clip.name} holds NaN or infinite values"
            raise AudioError(msg)
        return samples


def find_clips(
    inputs: Iterable[Path], keep_out: Sequence[str], labels: Sequence[str]
) -> list[Clip]:
    """Find clips that need no labels.

    Args:
        inputs: Folders, which are searched with all folders in them; audio files; tables with the
            column ``filename``, relative to the table, and optionally ``labels``, separated by
            ``;``; HDF5 files of mp3s as PaSST packs them.
        keep_out: Patterns of names that are left out, such as ``5-*``, with or without folders.
        labels: Names of the classes.

    Raises:
        ConfigError: An input does not exist or has another layout, or all clips are left out.
    """
    clips: list[Clip] = []
    for given in inputs:
        if not given.exists():
            msg = f"{given} does not exist"
            raise ConfigError(msg)
        if given.is_dir():
            clips += [file_clip(path, name) for path, name in find_audio_files([given]).sources]
        elif is_table(given):
            clips += _of_table(given, labels)
        elif is_packed(given):
            clips += packed_clips(given, len(labels))
        else:
            clips.append(file_clip(given, given.name))
    return leave_out(clips, keep_out)


def leave_out(clips: list[Clip], keep_out: Sequence[str]) -> list[Clip]:
    """Return the clips whose names match none of the patterns.

    Raises:
        ConfigError: All clips match.
    """
    kept = [clip for clip in clips if not any(is_named(clip.name, out) for out in keep_out)]
    if clips and not kept:
        msg = (
            f"all {len(clips)} clips, such as {clips[0].name}, match keep_out ({list(keep_out)}), "
            "so that none is left"
        )
        raise ConfigError(msg)
    return kept


def file_clip(path: Path, name: str, labels: np.ndarray | None = None, group: str = "") -> Clip:
    """Return the clip of an audio file."""
    return Clip(name, FileReader(path), labels, None, group)


def packed_clips(path: Path, classes: int) -> list[Clip]:
    """Return the clips of an HDF5 file in the layout of PaSST or PANNs.

    See `hear_train.data.hdf5.read_index` and `hear_train.data.panns.read_panns`.
    """
    if is_panns(path):
        return [Clip(name, read, labels) for name, read, labels in read_panns(path, classes)]
    names, labels, known = read_index(path, classes)
    return [
        Clip(
            name,
            PackedClip(path, index, name),
            None if labels is None else labels[index],
            None if known is None else known[index],
        )
        for index, name in enumerate(names)
    ]


def _as_int16(samples: np.ndarray) -> np.ndarray:
    return (samples.clip(-1, 1) * _INT16).round().astype(np.int16)


def is_named(name: str, pattern: str) -> bool:
    """Return whether a name, with or without its folders, matches a shell pattern."""
    return fnmatch(name, pattern) or fnmatch(Path(name).name, pattern)


def _of_table(table: Path, labels: Sequence[str]) -> list[Clip]:
    rows = read_table(table)
    if not rows or "filename" not in rows[0][1]:
        msg = f"{table} must have rows and the column filename; the column labels is optional"
        raise ConfigError(msg)
    clips = []
    for line, row in rows:
        if not row["filename"]:
            msg = f"{table}, line {line}, does not have a filename"
            raise ConfigError(msg)
        try:
            bits = _label_bits(row.get("labels") or "", labels)
        except ConfigError as error:
            msg = f"{table}, line {line}: {error}"
            raise ConfigError(msg) from error
        name = Path(row["filename"])
        clips.append(file_clip(table.parent / name, name.as_posix(), bits))
    return clips


def _label_bits(text: str, labels: Sequence[str]) -> np.ndarray | None:
    """Return a packed bit for each class, 1 for those that a text names; None if it names none."""
    index = {label: i for i, label in enumerate(labels)}
    found = np.zeros(len(labels), bool)
    for part in filter(None, map(str.strip, text.split(";"))):
        found[[index[label] for label in select_classes(part, labels)]] = True
    return np.packbits(found) if found.any() else None
