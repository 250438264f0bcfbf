"""Excerpts of recordings, at the sample rate and with the channels of the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hear_core.audio.decoding import decode
from hear_core.errors import AudioError


def read_excerpt(path: Path, onset: float, offset: float) -> tuple[np.ndarray, int]:
    """Read a part of a recording.

    Files of libsndfile's formats are read from there; others are decoded from their beginning.

    Args:
        path: The recording.
        onset: Start of the excerpt in seconds; a negative one is 0.
        offset: End of the excerpt in seconds; the end of the recording if that is earlier.

    Returns:
        Samples (samples, channels), float32, and the sample rate in Hz.

    Raises:
        AudioError: The file cannot be read as audio, ends before the excerpt begins, or
            has samples that are not finite there.
    """
    import soundfile

    onset = max(0.0, onset)
    try:
        with path.open("rb") as opened, soundfile.SoundFile(opened) as file:
            first = round(onset * file.samplerate)
            file.seek(min(first, file.frames))
            count = round(offset * file.samplerate) - first
            samples = file.read(max(0, count), dtype="float32", always_2d=True)
            sample_rate = int(file.samplerate)
    except (OSError, RuntimeError):
        samples, sample_rate = _decoded(path, onset, offset)
    if not len(samples):
        msg = f"{path} ends before the excerpt from {onset:g} to {offset:g} s begins"
        raise AudioError(msg)
    if not np.isfinite(samples).all():
        msg = f"{path} contains NaN or infinite samples between {onset:g} and {offset:g} s"
        raise AudioError(msg)
    return samples, sample_rate


def _decoded(path: Path, onset: float, offset: float) -> tuple[np.ndarray, int]:
    """Decode a recording up to the end of an excerpt."""
    parts, seconds, sample_rate = list[np.ndarray](), 0.0, 0
    for block in decode(path, []):
        if sample_rate and (block.sample_rate, block.samples.shape[1]) != (
            sample_rate,
            parts[0].shape[1],
        ):
            break
        sample_rate = block.sample_rate
        first, last = (round((time - seconds) * sample_rate) for time in (onset, offset))
        parts.append(block.samples[max(0, first) : max(0, last)])
        seconds += len(block.samples) / sample_rate
        if seconds >= offset:
            break
    return (np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)), sample_rate


def faded(samples: np.ndarray, sample_rate: int, seconds: float = 0.01) -> np.ndarray:
    """Return samples that rise from silence and fall to it, so that they begin without a click.

    Args:
        samples: Samples (samples, channels).
        sample_rate: Sample rate in Hz.
        seconds: Length of each fade.
    """
    size = min(round(seconds * sample_rate), len(samples) // 2)
    if not size:
        return samples
    ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(size) + 0.5) / size))[:, None]
    result = samples.copy()
    result[:size] *= ramp
    result[-size:] *= ramp[::-1]
    return result
