"""Reading audio files into what a model takes: mono, float32, at the model's rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hear_core.errors import AudioError

# Endings of libsndfile's formats, besides the names that it gives them.
_MORE_SUFFIXES = {".aif", ".aifc", ".iff", ".oga", ".opus", ".snd", ".sph"}
_HEADERLESS = {".raw"}


def audio_suffixes() -> set[str]:
    """Return how the names of files end that libsndfile may be able to read, such as ``.wav``."""
    import soundfile

    known = {f".{name.lower()}" for name in soundfile.available_formats()}
    return (known | _MORE_SUFFIXES) - _HEADERLESS


def read_audio(path: str | Path, sample_rate: int) -> Tensor:
    """Read a file that libsndfile knows (wav, flac, ogg, opus, mp3, aiff, …).

    Channels are averaged. The rate is changed by soxr in high quality.

    Args:
        path: Of the file.
        sample_rate: Wanted, in Hz.

    Returns:
        Waveform (samples,), float32, in about [-1, 1].

    Raises:
        AudioError: The file is missing, is no audio, is damaged, or holds no samples.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        msg = f"there is no file {path}"
        raise AudioError(msg)
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        msg = f"{path} cannot be read as audio: {error}"
        raise AudioError(msg) from error
    if len(samples) == 0:
        msg = f"{path} holds no samples"
        raise AudioError(msg)
    return torch.from_numpy(resample(samples.mean(axis=1), rate, sample_rate))


def as_chunk(chunk: np.ndarray) -> np.ndarray:
    """Return the next samples of a live source, checked, as float32, in memory of their own.

    Args:
        chunk: (samples,), floating-point; may be empty.

    Raises:
        AudioError: It has another shape or type, or holds NaN.
    """
    chunk = np.asarray(chunk)
    if chunk.ndim != 1 or not np.issubdtype(chunk.dtype, np.floating):
        msg = f"a chunk must be floats (samples,), not {chunk.dtype} {chunk.shape}"
        raise AudioError(msg)
    if not np.isfinite(chunk).all():
        msg = "the chunk holds NaN or infinite values"
        raise AudioError(msg)
    return chunk.astype(np.float32)  # a copy: sources reuse their buffers


def as_waveform(samples: np.ndarray | Tensor, rate: int, wanted: int) -> np.ndarray:
    """Return samples that a user gave as a waveform at the rate wanted.

    Args:
        samples: (samples,), floating-point, in [-1, 1].
        rate: Of the samples, in Hz.
        wanted: In Hz.

    Raises:
        AudioError: They have another shape or type, or there are none.
    """
    found = samples.detach().cpu().numpy() if isinstance(samples, Tensor) else np.asarray(samples)
    if found.ndim != 1 or found.size == 0:
        msg = f"a waveform must have the shape (samples,) and at least one, not {found.shape}"
        raise AudioError(msg)
    if not np.issubdtype(found.dtype, np.floating):
        msg = f"a waveform must be floats in [-1, 1], such as int16 / 32768, not {found.dtype}"
        raise AudioError(msg)
    return resample(found.astype(np.float32, copy=False), rate, wanted)


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Change the rate of float32 samples (samples,), by soxr in high quality."""
    if rate == wanted:
        return samples
    import soxr

    return soxr.resample(samples, rate, wanted, quality="HQ")


def resample_chunks(chunks: Iterable[np.ndarray], rate: int, wanted: int) -> Iterator[np.ndarray]:
    """Change the rate of a waveform that comes in chunks of float32 samples (samples,).

    What comes out, in a row, does not depend on how it was cut.
    """
    if rate == wanted:
        yield from chunks
        return
    import soxr

    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    for chunk in chunks:
        yield stream.resample_chunk(chunk)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
