"""AudioSet in the layout of PANNs: waveforms as 16-bit integers in HDF5 files, and indexes of them.

A file of waveforms has the datasets ``audio_name`` (names), ``waveform`` (clips of ten seconds at
32 kHz, int16) and ``target`` (a bool for every class). An index has ``audio_name``, ``target``, and
``hdf5_path`` and ``index_in_hdf5``, the place of every clip; indexes of several files are joined to
one. The clips of AudioSet that are missing are empty rows. Kong et al., "PANNs: Large-Scale
Pretrained Audio Neural Networks for Audio Pattern Recognition" (TASLP 2020), read the files that
are written here, and theirs are read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hear_core.audio.files import find_audio_files
from hear_core.audio.reading import read_audio, resample
from hear_core.errors import AudioError, ConfigError
from hear_core.io.files import atomic_write, exclusive_lock
from hear_core.io.hdf5_files import import_h5py, open_hdf5, read_numbers, read_strings
from hear_core.io.journal import Journal
from hear_core.io.prefetch import prefetch
from hear_core.zoo.labels import audioset_labels, audioset_mids
from hear_train.data.hdf5 import PackedClip, PackedRow, opened

SAMPLE_RATE, CLIP_SECONDS = 32000, 10
CLIP_SAMPLES = CLIP_SECONDS * SAMPLE_RATE
_INT16 = 32767
_LOUDEST = 1.2  # amplitude from which the original refuses a clip
_PART = 50000  # clips of one file of the unbalanced set
_FLUSH = 64  # rows between two points that an interrupted packing resumes from
_ROWS = 20000  # rows of targets that are read at a time
_NAME_BYTES, _PATH_BYTES = 20, 200
_LAYOUT = "in the layout of PANNs, which has the datasets audio_name, target and waveform"
_ANY_LAYOUT = "in the layout of PaSST or PANNs, which have audio_name, target and mp3 or waveform"
_INDEX_LAYOUT = "in the layout of PANNs, which has audio_name, target, hdf5_path and index_in_hdf5"
_LOCK_HINT = "wait until that packing has ended, or use another folder"
_ROW = re.compile(r'\s*(?P<id>[^,\s]+)\s*,[^,]*,[^,]*,\s*"(?P<mids>[^"]*)"\s*')


class Segment(NamedTuple):
    """A clip of AudioSet.

    Attributes:
        name: Name of its file, ``Y`` and the identifier of its video.
        labels: Bit for every class, packed eight to a byte.
    """

    name: str
    labels: np.ndarray


class PackingResult(NamedTuple):
    """Result of a packing.

    Attributes:
        clips: Number of clips in the file.
        failed: Reasons why clips were left out, by name.
        missing: Names of the clips without a file, where a table lists the clips.
    """

    clips: int
    failed: Mapping[str, str]
    missing: tuple[str, ...] = ()


def read_segments(table: Path) -> list[Segment]:
    """Return the clips of a table of AudioSet, such as ``balanced_train_segments.csv``.

    Raises:
        ConfigError: The table cannot be read, a line is not a clip, or a class is unknown.
    """
    mids = audioset_mids()
    index = {mids[label]: number for number, label in enumerate(audioset_labels())}
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{table} cannot be read: {error}"
        raise ConfigError(msg) from error
    found = []
    for number, line in enumerate(lines, start=1):
        # The heading is three comments, or the word empty three times in a part that PANNs wrote.
        if not line.strip() or line.startswith("#") or line.strip() == "empty":
            continue
        match = _ROW.fullmatch(line)
        if match is None:
            msg = f'{table}, line {number}, is not an identifier, two times and "classes": {line!r}'
            raise ConfigError(msg)
        bits = np.zeros(len(index), bool)
        for mid in match["mids"].split(","):
            if mid not in index:
                msg = f"{table}, line {number}: {mid!r} is not a class of AudioSet"
                raise ConfigError(msg)
            bits[index[mid]] = True
        found.append(Segment(f"Y{match['id']}.wav", np.packbits(bits)))
    return found


def to_panns_int16(samples: np.ndarray, length: int = CLIP_SAMPLES) -> np.ndarray:
    """Return a waveform as PANNs stores it, (length,), int16.

    It is padded with zeros at the end or cut, clipped to [-1, 1], and its product with 32767 is
    truncated towards zero. A waveform that is not cut is multiplied in double precision, as in the
    original.

    Args:
        samples: Waveform (samples,), float32.
        length: Number of samples.

    Raises:
        AudioError: A sample is above 1.2 in absolute value.
    """
    loudest = np.abs(samples).max(initial=0)  # compared in its own precision, as there
    if not loudest <= _LOUDEST:
        msg = f"the waveform reaches {loudest:g}, and must stay within [-1, 1]"
        raise AudioError(msg)
    if len(samples) <= length:
        samples = np.pad(samples.astype(np.float64), (0, length - len(samples)))
    return (samples[:length].clip(-1, 1) * float(_INT16)).astype(np.int16)


def as_float32(stored: np.ndarray) -> np.ndarray:
    """Return a stored waveform as float32 in [-1, 1]."""
    return (stored / float(_INT16)).astype(np.float32)


def pack_segments(
    target: Path,
    segments: Sequence[Segment],
    audio: Path,
    report: Callable[[int, int], None] | None = None,
) -> PackingResult:
    """Write the waveforms of clips to an HDF5 file, or resume an interrupted packing.

    Files are read in threads. Clips whose file is missing or cannot be read are empty rows.

    Args:
        target: File to write. Until it is complete, it has ``.part`` after its name.
        segments: The clips.
        audio: Folder of their files.
        report: Called after every clip with the number that is done and the number of all.

    Raises:
        ConfigError: There are no clips, the folder does not exist, none of the clips can be read,
            or another process writes the file.
    """
    if not segments or not audio.is_dir():
        msg = f"there is no folder {audio}" if segments else f"{target}: there are no clips to pack"
        raise ConfigError(msg)
    files = {Path(name).stem: path for path, name in find_audio_files([audio]).sources}
    part = target.with_name(f"{target.name}.part")
    journal = Journal(target.with_name(f"{target.name}.part.jsonl"))
    target.parent.mkdir(parents=True, exist_ok=True)

    def read(segment: Segment) -> np.ndarray | None:
        path = files.get(Path(segment.name).stem)
        return None if path is None else to_panns_int16(read_audio(path, SAMPLE_RATE).numpy())

    with exclusive_lock(target, _LOCK_HINT):
        done = [tuple(row) for row in journal.read()] if part.is_file() else []
        if not _continues(done, segments):
            done = []
        if not done:
            _create(part, len(segments))
        journal.write(done)
        with import_h5py().File(part, "r+") as file, journal.appending() as record:
            pending: list[tuple[str, str]] = []

            def flush() -> None:
                file.flush()
                for row in pending:
                    record(row)
                pending.clear()

            for number, (segment, future) in enumerate(
                zip(segments[len(done) :], prefetch(read, segments[len(done) :]), strict=True),
                start=len(done),
            ):
                why = ""
                try:
                    stored = future.result()
                    why = "missing" if stored is None else ""
                except AudioError as error:
                    stored, why = None, f"unreadable: {error}"
                if stored is not None:
                    _write_row(file, number, segment, stored)
                pending.append((segment.name, why))
                if len(pending) == _FLUSH:
                    flush()
                if report is not None:
                    report(number + 1, len(segments))
            flush()
        rows = [tuple(row) for row in journal.read()]
        missing = tuple(name for name, why in rows if why == "missing")
        failed = {name: why.removeprefix("unreadable: ") for name, why in rows if why[:1] == "u"}
        count = len(rows) - len(missing) - len(failed)
        if not count:
            msg = f"none of the {len(rows)} clips is in {audio}, which has {len(files)} audio files"
            raise ConfigError(msg)
        part.replace(target)
        journal.path.unlink()
    return PackingResult(count, failed, missing)


def write_waveforms(
    target: Path, rows: Iterable[PackedRow], total: int, labels: Sequence[str]
) -> int:
    """Write the clips of any data set to a file of waveforms, and return their number.

    Besides the datasets of PANNs, it has ``split`` and ``group``, and the names of the classes as
    an attribute.

    Args:
        target: File to write.
        rows: The clips; their contents are waveforms of `to_panns_int16`, all of one length.
        total: Number of clips.
        labels: Names of the classes.
    """
    h5py, count = import_h5py(), 0
    text = h5py.string_dtype()
    with atomic_write(target) as part, h5py.File(part, "w") as file:
        for row in rows:
            stored = np.frombuffer(row.content, np.int16)
            if not count:
                for name in ("audio_name", "split", "group"):
                    file.create_dataset(name, (total,), dtype=text)
                file.create_dataset("waveform", (total, len(stored)), dtype=np.int16)
                file.create_dataset("target", (total, len(labels)), dtype=np.bool_)
            values = {"audio_name": row.name, "split": row.split, "group": row.group}
            for name, value in {**values, "waveform": stored}.items():
                file[name][count] = value
            if row.labels is not None:
                file["target"][count] = np.unpackbits(row.labels, count=len(labels)) > 0
            count += 1
        sample_rate = len(stored) // CLIP_SECONDS
        file.attrs.create("sample_rate", sample_rate, dtype=np.int32)
        file.attrs.create("labels", list(labels), dtype=text)
    return count


def write_panns_index(waveforms: Path, target: Path) -> None:
    """Write the index of a file of waveforms.

    Raises:
        ConfigError: The file has another layout, or its path is longer than an index can hold.
    """
    path = str(waveforms.resolve()).encode(errors="surrogateescape")
    if len(path) > _PATH_BYTES:
        msg = f"{waveforms}: an index of PANNs holds paths of up to {_PATH_BYTES} bytes"
        raise ConfigError(msg)
    with open_hdf5(waveforms, _LAYOUT) as file:
        names = np.array([name.encode() for name in read_strings(file, "audio_name")])
        targets = file["target"][:].astype(bool)
        labels = file.attrs.get("labels", ())
    count = len(names)
    rows = names, targets, np.full(count, path, f"S{_PATH_BYTES}"), np.arange(count)
    _write_rows(target, [rows], targets.shape[1], labels, max(_NAME_BYTES, names.itemsize))


def join_indexes(indexes: Sequence[Path], target: Path) -> int:
    """Join indexes to one, and return its number of clips.

    Raises:
        ConfigError: A file has another layout, or another number of classes.
    """

    def rows() -> Iterator[tuple[np.ndarray, ...]]:
        for path in indexes:
            with open_hdf5(path, _INDEX_LAYOUT) as file:
                yield tuple(file[name][:] for name in _INDEX)

    with open_hdf5(indexes[0], _INDEX_LAYOUT) as file:
        classes, labels = file["target"].shape[1], file.attrs.get("labels", ())
    kinds = []
    for path in indexes:
        with open_hdf5(path, _INDEX_LAYOUT) as file:
            kinds.append(file["audio_name"].dtype.itemsize)
    return _write_rows(target, rows(), classes, labels, max(kinds))


def pack_audioset(
    audio: Path,
    metadata: Path,
    folder: Path,
    report: Callable[[str, int, int], None] | None = None,
) -> dict[str, PackingResult | None]:
    """Pack AudioSet as PANNs does, with the indexes that its training reads.

    The balanced and the evaluation set become a file each, and the unbalanced one a file for every
    50000 clips, below ``hdf5s/waveforms``. Their indexes are below ``hdf5s/indexes``, and that of
    all clips to train on is ``full_train.h5`` there. Files that exist are kept, and an interrupted
    packing resumes. A set without a table or folder is left out.

    Args:
        audio: Folder with ``balanced_train_segments``, ``eval_segments`` and
            ``unbalanced_train_segments``; the last has a folder for every part.
        metadata: Folder with the tables of AudioSet, named like these and ending in ``.csv``.
        folder: Folder to write to.
        report: Called with the name of the file, and after every clip with the number that is done
            and the number of all.

    Returns:
        Result of every file by its name; None for a file that was there.

    Raises:
        ConfigError: No set has a table and a folder, or see `pack_segments`.
    """
    waveforms, indexes = folder / "hdf5s" / "waveforms", folder / "hdf5s" / "indexes"
    results: dict[str, PackingResult | None] = {}
    for name, source, segments in _sets(audio, metadata):
        target, done = waveforms / f"{name}.h5", None
        if not target.is_file():

            def of_file(number: int, total: int, name: str = name) -> None:
                if report is not None:
                    report(name, number, total)

            done = pack_segments(target, segments, source, of_file)
        results[name] = done
        index = indexes / f"{name}.h5"
        if done is not None or not index.is_file():
            write_panns_index(target, index)
    if not results:
        msg = f"no set of AudioSet has a table in {metadata} and a folder in {audio}"
        raise ConfigError(msg)
    if trained := [indexes / f"{name}.h5" for name in results if name != "eval"]:
        join_indexes(trained, indexes / "full_train.h5")
    return results


def _sets(audio: Path, metadata: Path) -> Iterator[tuple[str, Path, list[Segment]]]:
    """Yield the name of every file, the folder of its clips, and the clips."""
    for name in ("eval", "balanced_train", "unbalanced_train"):
        table, source = metadata / f"{name}_segments.csv", audio / f"{name}_segments"
        if not table.is_file() or not source.is_dir():
            continue
        segments = read_segments(table)
        if name != "unbalanced_train":
            yield name, source, segments
            continue
        for part in range(-(-len(segments) // _PART)):
            folder = source / f"{source.name}_part{part:02}"
            if folder.is_dir():
                clips = segments[part * _PART : (part + 1) * _PART]
                yield f"{name}/{name}_part{part:02}", folder, clips


def is_panns(path: Path) -> bool:
    """Return whether an HDF5 file holds waveforms or an index of PANNs.

    Raises:
        ConfigError: It cannot be read.
    """
    with open_hdf5(path, _ANY_LAYOUT) as file:
        return "waveform" in file or "hdf5_path" in file


class WaveformReader(PackedClip):
    """Reads one clip of a file of waveforms, as its base class does of a file of mp3s."""

    def __call__(self, sample_rate: int) -> np.ndarray:
        """Return the samples (samples,), float32, at a sample rate in Hz.

        At 16 and 8 kHz, every second or fourth sample is taken, as PANNs does.

        Raises:
            AudioError: The clip cannot be read.
        """
        try:
            file = opened(self.path)
            samples = as_float32(file["waveform"][self.index])
            stored = int(file.attrs.get("sample_rate", SAMPLE_RATE))
        except Exception as error:  # what is raised depends on where the file is damaged
            msg = f"{self.name} in {self.path} cannot be read: {error}"
            raise AudioError(msg) from error
        if stored % sample_rate == 0:
            return samples[:: stored // sample_rate]
        return resample(samples, stored, sample_rate)


def read_panns(path: Path, classes: int) -> list[tuple[str, WaveformReader, np.ndarray]]:
    """Return the name, the reader and the packed label bits of every clip; empty rows are left out.

    Args:
        path: A file of waveforms, or an index.
        classes: Number of classes.

    Raises:
        ConfigError: The file has another layout or another number of classes, or a file of an
            index does not exist.
    """
    with open_hdf5(path, _INDEX_LAYOUT if _is_index(path) else _LAYOUT) as file:
        names = read_strings(file, "audio_name")
        target = file["target"]
        if target.shape != (len(names), classes):
            msg = f"target has the shape {target.shape}, not {(len(names), classes)}"
            raise ValueError(msg)
        # Two million clips of 527 classes would take a gigabyte as bools.
        starts = range(0, len(names), _ROWS)
        bits = [np.packbits(target[start : start + _ROWS].astype(bool), axis=1) for start in starts]
        if "hdf5_path" in file:
            paths = read_strings(file, "hdf5_path")
            rows = read_numbers(file, "index_in_hdf5").tolist()
        else:
            paths, rows = [str(path)] * len(names), list(range(len(names)))
    labels = np.concatenate(bits) if bits else np.zeros((0, -(-classes // 8)), np.uint8)
    files = {stored: _located(stored, path) for stored in set(paths)}
    return [
        (name, WaveformReader(files[stored], row, name), labels[number])
        for number, (name, stored, row) in enumerate(zip(names, paths, rows, strict=True))
        if name
    ]


def panns_labels(path: Path) -> tuple[str, ...]:
    """Return the names of the classes of a file: those that it names, else those of AudioSet."""
    with open_hdf5(path, _LAYOUT) as file:
        return tuple(map(str, file.attrs.get("labels", ()))) or audioset_labels()


def find_indexes(path: Path) -> tuple[Path, Path, Path]:
    """Return the indexes of the clips to train on, of the balanced set and of the evaluation set.

    Args:
        path: Folder that was packed to, the folder of its indexes, or the index to train on; the
            others are beside it.

    Raises:
        ConfigError: There is no index to train on.
    """
    if path.is_file():
        return path, path.parent / "balanced_train.h5", path.parent / "eval.h5"
    below = path / "hdf5s" / "indexes"
    folder = below if below.is_dir() else path
    names = ("full_train.h5", "balanced_train.h5")
    train = next((folder / name for name in names if (folder / name).is_file()), None)
    if train is None:
        msg = f"{folder} does not have the index {' or '.join(names)}: pack the data first"
        raise ConfigError(msg)
    return train, folder / "balanced_train.h5", folder / "eval.h5"


_INDEX = ("audio_name", "target", "hdf5_path", "index_in_hdf5")


def _write_rows(
    target: Path,
    parts: Iterable[tuple[np.ndarray, ...]],
    classes: int,
    labels: Sequence[str],
    name_bytes: int,
) -> int:
    kinds = (f"S{name_bytes}", np.bool_, f"S{_PATH_BYTES}", np.int32)
    count = 0
    with atomic_write(target) as part, import_h5py().File(part, "w") as file:
        for name, kind in zip(_INDEX, kinds, strict=True):
            more = (classes,) if name == "target" else ()
            file.create_dataset(name, (0, *more), maxshape=(None, *more), dtype=kind)
        for rows in parts:
            if rows[1].shape[1] != classes:
                msg = f"{target}: indexes of {rows[1].shape[1]} and {classes} classes do not join"
                raise ConfigError(msg)
            end = count + len(rows[0])
            for name, values in zip(_INDEX, rows, strict=True):
                file[name].resize(end, axis=0)
                file[name][count:end] = values
            count = end
        if len(labels):
            file.attrs.create("labels", list(labels), dtype=import_h5py().string_dtype())
    return count


def _create(part: Path, count: int) -> None:
    """Write a file of empty rows; it takes space only as they are filled."""
    with import_h5py().File(part, "w") as file:
        file.create_dataset("audio_name", (count,), dtype=f"S{_NAME_BYTES}")
        file.create_dataset("waveform", (count, CLIP_SAMPLES), dtype=np.int16)
        file.create_dataset("target", (count, len(audioset_labels())), dtype=np.bool_)
        file.attrs.create("sample_rate", SAMPLE_RATE, dtype=np.int32)
        # The place of a dataset in the file is fixed by its first row.
        for name in ("audio_name", "waveform", "target"):
            file[name][0] = file[name][0]


def _write_row(file: Any, number: int, segment: Segment, stored: np.ndarray) -> None:
    file["audio_name"][number] = segment.name.encode()
    file["waveform"][number] = stored
    file["target"][number] = np.unpackbits(segment.labels, count=file["target"].shape[1]) > 0


def _continues(done: Sequence[tuple[Any, ...]], segments: Sequence[Segment]) -> bool:
    """Return whether the rows of an interrupted packing are the first of these clips."""
    names = [segment.name for segment in islice(segments, len(done))]
    return [row[0] for row in done] == names


def _is_index(path: Path) -> bool:
    with open_hdf5(path, _LAYOUT) as file:
        return "hdf5_path" in file


def _located(stored: str, index: Path) -> Path:
    """Return the file that an index names, which may have been moved together with the index."""
    path = Path(stored)
    if path.is_file():
        return path
    tail = stored.replace("\\", "/").rpartition("/waveforms/")[2]
    for folder in index.resolve().parents:
        if (found := folder / "waveforms" / tail).is_file():
            return found
    msg = f"{index} names {stored}, which does not exist"
    raise ConfigError(msg)
