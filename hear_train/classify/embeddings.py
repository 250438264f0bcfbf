"""Embeddings of clips in a cache, so that a killed run resumes and a repeated one is quick."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from hear_core.audio.framing import cover
from hear_core.audio.reading import read_audio, read_blocks
from hear_core.errors import AudioError, ConfigError
from hear_core.io.files import atomic_write, check_or_write_settings, remove_stale_parts
from hear_core.io.prefetch import prefetch
from hear_train.data.datasets import LabelledFile

_log = logging.getLogger(__name__)

_PART = 64  # clips of a file of the cache
_LARGE = 32 << 20  # bytes of a file that is read in blocks, as it may last hours


class Embedder(Protocol):
    """Computes embeddings of waveforms.

    Attributes:
        sample_rate: Sample rate in Hz of the waveforms.
        size: Length of an embedding.
    """

    sample_rate: int
    size: int

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Return embeddings (windows, size) of windows (windows, samples)."""


class Embeddings(NamedTuple):
    """Embeddings of the windows of clips.

    Attributes:
        rows: Embeddings (windows, size), float32.
        clips: Index of the clip of each window, (windows,).
        start: Start of each window in its clip in seconds, (windows,).
        end: End of each window in seconds, (windows,).
        failed: Reasons why clips could not be embedded, by name; they have no windows.
    """

    rows: np.ndarray
    clips: np.ndarray
    start: np.ndarray
    end: np.ndarray
    failed: Mapping[str, str]


class _Clip(NamedTuple):
    rows: np.ndarray
    seconds: float


def embed_clips(
    embedder: Embedder,
    files: Sequence[LabelledFile],
    folder: Path,
    window: float,
    settings: Mapping[str, Any],
    report: Callable[[int, int], None] | None = None,
) -> Embeddings:
    """Embed clips, or load those embeddings that are in the cache.

    A clip of up to a window is embedded as a whole. A longer one is covered by windows, of which
    the last ends with it. Each clip is embedded on its own, so that its embeddings do not depend on
    the others. A clip whose size or date of change differs is embedded again.

    Args:
        embedder: Network.
        files: The clips.
        folder: Folder of the cache.
        window: Length of a window in seconds.
        settings: Everything that the embeddings depend on besides the clips.
        report: Called with the number of clips that are done, and of all clips.

    Raises:
        ConfigError: The cache was made with other settings, or no clip can be read.
    """
    check_or_write_settings(folder, {**settings, "window": window}, "settings.json", "embeddings")
    remove_stale_parts(folder)
    known, failed, number = dict[str, _Clip](), dict[str, str](), 0
    for part in sorted(folder.glob("*.npz")):
        known |= _load(part)
        number = int(part.stem) + 1
    keys = [_key(file) for file in files]
    missing = [(key, file) for key, file in zip(keys, files, strict=True) if key not in known]
    for start in range(0, len(missing), _PART):
        group = missing[start : start + _PART]
        found = dict(_embed(embedder, group, window, failed))
        if found:
            _save(folder / f"{number:06}.npz", found)
            number += 1
        known |= found
        if report is not None:
            report(len(files) - len(missing) + start + len(group), len(files))
    if not any(key in known for key in keys):
        msg = f"none of the {len(files)} clips can be read: {next(iter(failed.values()))}"
        raise ConfigError(msg)
    return _joined([known.get(key) for key in keys], window, failed)


def _embed(
    embedder: Embedder,
    group: Sequence[tuple[str, LabelledFile]],
    window: float,
    failed: dict[str, str],
) -> Iterator[tuple[str, _Clip]]:
    length = round(window * embedder.sample_rate)

    def read(file: LabelledFile) -> Iterable[np.ndarray]:
        """Return a clip as a whole, or the blocks of a long recording, which are read later."""
        if file.path.stat().st_size > _LARGE:
            return read_blocks(file.path, embedder.sample_rate)
        return [read_audio(file.path, embedder.sample_rate).numpy()]

    def embed(blocks: Iterable[np.ndarray]) -> _Clip:
        samples = 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal samples
            for block in blocks:
                samples += len(block)
                yield block

        rows = np.concatenate([embedder(windows) for windows in cover(counted(), length)])
        return _Clip(rows, samples / embedder.sample_rate)

    reading = prefetch(read, [file for _, file in group])
    for (key, file), future in zip(group, reading, strict=True):
        try:
            yield key, embed(future.result())
        except (AudioError, OSError) as error:
            failed[file.name] = str(error)


def _joined(clips: Sequence[_Clip | None], window: float, failed: Mapping[str, str]) -> Embeddings:
    index, start, end = list[int](), list[float](), list[float]()
    for number, clip in enumerate(clips):
        for place in range(0 if clip is None else len(clip.rows)):
            assert clip is not None  # noqa: S101 - a clip that is missing has no windows
            # The last window ends with the clip.
            first = max(0.0, min(place * window, clip.seconds - window))
            index.append(number)
            start.append(first)
            end.append(min(first + window, clip.seconds))
    rows = np.concatenate([clip.rows for clip in clips if clip is not None])
    return Embeddings(rows, np.array(index), np.array(start), np.array(end), failed)


def _key(file: LabelledFile) -> str:
    try:
        status = file.path.stat()
    except OSError:
        return file.name  # reading it will say why
    return f"{file.name}|{status.st_size}|{status.st_mtime_ns}"


def _save(path: Path, clips: Mapping[str, _Clip]) -> None:
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(
            file,
            keys=np.array(list(clips)),
            counts=np.array([len(clip.rows) for clip in clips.values()]),
            seconds=np.array([clip.seconds for clip in clips.values()]),
            rows=np.concatenate([clip.rows for clip in clips.values()]),
        )


def _load(path: Path) -> dict[str, _Clip]:
    """Return the clips of a file of the cache; a damaged one is removed."""
    try:
        with np.load(path, allow_pickle=False) as part:
            keys, seconds = part["keys"].tolist(), part["seconds"].tolist()
            rows = np.split(part["rows"], part["counts"].cumsum()[:-1])
        return {key: _Clip(*found) for key, *found in zip(keys, rows, seconds, strict=True)}
    except Exception as error:  # whatever the damage, the clips are embedded again
        _log.warning("%s is damaged, and its clips are embedded again: %s", path, error)
        path.unlink()
        return {}
