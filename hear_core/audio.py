"""Reading audio files into what a model takes: mono, float32, at the model's rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hear_core.errors import AudioError


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


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Change the rate of float32 samples (samples,), by soxr in high quality."""
    if rate == wanted:
        return samples
    import soxr

    return soxr.resample(samples, rate, wanted, quality="HQ")
