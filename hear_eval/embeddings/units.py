"""Units of work when audio files are embedded: which files go into which output file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from hear_core.audio.files import AudioFile
from hear_core.audio.files import shard as shard_of
from hear_core.errors import ConfigError
from hear_core.io.names import shortened
from hear_eval.embeddings.formats import FORMATS

_ROOM = len(".timestamps.npy")  # bytes that the names of output files append to that of the audio


class EmbeddingOptions(NamedTuple):
    """Settings for embedding audio files.

    Args:
        module: Importable name of a plug-in module, or path of a checkpoint, see `Plugin`.
        model_file: Path of the weights; empty for those that the plug-in uses by default.
        options: Keyword arguments of the plug-in's ``load_model``, as in heareval.
        timestamps: Whether to compute timestamp embeddings instead of one scene embedding.
        format: A key of `hear_eval.embeddings.formats.FORMATS`.
        joined: Largest number of audio files in one output file, for a format that joins them.
    """

    module: str
    model_file: str = ""
    options: Mapping[str, Any] = {}
    timestamps: bool = False
    format: str = "npy"
    joined: int = 256


class OutputUnit(NamedTuple):
    """The audio files that go into one output file, whose path is relative to the output folder."""

    output: str
    sources: tuple[AudioFile, ...]


class FileEntry(NamedTuple):
    """The outcome of embedding an audio file.

    Args:
        file: Name of the audio file.
        bytes: Size of the audio file; None if it cannot be read.
        sha256: SHA-256 of the content of the audio file, by which a file that was changed or
            replaced is noticed; None if it cannot be read.
        seconds: Length of the audio in seconds; None if it was not embedded.
        embedding: Path of the output file, relative to the output folder; None if there is none.
        reason: Reason why the file could not be embedded; None if it was embedded.
    """

    file: str
    bytes: int | None
    sha256: str | None = None
    seconds: float | None = None
    embedding: str | None = None
    reason: str | None = None


def output_units(
    options: EmbeddingOptions, sources: Sequence[AudioFile], shard: tuple[int, int]
) -> list[OutputUnit]:
    """Return the units of a shard; they depend on the names of the audio files only.

    Args:
        options: Options, for the format.
        sources: Audio files of all shards.
        shard: Number of the shard, from 1, and the number of shards.

    Raises:
        ConfigError: The shard or the number of joined files is out of range.
    """
    number, of = shard
    if not 1 <= number <= of:
        msg = f"the number of a shard must be from 1 to the number of shards, but is {number}/{of}"
        raise ConfigError(msg)
    if options.joined < 1:
        msg = (
            f"the number of audio files in an output file must be at least 1, not {options.joined}"
        )
        raise ConfigError(msg)
    suffix, joins = FORMATS[options.format].suffix, FORMATS[options.format].joins
    mine = shard_of(sources, number, of)
    if not joins:
        return [OutputUnit(f"{_short(source.name)}{suffix}", (source,)) for source in mine]
    label = "" if of == 1 else f"{number}-of-{of}-"
    starts = range(0, len(mine), options.joined)
    groups = (tuple(mine[start : start + options.joined]) for start in starts)
    return [OutputUnit(f"part-{label}{i:05d}{suffix}", group) for i, group in enumerate(groups)]


def text_name(name: str) -> str:
    """Return the name of a file as text, with bytes that are not UTF-8 escaped by backslashes."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def _short(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(shortened(path.name, _ROOM)))
