"""Embeddings of many audio files by any plug-in, in runs that can be cut off and go on.

Work is cut into *units*, the audio files that share an output file: one, or many for a format that
joins them. A unit that is finished is added to a journal, after its output is in place, and at the
end the index is made of the journal. A run that was killed goes on with the units that are not in
it, and ends with the same bytes as one that was not: how units are cut depends on names only, and
every file is embedded by itself, since what else is in a batch changes the last bits.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hear_core.audio.files import AudioFile, shard
from hear_core.audio.reading import read_audio
from hear_core.errors import ConfigError, HearError, unknown
from hear_core.io.files import check_or_write_settings, exclusive_lock
from hear_core.io.prefetch import prefetch
from hear_eval.embeddings import index
from hear_eval.embeddings.formats import FORMATS
from hear_eval.embeddings.index import Entry
from hear_eval.embeddings.plugin import Plugin

# Formats and places that take more than this project needs otherwise; the extra is called the same.
_NEEDED = {"parquet": "pyarrow", "ray": "ray"}


class Recipe(NamedTuple):
    """How embeddings are made.

    Args:
        module: Importable name of a plug-in module.
        model_file: Its weights; without a path they are those that the plug-in takes by itself.
        options: For its ``load_model``, as in heareval.
        timestamps: Take embeddings over time instead of one of the scene.
        format: A key of `hear_eval.embeddings.formats.FORMATS`.
        joined: Most audio files in one output file, for a format that joins them.
    """

    module: str
    model_file: str = ""
    options: Mapping[str, Any] = {}
    timestamps: bool = False
    format: str = "npy"
    joined: int = 256


class Unit(NamedTuple):
    """The audio files that go into one output file, whose path is relative to the folder."""

    output: str
    sources: tuple[AudioFile, ...]


class Step(NamedTuple):
    """What has become of some files, and how many are left."""

    entries: Sequence[Entry]
    left: int


def load(recipe: Recipe) -> Plugin:
    """Load the plug-in of a recipe."""
    return Plugin(recipe.module, recipe.model_file, recipe.options)


def embed(
    recipe: Recipe,
    sources: Sequence[AudioFile],
    out: Path,
    *,
    part: tuple[int, int] = (1, 1),
    retry: bool = False,
    on: str = "local",
) -> Iterator[Step]:
    """Embed the files of a shard that are not embedded yet, and write its index.

    Files whose size has changed are embedded again. Those that failed are left as they are.

    Args:
        recipe: How.
        sources: The files of all shards.
        out: The folder for the results.
        part: Which shard, from 1, and of how many.
        retry: Try again what failed before.
        on: A key of `PLACES`: ``local`` is this process, ``ray`` the actors of a Ray cluster.

    Yields:
        First, when the model is loaded, the files that are embedded or have failed already; then
        those of every unit as it is finished. After the last the index is written.

    Raises:
        ConfigError: The recipe means nothing here, the folder holds embeddings that were made
            otherwise, or another process is working on the same shard.
        CheckpointError: The weights cannot be had.
    """
    for kind, name, names in (("format", recipe.format, FORMATS), ("place", on, PLACES)):
        if name not in names:
            raise ConfigError(unknown(kind, name, names))
        if (needed := _NEEDED.get(name)) and find_spec(needed) is None:
            msg = f"the {kind} {name!r} needs {needed}: install the extra {name!r}"
            raise ConfigError(msg)
    out = out.absolute()
    plugin = load(recipe)
    settings = plugin.settings | {
        "embeddings": "timestamps" if recipe.timestamps else "scene",
        "format": recipe.format,
    }
    if FORMATS[recipe.format].joins:
        # These decide which files share an output file.
        listed = "\n".join(source.name for source in sources)
        settings["files"] = hashlib.sha256(os.fsencode(listed)).hexdigest()
        settings |= {"shards": part[1], "joined": recipe.joined}
    check_or_write_settings(out, settings)
    path = index.index_of(out, *part)
    with exclusive_lock(path, "wait for it, or give each its own shard"):
        journal = index.journal_of(path)
        known = index.read_all(out)
        units = _units(recipe, sources, part)
        missing = [unit for unit in units if not _done(unit, known, out, retry=retry)]
        pending = {source.name for unit in missing for source in unit.sources}
        wanted = (source.name for unit in units for source in unit.sources)
        before = [known[name] for name in wanted if name not in pending]
        entries = index.read(path) | index.read(journal) | {entry.file: entry for entry in before}
        # Whatever a run that was killed left of a line is gone with this.
        index.write(journal, entries.values())
        left = len(pending)
        yield Step(before, left)
        with journal.open("a", encoding="utf-8") as file:
            for found in PLACES[on](plugin, recipe, missing, out):
                file.write("".join(map(index.line, found)))
                file.flush()
                entries |= {entry.file: entry for entry in found}
                left -= len(found)
                yield Step(found, left)
        index.write(path, entries.values())
        journal.unlink()


def _units(recipe: Recipe, sources: Sequence[AudioFile], part: tuple[int, int]) -> list[Unit]:
    suffix, joins, _ = FORMATS[recipe.format]
    mine = shard(sources, *part)
    if not joins:
        return [Unit(f"{source.name}{suffix}", (source,)) for source in mine]
    label = "" if part[1] == 1 else f"{part[0]}-of-{part[1]}-"
    starts = range(0, len(mine), recipe.joined)
    groups = (tuple(mine[start : start + recipe.joined]) for start in starts)
    return [Unit(f"part-{label}{i:05d}{suffix}", group) for i, group in enumerate(groups)]


def _done(unit: Unit, known: Mapping[str, Entry], out: Path, *, retry: bool) -> bool:
    """Say whether all files of a unit were embedded, or failed, as they are now."""
    entries = [known.get(source.name) for source in unit.sources]
    return all(
        entry is not None
        and entry.bytes == _bytes(source.path)
        and (not retry if entry.embedding is None else (out / entry.embedding).is_file())
        for source, entry in zip(unit.sources, entries, strict=True)
    )


def _bytes(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def process(
    plugin: Plugin, recipe: Recipe, units: Iterable[Unit], out: Path
) -> Iterator[list[Entry]]:
    """Embed units in this process, while threads read the files that come next.

    The model gets half of torch's threads: with all of them it would wait, after every layer, for
    the one that a reader keeps from its core.

    Args:
        plugin: Made by the recipe.
        recipe: For the format.
        units: What is to be done.
        out: The folder that output files are relative to.

    Yields:
        The entries of every unit, once its output file is in place.
    """
    units = list(units)
    sources = [source for unit in units for source in unit.sources]
    reads = prefetch(partial(_read, sample_rate=plugin.sample_rate), sources)
    with closing(reads), _threads(max(1, torch.get_num_threads() // 2)):
        for unit in units:
            yield _process_unit(plugin, recipe, unit, reads, out)


def _process_unit(
    plugin: Plugin, recipe: Recipe, unit: Unit, reads: Iterator[Future[Tensor]], out: Path
) -> list[Entry]:
    entries = []
    with FORMATS[recipe.format].open(out / unit.output) as add:
        for source in unit.sources:
            entry = Entry(source.name, _bytes(source.path))
            try:
                waveform = next(reads).result()
                found, times = plugin.embed(waveform[None], timestamps=recipe.timestamps)
            except Exception as error:
                entry = entry._replace(reason=_reason(error))
            else:
                seconds = len(waveform) / plugin.sample_rate
                add(source.name, found[0], None if times is None else times[0])
                entry = entry._replace(seconds=seconds, embedding=unit.output)
            entries.append(entry)
    return entries


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Have torch use so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _read(source: AudioFile, sample_rate: int) -> Tensor:
    source.name.encode()  # not every name is text, and a table holds text only
    return read_audio(source.path, sample_rate)


def _reason(error: Exception) -> str:
    """Say what went wrong, with the kind of error where it was not raised for a reader."""
    return str(error) if isinstance(error, HearError) else f"{type(error).__name__}: {error}"


def _on_ray(
    plugin: Plugin, recipe: Recipe, units: Iterable[Unit], out: Path
) -> Iterator[list[Entry]]:
    from hear_eval.embeddings.on_ray import process_on_ray

    return process_on_ray(recipe, units, out)


Place = Callable[[Plugin, Recipe, Iterable[Unit], Path], Iterator[list[Entry]]]

PLACES: dict[str, Place] = {"local": process, "ray": _on_ray}
