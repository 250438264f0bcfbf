"""Search for similar sounds among the embeddings of a folder: exact, by cosine similarity."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from hear_core.audio.reading import read_audio
from hear_core.errors import ConfigError, FileError
from hear_core.events.formats import EventRow
from hear_core.io.files import SETTINGS, atomic_write
from hear_core.io.json_files import parse_json, read_json
from hear_core.plugins.module_network import check_trusted
from hear_core.zoo.registry import is_checkpoint_path
from hear_eval.embeddings.formats import FORMATS
from hear_eval.embeddings.index import read_all_entries
from hear_eval.embeddings.plugin import Plugin

_AT_ONCE = 65_536  # rows of a product
_UNLIKE = 0.5  # weight of examples that are not wanted, as of Rocchio's method
_CACHE = ".similar"
_log = logging.getLogger(__name__)

_Read: TypeAlias = tuple[list[str], np.ndarray, np.ndarray]


class EmbeddingTable(NamedTuple):
    """Embeddings of recordings, scaled to length 1.

    Attributes:
        files: Names of the recordings.
        file: Index of the recording of every row, (rows,).
        onset: Time that a row begins to describe, in seconds, (rows,).
        offset: End of that time in seconds, (rows,).
        vectors: Embeddings (rows, size), float32, mapped from a file.
        settings: Settings that the embeddings were made with.
    """

    files: Sequence[str]
    file: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    vectors: np.ndarray
    settings: dict[str, Any]


def open_embeddings(folder: Path) -> EmbeddingTable:
    """Open the embeddings that ``hear embed`` wrote into a folder.

    The first call copies them into one hidden file in the folder, which later calls map into
    memory, until the index of the folder changes.

    Raises:
        ConfigError: The folder does not hold embeddings, they have different sizes, or a file of
            them is damaged.
    """
    format_ = next((name for name in FORMATS if _settings_path(folder, name).is_file()), None)
    if format_ is None:
        msg = f"{folder} does not hold embeddings of 'hear embed'"
        raise ConfigError(msg)
    settings = read_json(_settings_path(folder, format_))
    if not isinstance(settings.get("module"), str):
        msg = (
            f"{_settings_path(folder, format_)} does not name the module of the embeddings: "
            "it is damaged, and the recordings must be embedded again into another folder"
        )
        raise ConfigError(msg)
    paths = sorted(folder.glob(f"{FORMATS[format_].prefix}index*.jsonl"))
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    signature = json.dumps([format_, states])
    cache = [folder / f"{_CACHE}.{name}" for name in ("json", "rows.npy", "npy")]
    known = _cached(cache, signature)
    files, rows, vectors = known or _read(folder, format_)
    if known is None:
        try:
            for path, array in ((cache[2], vectors), (cache[1], rows)):
                with atomic_write(path) as part, part.open("wb") as file:
                    np.save(file, array)
            with atomic_write(cache[0]) as part:
                content = json.dumps({"signature": signature, "files": files})
                part.write_text(content, encoding="utf-8")
        except FileError as error:
            _log.warning("the next search reads all embeddings again: %s", error)
    return EmbeddingTable(files, rows[0].astype(int), rows[1], rows[2], vectors, settings)


def _cached(cache: Sequence[Path], signature: str) -> _Read | None:
    """Return what `_read` returned before; None if there is nothing, or if it is damaged."""
    if not all(path.is_file() for path in cache):
        return None
    try:
        found = parse_json(cache[0].read_bytes(), str(cache[0]))
        if found["signature"] != signature:
            return None
        files, rows, vectors = found["files"], np.load(cache[1]), np.load(cache[2], mmap_mode="r")
        if not (len(vectors) == rows.shape[1] and len(rows) == 3 and rows[0].max() < len(files)):
            return None
    except Exception as error:  # whatever the damage, the embeddings are read again
        _log.warning("%s is damaged and made again: %s", cache[0], error)
        return None
    return files, rows, vectors


def _settings_path(folder: Path, format_: str) -> Path:
    return folder / f"{FORMATS[format_].prefix}{SETTINGS}"


def _read(folder: Path, format_: str) -> _Read:
    """Return the names of recordings, rows (file, onset, offset) and vectors."""
    entries = read_all_entries(folder, format_)
    known = {name: entry for name, entry in entries.items() if entry.embedding is not None}
    files, rows, vectors = list[str](), list[np.ndarray](), list[np.ndarray]()
    outputs = sorted({str(entry.embedding) for entry in known.values()})
    owners = {str(entry.embedding): name for name, entry in known.items()}
    for output in outputs:
        try:
            arrays = list(_arrays(folder / output, owners[output]))
        except ModuleNotFoundError:
            raise
        except Exception as error:  # NumPy and Arrow raise many kinds
            msg = f"{folder / output} is damaged; run 'hear embed' again to mend it: {error}"
            raise ConfigError(msg) from error
        for name, embeddings, times in arrays:
            seconds = known[name].seconds if name in known else None
            number, count = len(files), len(embeddings)
            files.append(name)
            if times is None:
                onset, offset = np.zeros(count), np.full(count, seconds or 0.0)
            else:
                onset = times / 1000
                offset = np.append(onset[1:], max(seconds or 0.0, onset[-1])) if count else onset
            rows.append(np.stack([np.full(count, number), onset, offset]))
            vectors.append(embeddings.astype(np.float32))
    if not vectors:
        msg = f"{folder} does not hold a complete embedding; finish 'hear embed' first"
        raise ConfigError(msg)
    if len(sizes := {part.shape[1] for part in vectors}) > 1:
        msg = f"{folder} holds embeddings of different sizes: {sorted(sizes)}"
        raise ConfigError(msg)
    return files, np.concatenate(rows, axis=1), _unit(np.concatenate(vectors))


def _arrays(path: Path, owner: str) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Yield name, embeddings (rows, size) and timestamps of the recordings of an output file."""
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    times = None
    if path.suffix == ".npz":
        with np.load(path) as file:
            embeddings = file["embeddings"]
            times = file.get("timestamps")
    else:
        embeddings = np.load(path)
        beside = path.with_suffix(".timestamps.npy")
        times = np.load(beside) if embeddings.ndim == 2 and beside.is_file() else None
    yield owner, np.atleast_2d(embeddings), times


def _parquet(path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    from pyarrow import parquet

    table = parquet.read_table(path)
    names = table["file"].to_numpy(zero_copy_only=False)
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(len(names), -1)
    times = table["timestamp"].to_numpy() if "timestamp" in table.column_names else None
    begins = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    for begin, end in zip(begins, [*begins[1:], len(names)], strict=True):
        yield names[begin], vectors[begin:end], None if times is None else times[begin:end]


def embed_queries(table: EmbeddingTable, queries: Sequence[Path], model_file: str) -> np.ndarray:
    """Return the scene embeddings of recordings (queries, size), by the model of a table.

    Args:
        table: Embeddings to compare with.
        queries: Recordings.
        model_file: Path of the weights; empty for those that the plug-in uses by default.

    Raises:
        ConfigError: The model is not that of the table, or its embeddings have another size.
        AudioError: A recording cannot be read.
    """
    module = table.settings["module"]
    if not is_checkpoint_path(module):
        check_trusted(module)
    plugin = Plugin(module, model_file, table.settings.get("options") or {})
    if plugin.settings["weights"] != table.settings.get("weights"):
        msg = f"the embeddings were made with other weights of {module}; give them by --model"
        raise ConfigError(msg)
    found = []
    for query in queries:
        audio = read_audio(query, plugin.sample_rate).to(torch.float32)
        if table.settings.get("embeddings") == "timestamps":
            found.append(plugin.embed(audio[None], timestamps=True)[0][0].mean(0))
        else:
            found.append(plugin.embed(audio[None], timestamps=False)[0][0])
    return np.stack(found)


def most_similar(
    table: EmbeddingTable, like: np.ndarray, unlike: np.ndarray, top: int
) -> list[EventRow]:
    """Return the rows that are most similar to some examples, the most similar first.

    The direction that is searched for is the mean of the examples, minus half of the mean of those
    that are not wanted (Rocchio's method). Of rows of a recording that follow one another, the most
    similar is taken.

    Args:
        table: Embeddings to search.
        like: Embeddings of examples, (examples, size).
        unlike: Embeddings of examples that are not wanted, (examples, size); may be empty.
        top: Largest number of rows.

    Returns:
        Rows with the label ``similar``, whose score is the cosine similarity.

    Raises:
        ConfigError: The examples have another size than the embeddings.
    """
    if like.shape[1] != table.vectors.shape[1]:
        msg = f"the query has {like.shape[1]} values, and the embeddings {table.vectors.shape[1]}"
        raise ConfigError(msg)
    direction = _unit(like).mean(0)
    if len(unlike):
        direction = direction - _UNLIKE * _unit(unlike).mean(0)
    direction = _unit(direction[None])[0]
    scores = np.concatenate(
        [
            table.vectors[first : first + _AT_ONCE] @ direction
            for first in range(0, len(table.vectors), _AT_ONCE)
        ]
    )
    rows, taken = list[EventRow](), set[int]()
    for index in _descending(scores):
        if len(rows) == top:
            break
        near = {index - 1, index + 1} & taken
        taken.add(index)
        if any(table.file[other] == table.file[index] for other in near):
            continue
        name, score = table.files[table.file[index]], round(float(scores[index]), 6)
        times = round(float(table.onset[index]), 6), round(float(table.offset[index]), 6)
        rows.append(EventRow(name, *times, "similar", score))
    return rows


def _descending(scores: np.ndarray) -> Iterator[int]:
    """Yield the indices of scores, from the highest, sorting no more of them than are taken."""
    count, done = 1024, 0
    while done < len(scores):
        count = min(4 * count, len(scores))
        highest = np.argpartition(-scores, count - 1)[:count]
        ordered = highest[np.lexsort((highest, -scores[highest]))]
        yield from ordered[done:].tolist()
        done = count


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors scaled to length 1; zero stays zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32)
