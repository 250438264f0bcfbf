"""Embedding of many audio files by any plug-in, in runs that can be interrupted and resumed.

Work is divided into *units*: the audio files that share an output file, which is one file, or
several for a format that joins them. A unit is added to a journal after its output is in place, and
at the end the journal becomes the index. A run that was killed resumes with the units that are not
in the journal, and ends with the same bytes as one that was not: how files are divided into units
depends on names only, and every file is embedded by itself, since what else is in a batch changes
the last bits.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from hear_core.audio.files import AudioFile
from hear_core.errors import ConfigError, unknown
from hear_core.io.files import (
    SETTINGS,
    check_or_write_settings,
    exclusive_lock,
    remove_stale_parts,
)
from hear_core.io.journal import Journal
from hear_core.io.prefetch import prefetch
from hear_eval.embeddings import index
from hear_eval.embeddings.formats import FORMATS
from hear_eval.embeddings.local import embed_units, file_state
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.units import EmbeddingOptions, FileEntry, OutputUnit, output_units

# Packages that formats and backends need; the extra has the name of the format or backend.
_NEEDED = {"parquet": "pyarrow", "ray": "ray"}


class FileProgress(NamedTuple):
    """The entries of the files that were embedded last, and the number of files that are left."""

    entries: Sequence[FileEntry]
    left: int


def embed_files(
    options: EmbeddingOptions,
    sources: Sequence[AudioFile],
    out: Path,
    *,
    shard: tuple[int, int] = (1, 1),
    retry: bool = False,
    backend: str = "local",
) -> Iterator[FileProgress]:
    """Embed the files of a shard that are not embedded yet, and write the index of the shard.

    Files whose content has changed, or whose output is missing or damaged, are embedded again.
    Files that failed before are left out.

    Args:
        options: Settings for embedding the files.
        sources: Audio files of all shards, see `hear_core.audio.files.find_audio_files`.
        out: Output folder.
        shard: Number of the shard, from 1, and the number of shards.
        retry: Whether to embed files again that failed before.
        backend: A key of `BACKENDS`: ``local`` is this process, ``ray`` the actors of a Ray
            cluster.

    Yields:
        First, once the model is loaded, the entries of the files that were embedded or failed
        before; then those of every unit as it is finished. After the last one, the index is
        written.

    Raises:
        ConfigError: An option is not valid, the folder has embeddings that were made with other
            options, its index or its settings are damaged, or another process works on the shard.
        CheckpointError: The weights cannot be loaded.
        FileError: An output file cannot be written.
    """
    for kind, name, names in (("format", options.format, FORMATS), ("backend", backend, BACKENDS)):
        if name not in names:
            raise ConfigError(unknown(kind, name, names))
        if (needed := _NEEDED.get(name)) and find_spec(needed) is None:
            msg = f"the {kind} {name!r} needs {needed}: install the extra {name!r}"
            raise ConfigError(msg)
    out = out.absolute()
    units = output_units(options, sources, shard)
    plugin = Plugin(options.module, options.model_file, options.options)
    _rename_older_files(out, options.format)
    _check_settings(plugin, options, sources, out, shard[1])
    path = index.index_path(out, options.format, shard)
    with exclusive_lock(path, "wait for it, or give each its own shard"):
        journal = Journal(index.journal_path(path))
        known = index.read_all_entries(out, options.format)
        missing = _missing(units, known, options, out, retry=retry)
        stale = {path.name, journal.path.name, *(unit.output for unit in units)}
        stale |= {Path(unit.output).with_suffix(".timestamps.npy").as_posix() for unit in units}
        remove_stale_parts(out, stale)
        pending = {source.name for unit in missing for source in unit.sources}
        wanted = (source.name for unit in units for source in unit.sources)
        before = [known[name] for name in wanted if name not in pending]
        entries = index.read_entries(path) | index.read_entries(journal.path)
        entries |= {entry.file: entry for entry in before}
        journal.write(entry._asdict() for entry in entries.values())
        left = len(pending)
        yield FileProgress(before, left)
        with journal.appending() as append:
            for found in BACKENDS[backend](plugin, options, missing, out):
                append(*(entry._asdict() for entry in found))
                entries |= {entry.file: entry for entry in found}
                left -= len(found)
                yield FileProgress(found, left)
        index.write_index(path, entries.values())
        journal.remove()


def _check_settings(
    plugin: Plugin, options: EmbeddingOptions, sources: Sequence[AudioFile], out: Path, shards: int
) -> None:
    settings = plugin.settings | {
        "embeddings": "timestamps" if options.timestamps else "scene",
        "format": options.format,
    }
    if FORMATS[options.format].joins:
        # These decide which files share an output file.
        listed = "\n".join(source.name for source in sources)
        settings["files"] = hashlib.sha256(os.fsencode(listed)).hexdigest()
        settings |= {"shards": shards, "joined": options.joined}
    check_or_write_settings(out, settings, f"{FORMATS[options.format].prefix}{SETTINGS}")


def _rename_older_files(out: Path, format_: str) -> None:
    """Give the files of a folder that was written before formats had prefixes their new names."""
    prefix = FORMATS[format_].prefix
    if not prefix or (out / f"{prefix}{SETTINGS}").exists():
        return
    for pattern, begin in (
        ("index*.jsonl", ""),
        (".index*.jsonl.journal", "."),
        (SETTINGS, ""),
    ):
        for path in out.glob(pattern):
            with suppress(FileNotFoundError):  # of another shard, which has just done it
                path.rename(out / f"{begin}{prefix}{path.name.removeprefix(begin)}")


def _missing(
    units: Sequence[OutputUnit],
    known: Mapping[str, FileEntry],
    options: EmbeddingOptions,
    out: Path,
    *,
    retry: bool,
) -> list[OutputUnit]:
    """Return the units that are to be embedded."""

    def is_done(unit: OutputUnit) -> bool:
        return _is_done(unit, known, options, out, retry=retry)

    with closing(prefetch(is_done, units)) as results:
        return [unit for unit, done in zip(units, results, strict=True) if not done.result()]


def _is_done(
    unit: OutputUnit,
    known: Mapping[str, FileEntry],
    options: EmbeddingOptions,
    out: Path,
    *,
    retry: bool,
) -> bool:
    """Return whether all files of a unit were embedded, or failed, with their present content."""
    entries = [known.get(source.name) for source in unit.sources]
    outputs = set()
    for source, entry in zip(unit.sources, entries, strict=True):
        if entry is None or not _is_unchanged(source.path, entry):
            return False
        if entry.embedding is None:
            if retry:
                return False
        else:
            outputs.add(entry.embedding)
    is_complete = FORMATS[options.format].is_complete
    return all(is_complete(out / output, options.timestamps) for output in outputs)


def _is_unchanged(path: Path, entry: FileEntry) -> bool:
    size, checksum = file_state(path)
    # Entries of earlier versions have no checksum.
    return size == entry.bytes and (entry.sha256 is None or checksum == entry.sha256)


def _embed_on_ray(
    plugin: Plugin, options: EmbeddingOptions, units: Iterable[OutputUnit], out: Path
) -> Iterator[list[FileEntry]]:
    from hear_eval.embeddings.ray_cluster import embed_units_on_ray

    return embed_units_on_ray(options, units, out)


Backend = Callable[
    [Plugin, EmbeddingOptions, Iterable[OutputUnit], Path], Iterator[list[FileEntry]]
]

BACKENDS: dict[str, Backend] = {"local": embed_units, "ray": _embed_on_ray}
