"""HDF5 files of mp3s, in the layout that PaSST packs data sets in.

Such a file has the datasets ``audio_name`` (names), ``mp3`` (bytes of the files) and ``target``: a
bit for every class, packed, or, in OpenMIC, 20 probabilities and 20 masks as floats. PaSST is
Koutini et al., "Efficient Training of Audio Transformers with Patchout" (Interspeech 2022).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hear_core.audio.decoding import EncodedAudio
from hear_core.audio.reading import read_audio
from hear_core.errors import AudioError, ConfigError, shortened_repr
from hear_core.io.files import atomic_write
from hear_core.io.hdf5_files import import_h5py, open_hdf5, read_numbers, read_strings

_LAYOUT = "in the layout of PaSST, which has the datasets audio_name, mp3 and target"
_SUFFIXES = {".h5", ".hdf", ".hdf5"}
_PRESENT = 0.5  # probability from which EfficientAT counts an instrument of OpenMIC as present
_open_files: dict[tuple[int, Path], Any] = {}  # by process, as handles do not survive a fork


def file_identity(path: Path) -> tuple[str, str, str]:
    """Return path, size and time of the last change of a file, which tell its content from others.

    Raises:
        OSError: The file does not exist.
    """
    status = path.stat()
    return str(path.resolve()), str(status.st_size), str(status.st_mtime_ns)


def is_packed(path: Path) -> bool:
    """Return whether a file holds many clips, judging by its name."""
    return path.suffix.lower() in _SUFFIXES


def holds_clips(path: Path) -> bool:
    """Return whether an HDF5 file holds clips, and not predictions for example.

    Raises:
        ConfigError: The file cannot be read as HDF5.
    """
    with open_hdf5(path, "of clips or predictions") as file:
        return "mp3" in file


def read_index(path: Path, classes: int) -> tuple[list[str], np.ndarray | None, np.ndarray | None]:
    """Return the names of the clips in a file, their labels, and which labels are known.

    Args:
        path: File in the layout of PaSST.
        classes: Number of classes.

    Returns:
        Names; labels and known classes as packed bits (clips, bytes), or None.

    Raises:
        ConfigError: The file has another layout or another number of classes.
    """
    with open_hdf5(path, _LAYOUT) as file:
        names = read_strings(file, "audio_name")
        target = read_numbers(file, "target") if "target" in file else None
        if (contents := file["mp3"]).shape != (len(names),):
            msg = f"mp3 has the shape {contents.shape}, but there are {len(names)} names"
            raise ValueError(msg)
    if target is None:
        return names, None, None
    if target.dtype.kind == "f" and target.shape == (len(names), 2 * classes):
        probability, mask = np.split(target, 2, axis=1)
        known = mask >= _PRESENT
        return names, np.packbits((probability > _PRESENT) & known, 1), np.packbits(known, 1)
    size = (len(names), -(-classes // 8))
    if target.dtype != np.uint8 or target.shape != size:
        msg = (
            f"{path}: target is {target.dtype} {target.shape}, but {len(names)} clips of "
            f"{classes} classes have uint8 {size}: a bit for every class"
        )
        raise ConfigError(msg)
    return names, target, None


@dataclass(frozen=True)
class PackedClip:
    """Reads one clip of a file; the file is opened once in every process.

    Args:
        path: The HDF5 file.
        index: Row of the clip.
        name: Name of the clip, for messages.
    """

    path: Path
    index: int
    name: str

    def identity(self) -> tuple[str, ...]:
        """Return values that identify the content, see `hear_train.data.clips.Reader`."""
        return (*file_identity(self.path), str(self.index))

    def __call__(self, sample_rate: int) -> np.ndarray:
        """Return the samples (samples,), float32, at a sample rate in Hz.

        Raises:
            AudioError: The clip is damaged or empty.
        """
        name = f"{self.name} in {self.path}"
        try:
            content = opened(self.path)["mp3"][self.index]
            audio = content if isinstance(content, bytes) else np.asarray(content, np.uint8)
        except Exception as error:  # what is raised depends on where the file is damaged
            msg = f"{name} cannot be read: {error}"
            raise AudioError(msg) from error
        return read_audio(EncodedAudio(name, bytes(audio)), sample_rate).numpy()


class PackedRow(NamedTuple):
    """A clip as it is written to an HDF5 file.

    Attributes:
        name: Name of the clip.
        content: Bytes of the audio file.
        labels: Bit for every class, packed; None writes zeros.
        known: Bit for every class that was annotated, packed; None if all were.
        split: Name of its split; empty if it has none.
        group: Recording that the clip belongs to; empty if that is not known.
    """

    name: str
    content: bytes
    labels: np.ndarray | None = None
    known: np.ndarray | None = None
    split: str = ""
    group: str = ""


def write_packed(target: Path, rows: Iterable[PackedRow], total: int, labels: Sequence[str]) -> int:
    """Write an HDF5 file of compressed clips.

    Besides the datasets of PaSST, it has ``split`` and ``group``, and the names of the classes as
    an attribute. Where classes were not annotated, the targets are those of OpenMIC.

    Args:
        target: File to write.
        rows: The clips.
        total: Number of clips, or more.
        labels: Names of the classes.

    Returns:
        The number of clips that were written.
    """
    h5py = import_h5py()
    text, size = h5py.string_dtype(), -(-len(labels) // 8)
    texts: dict[str, list[str]] = {"audio_name": [], "split": [], "group": []}
    bits, masks = list[np.ndarray](), list[np.ndarray]()
    with atomic_write(target) as part, h5py.File(part, "w") as file:
        kind = h5py.vlen_dtype(np.dtype("uint8"))
        contents = file.create_dataset("mp3", (total,), dtype=kind, maxshape=(None,))
        for count, row in enumerate(rows):
            contents[count] = np.frombuffer(row.content, np.uint8)
            for values, value in zip(texts.values(), (row.name, row.split, row.group), strict=True):
                values.append(value)
            bits.append(np.zeros(size, np.uint8) if row.labels is None else row.labels)
            masks.append(np.full(size, 255, np.uint8) if row.known is None else row.known)
        contents.resize(len(bits), axis=0)
        for name, values in texts.items():
            file.create_dataset(name, data=np.array(values, object), dtype=text)
        targets, known = (np.reshape(x, (len(bits), size)).astype(np.uint8) for x in (bits, masks))
        if not np.unpackbits(known, axis=1, count=len(labels)).all():
            numbers = (np.unpackbits(x, axis=1, count=len(labels)) for x in (targets, known))
            targets = np.concatenate([*numbers], axis=1).astype(np.float32)
        file["target"] = targets
        file.attrs.create("labels", list(labels), dtype=text)
    return len(bits)


def read_splits(path: Path) -> tuple[list[str], list[str]] | None:
    """Return splits and recordings of the clips in a file of `write_packed`; None for others."""
    with open_hdf5(path, _LAYOUT) as file:
        if "split" not in file or "group" not in file:
            return None
        return read_strings(file, "split"), read_strings(file, "group")


def packed_labels(path: Path) -> tuple[str, ...]:
    """Return the names of the classes of a file that `write_packed` wrote; empty for others."""
    with open_hdf5(path, _LAYOUT) as file:
        labels = file.attrs.get("labels", ())
        if not all(isinstance(label, str) for label in labels):
            msg = f"its attribute labels is not a list of strings: {shortened_repr(labels)}"
            raise ValueError(msg)
    return tuple(labels)


def as_mp3(samples: np.ndarray, sample_rate: int) -> bytes:
    """Return a waveform (samples,) as the bytes of an mp3 file."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples.clip(-1, 1), sample_rate, format="MP3")
    return buffer.getvalue()


def opened(path: Path) -> Any:
    """Return an open HDF5 file, which is opened once in every process."""
    key = (os.getpid(), path)
    if key not in _open_files:
        _open_files[key] = import_h5py().File(path, "r")
    return _open_files[key]
