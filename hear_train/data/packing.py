"""Packing of data sets: all clips in one HDF5 file, which is read much faster than many files.

Clips are encoded in threads and kept in a hidden folder beside the target until all are done, so
that an interrupted packing resumes. The target appears at the end, as a whole.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hear_core.audio.decoding import check_sample_rate
from hear_core.errors import AudioError, ConfigError, unknown
from hear_core.io.files import check_or_write_settings, exclusive_lock, writing
from hear_core.io.journal import Journal
from hear_core.io.prefetch import prefetch
from hear_train.data.clips import Clip
from hear_train.data.hdf5 import PackedRow, as_mp3, is_packed, write_packed
from hear_train.data.panns import CLIP_SECONDS, PackingResult, to_panns_int16, write_waveforms

_SETTINGS = "settings.json"
_LOCK_HINT = "wait until that packing has ended, or use another file"


class Layout(NamedTuple):
    """A way to store clips in an HDF5 file.

    Attributes:
        encode: Returns the bytes to store of a clip, at a sample rate in Hz. It is called in
            threads, and raises an `AudioError` if the clip cannot be read.
        write: Writes the file, of rows, their number, and the names of the classes.
    """

    encode: Callable[[Clip, int], bytes]
    write: Callable[[Path, Iterable[PackedRow], int, Sequence[str]], int]


def _mp3(clip: Clip, sample_rate: int) -> bytes:
    return as_mp3(clip.read(sample_rate), sample_rate)


def _int16(clip: Clip, sample_rate: int) -> bytes:
    return to_panns_int16(clip.read(sample_rate), CLIP_SECONDS * sample_rate).tobytes()


LAYOUTS: Mapping[str, Layout] = {
    "passt": Layout(_mp3, write_packed),
    "panns": Layout(_int16, write_waveforms),
}
"""Layouts by name: ``passt`` has mp3s, in the datasets of PaSST; ``panns`` has ten seconds of every
clip as 16-bit integers, in the datasets of PANNs."""


def pack_clips(
    target: Path,
    splits: Mapping[str, Sequence[Clip]],
    labels: Sequence[str],
    *,
    layout: str = "passt",
    sample_rate: int = 32000,
    report: Callable[[int, int], None] | None = None,
) -> PackingResult:
    """Write the clips of a data set to an HDF5 file, or resume an interrupted packing.

    Clips that cannot be read are left out and counted.

    Args:
        target: File to write; its suffix is one of HDF5.
        splits: Clips by the name of their split.
        labels: Names of the classes.
        layout: A key of `LAYOUTS`.
        sample_rate: Sample rate in Hz that clips are stored at.
        report: Called after every clip with the number that is done and the number of all.

    Raises:
        ConfigError: The layout is unknown, the name is not that of an HDF5 file, another process
            writes it, an unfinished packing has other clips or settings, or no clip can be read.
    """
    if layout not in LAYOUTS:
        raise ConfigError(unknown("layout", layout, LAYOUTS))
    if not is_packed(target):
        msg = f"{target} must end in .hdf, .hdf5 or .h5"
        raise ConfigError(msg)
    check_sample_rate(sample_rate)
    chosen = LAYOUTS[layout]
    listed = [(clip, split) for split, clips in splits.items() for clip in clips]
    names = "\n".join(f"{split}/{clip.name}" for clip, split in listed)
    settings = {
        "layout": layout,
        "sample_rate": sample_rate,
        "labels": list(labels),
        "clips": len(listed),
        "names": hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest(),
    }
    folder = target.with_name(f".{target.name}.packing")
    with exclusive_lock(target, _LOCK_HINT):
        check_or_write_settings(folder, settings, _SETTINGS, "clips of an unfinished packing")
        kept = _EncodedClips(folder)
        with kept.appending() as append:
            tasks = (clip for clip, _ in listed[len(kept.sizes) :])
            for future in prefetch(lambda clip: chosen.encode(clip, sample_rate), tasks):
                try:
                    append(future.result(), "")
                except AudioError as error:
                    append(b"", str(error))
                if report is not None:
                    report(len(kept.sizes), len(listed))
        good = [each for each, why in zip(listed, kept.failures, strict=True) if not why]
        if not good:
            msg = f"none of the {len(listed)} clips can be read: {kept.failures[0]}"
            raise ConfigError(msg)
        rows = (
            PackedRow(clip.name, content, clip.labels, clip.known, split, clip.group)
            for (clip, split), content in zip(good, kept.contents(), strict=True)
        )
        count = chosen.write(target, rows, len(good), labels)
        shutil.rmtree(folder)
    failed = {clip.name: why for (clip, _), why in zip(listed, kept.failures, strict=True) if why}
    return PackingResult(count, failed)


class _EncodedClips:
    """Encoded clips in a file, one after another, with a journal of their sizes and failures.

    Args:
        folder: Folder of both files.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._journal = folder / "clips.bin", Journal(folder / "clips.jsonl")
        self.sizes: list[int] = []
        self.failures: list[str] = []
        there = self._file.stat().st_size if self._file.exists() else 0
        for size, why in self._journal.read():
            there -= size
            if there < 0:  # the content was lost when the machine stopped
                break
            self.sizes.append(size)
            self.failures.append(why)

    @contextmanager
    def appending(self) -> Iterator[Callable[[bytes, str], None]]:
        """Provide a function that adds the content of the next clip, or why it has none."""
        self._journal.write(zip(self.sizes, self.failures, strict=True))
        with writing(self._file), self._file.open("ab") as file:
            file.truncate(sum(self.sizes))
            with self._journal.appending() as record:

                def append(content: bytes, why: str) -> None:
                    file.write(content)
                    file.flush()
                    record((len(content), why))
                    self.sizes.append(len(content))
                    self.failures.append(why)

                yield append

    def contents(self) -> Iterator[bytes]:
        """Yield the contents of the clips, without failures."""
        with self._file.open("rb") as file:
            for size, why in zip(self.sizes, self.failures, strict=True):
                if not why:
                    yield file.read(size)
