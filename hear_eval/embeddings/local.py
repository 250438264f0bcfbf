"""Embedding of audio files in this process, while threads read the files that come next."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hear_core.audio.files import AudioFile
from hear_core.audio.reading import read_audio, read_blocks, read_if_short
from hear_core.errors import FileError, HearError
from hear_core.io.prefetch import prefetch
from hear_core.io.threads import torch_threads
from hear_eval.embeddings.batches import embed_batch, embed_recording
from hear_eval.embeddings.formats import FORMATS
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.rows import RowFile, Rows
from hear_eval.embeddings.units import EmbeddingOptions, FileEntry, OutputUnit, text_name

_LONG = 180.0
"""Seconds from which a recording is embedded while it is read, if the plug-in can do that."""


class _Recording:
    """The blocks of a long recording, which can be read once, and the samples that were read."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks, self.samples = iter(blocks), 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self.samples += len(block)
            yield block


class _ReadFile(NamedTuple):
    """An audio file that was read: its size and checksum, and its audio or the failure."""

    bytes: int | None
    sha256: str | None
    found: Tensor | _Recording | Exception


def embed_units(
    plugin: Plugin, options: EmbeddingOptions, units: Iterable[OutputUnit], out: Path
) -> Iterator[list[FileEntry]]:
    """Embed units in this process.

    The model gets half of the threads of PyTorch: with all of them it would wait, after every
    layer, for the one whose core a reader occupies.

    Args:
        plugin: Plug-in made with `options`.
        options: Options, for the format and the kind of embeddings.
        units: Units to embed.
        out: Output folder.

    Yields:
        The entries of each unit, once its output file is in place.

    Raises:
        FileError: An output file cannot be written.
    """
    units = list(units)
    sources = [source for unit in units for source in unit.sources]
    read = partial(_read, sample_rate=plugin.sample_rate, in_blocks=plugin.takes_blocks)
    reads = prefetch(read, sources)
    with closing(reads), torch_threads(max(1, torch.get_num_threads() // 2)):
        for unit in units:
            yield _embed_unit(plugin, options, unit, reads, out)


def file_state(path: Path) -> tuple[int | None, str | None]:
    """Return the size in bytes and the SHA-256 of a file; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None, None


def _embed_unit(
    plugin: Plugin,
    options: EmbeddingOptions,
    unit: OutputUnit,
    reads: Iterator[Future[_ReadFile]],
    out: Path,
) -> list[FileEntry]:
    entries = []
    with FORMATS[options.format].open(out / unit.output) as add:
        for source in unit.sources:
            size, checksum, found = next(reads).result()
            entry = FileEntry(source.name, size, checksum)
            try:
                if isinstance(found, Exception):
                    raise found
                with _embedded(plugin, options, found, source.name, out) as (rows, times):
                    add(text_name(source.name), rows, times)
            except FileError:  # of the output
                raise
            except Exception as error:
                entry = entry._replace(reason=_reason(error))
            else:
                samples = found.samples if isinstance(found, _Recording) else len(found)
                seconds = samples / plugin.sample_rate
                entry = entry._replace(seconds=seconds, embedding=unit.output)
            entries.append(entry)
    return entries


@contextmanager
def _embedded(
    plugin: Plugin, options: EmbeddingOptions, audio: Tensor | _Recording, name: str, out: Path
) -> Iterator[tuple[Rows, Rows | None]]:
    """Provide the embeddings of a file, and their timestamps if these are wanted."""
    timestamps, size = options.timestamps, plugin.size(timestamps=options.timestamps)
    if not isinstance(audio, _Recording):
        rows, times = embed_batch(plugin, audio[None].numpy(), [name], size, timestamps=timestamps)
        yield rows[0], None if times is None else times[0]
    elif timestamps:
        with closing(RowFile(out)) as found, closing(RowFile(out)) as stamps:
            embed_recording(plugin, audio, name, size, (found, stamps))
            yield found, stamps
    else:
        scene = embed_recording(plugin, audio, name, size)
        assert scene is not None  # noqa: S101
        yield scene, None


def _read(source: AudioFile, sample_rate: int, *, in_blocks: bool) -> _ReadFile:
    state = file_state(source.path)
    try:
        if not in_blocks:
            return _ReadFile(*state, read_audio(source.path, sample_rate))
        found = read_if_short(source.path, sample_rate, _LONG)
        if found is None:
            return _ReadFile(*state, _Recording(read_blocks(source.path, sample_rate)))
        return _ReadFile(*state, found)
    except Exception as error:  # one file does not stop the others
        return _ReadFile(*state, error)


def _reason(error: Exception) -> str:
    """Return a message, with the type of the error if it was not raised for a user to read."""
    return str(error) if isinstance(error, HearError) else f"{type(error).__name__}: {error}"
