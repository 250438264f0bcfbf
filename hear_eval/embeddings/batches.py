"""Clips in batches, and the embeddings of a batch, which must be what the API of HEAR says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future

import numpy as np
import torch

from hear_core.errors import HearError
from hear_eval.embeddings.plugin import Plugin


class EmbeddingError(HearError, ValueError):
    """An embedding that a plug-in cannot make, or that is none."""


def batches(
    clips: Iterable[str], reads: Iterable[Future[np.ndarray]], most: int
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Put neighbours of one length together.

    Args:
        clips: Their names.
        reads: Their waveforms.
        most: Samples in a batch; a longer clip is a batch of its own.

    Yields:
        Names of clips, and their audio (clips, samples).
    """
    names: list[str] = []
    waveforms: list[np.ndarray] = []
    for clip, read in zip(clips, reads, strict=True):
        waveform = read.result()
        full = (len(waveforms) + 1) * len(waveform) > most
        if waveforms and (full or len(waveform) != len(waveforms[0])):
            yield names, np.stack(waveforms)
            names, waveforms = [], []
        names.append(clip)
        waveforms.append(waveform)
    if waveforms:
        yield names, np.stack(waveforms)


def embed(
    plugin: Plugin,
    audio: np.ndarray,
    names: Sequence[str],
    size: int | None,
    *,
    timestamps: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Embed a batch; one that a GPU has no memory for, in halves.

    Args:
        plugin: What it is embedded with.
        audio: (clips, samples).
        names: Of the clips, for what there may be to say of them.
        size: Of an embedding, if it is known.
        timestamps: Take embeddings over time.

    Returns:
        As `Plugin.embed`.

    Raises:
        EmbeddingError: The plug-in fails, or what it gives is no embedding.
    """
    half = len(names) // 2
    try:
        found, times = plugin.embed(torch.from_numpy(audio), timestamps=timestamps)
    except torch.cuda.OutOfMemoryError as error:
        if not half:
            msg = f"{plugin.name} has no memory for {names[0]}: {error}"
            raise EmbeddingError(msg) from error
    except Exception as error:
        reason = str(error) if isinstance(error, HearError) else repr(error)
        msg = f"{plugin.name} fails on {among(names)}: {reason}"
        raise EmbeddingError(msg) from error
    else:
        _check(found, times, names, size, timestamps=timestamps)
        return found, times
    torch.cuda.empty_cache()
    first = embed(plugin, audio[:half], names[:half], size, timestamps=timestamps)
    second = embed(plugin, audio[half:], names[half:], size, timestamps=timestamps)
    stamps = [times for _, times in (first, second) if times is not None]
    return np.concatenate([first[0], second[0]]), np.concatenate(stamps) if stamps else None


def among(names: Sequence[str]) -> str:
    """Return the first of some names, and how many there are besides."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _check(
    found: np.ndarray,
    times: np.ndarray | None,
    names: Sequence[str],
    size: int | None,
    *,
    timestamps: bool,
) -> None:
    """Make sure that embeddings are what the API of HEAR says.

    Raises:
        EmbeddingError: Shapes contradict one another, or a value is no number.
    """
    wanted = "(clips, timestamps, size)" if timestamps else "(clips, size)"
    problem = None
    if found.ndim != (3 if timestamps else 2) or len(found) != len(names):
        problem = f"have the shape {found.shape}; of {len(names)} clips it must be {wanted}"
    elif size is not None and found.shape[-1] != size:
        problem = f"are of {found.shape[-1]} values, and not of {size}"
    elif times is not None and times.shape != found.shape[:2]:
        problem = f"are {found.shape[1]} a clip, and their timestamps have the shape {times.shape}"
    if problem:
        msg = f"the embeddings of {among(names)} {problem}"
        raise EmbeddingError(msg)
    for i, name in enumerate(names):
        if not np.isfinite(found[i]).all() or (
            times is not None and not np.isfinite(times[i]).all()
        ):
            msg = f"the embedding of {name} contains NaN or infinite values"
            raise EmbeddingError(msg)
