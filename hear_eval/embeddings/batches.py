"""Batches of clips and their embeddings, which are checked against the HEAR API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future

import numpy as np
import torch

from hear_core.errors import FileError, HearError
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.rows import RowFile


class EmbeddingError(HearError, ValueError):
    """A plug-in fails, or returns something that is not an embedding."""


def make_batches(
    clips: Iterable[str], reads: Iterable[Future[np.ndarray]], max_samples: int
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Put consecutive clips of equal length into batches.

    Args:
        clips: Names of the clips.
        reads: Waveforms (samples,) of the clips.
        max_samples: Largest number of samples in a batch; a longer clip is a batch by itself.

    Yields:
        Names of the clips of a batch, and their audio (clips, samples).
    """
    names: list[str] = []
    waveforms: list[np.ndarray] = []
    for clip, read in zip(clips, reads, strict=True):
        waveform = read.result()
        full = (len(waveforms) + 1) * len(waveform) > max_samples
        if waveforms and (full or len(waveform) != len(waveforms[0])):
            yield names, np.stack(waveforms)
            names, waveforms = [], []
        names.append(clip)
        waveforms.append(waveform)
    if waveforms:
        yield names, np.stack(waveforms)


def embed_batch(
    plugin: Plugin,
    audio: np.ndarray,
    names: Sequence[str],
    size: int | None,
    *,
    timestamps: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Embed a batch, in halves if it does not fit into the memory of the GPU.

    Args:
        plugin: Plug-in that embeds the batch.
        audio: Audio (clips, samples), float32.
        names: Names of the clips, for error messages.
        size: Number of values of an embedding, if it is known.
        timestamps: Whether to compute timestamp embeddings.

    Returns:
        Embeddings and timestamps, see `Plugin.embed`.

    Raises:
        EmbeddingError: The plug-in fails, or its embeddings have the wrong shape or are not finite.
    """
    half = len(names) // 2
    try:
        found, times = plugin.embed(torch.from_numpy(audio), timestamps=timestamps)
    except torch.cuda.OutOfMemoryError as error:
        if not half:
            msg = f"the memory of the GPU is too small for {names[0]}: {error}"
            raise EmbeddingError(msg) from error
    except Exception as error:
        raise _failure(plugin, names, error) from error
    else:
        _check(found, times, names, size, timestamps=timestamps)
        return found, times
    torch.cuda.empty_cache()
    first = embed_batch(plugin, audio[:half], names[:half], size, timestamps=timestamps)
    second = embed_batch(plugin, audio[half:], names[half:], size, timestamps=timestamps)
    stamps = [times for _, times in (first, second) if times is not None]
    return np.concatenate([first[0], second[0]]), np.concatenate(stamps) if stamps else None


def embed_recording(
    plugin: Plugin,
    blocks: Iterable[np.ndarray],
    name: str,
    size: int | None,
    rows: tuple[RowFile, RowFile] | None = None,
) -> np.ndarray | None:
    """Embed a recording that is read in blocks.

    Args:
        plugin: Plug-in that embeds the recording, and takes blocks.
        blocks: Waveforms (samples,), float32, one after another.
        name: Name of the recording, for error messages.
        size: Number of values of an embedding, if it is known.
        rows: Receive timestamp embeddings and timestamps; None computes a scene embedding.

    Returns:
        The scene embedding (size,), or None if `rows` were given.

    Raises:
        EmbeddingError: The plug-in fails, or its embeddings have the wrong shape or are not finite.
        AudioError: The recording cannot be read to its end.
        FileError: The rows cannot be written.
    """
    unread: list[Exception] = []

    def readable() -> Iterator[np.ndarray]:
        try:
            yield from blocks
        except Exception as error:
            unread.append(error)
            raise

    try:
        if rows is None:
            found = plugin.embed_scene_blocks(readable())
            _check(found[None], None, [name], size, timestamps=False)
            return found
        for part, times in plugin.embed_timestamp_blocks(readable()):
            _check(part[None], times[None], [name], size, timestamps=True)
            rows[0].append(part)
            rows[1].append(times)
    except (EmbeddingError, FileError):
        raise
    except Exception as error:
        if unread:
            raise unread[0] from None
        raise _failure(plugin, [name], error) from error
    if not rows[0].shape[0]:
        msg = f"{plugin.name} gives no embeddings of {name}"
        raise EmbeddingError(msg)
    return None


def _failure(plugin: Plugin, names: Sequence[str], error: Exception) -> EmbeddingError:
    reason = str(error) if isinstance(error, HearError) else repr(error)
    return EmbeddingError(f"{plugin.name} fails on {name_first(names)}: {reason}")


def name_first(names: Sequence[str]) -> str:
    """Return the first name and the number of the others, for an error message."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _check(
    found: np.ndarray,
    times: np.ndarray | None,
    names: Sequence[str],
    size: int | None,
    *,
    timestamps: bool,
) -> None:
    """Check that embeddings have the shape and type that the HEAR API specifies.

    Raises:
        EmbeddingError: A shape is wrong, or a value is not finite.
    """
    wanted = "(clips, timestamps, size)" if timestamps else "(clips, size)"
    problem = None
    if found.ndim != (3 if timestamps else 2) or len(found) != len(names) or not found.size:
        problem = f"have the shape {found.shape}; for {len(names)} clips it must be {wanted}"
    elif size is not None and found.shape[-1] != size:
        problem = f"have {found.shape[-1]} values instead of {size}"
    elif times is not None and not np.issubdtype(times.dtype, np.number):
        problem = f"have timestamps of the type {times.dtype}, which are not numbers"
    elif timestamps and (times is None or times.shape != found.shape[:2]):
        shape = None if times is None else times.shape
        problem = f"are {found.shape[1]} per clip, but their timestamps have the shape {shape}"
    if problem:
        msg = f"the embeddings of {name_first(names)} {problem}"
        raise EmbeddingError(msg)
    for i, name in enumerate(names):
        if not np.isfinite(found[i]).all() or (
            times is not None and not np.isfinite(times[i]).all()
        ):
            msg = f"the embedding of {name} contains NaN or infinite values"
            raise EmbeddingError(msg)
