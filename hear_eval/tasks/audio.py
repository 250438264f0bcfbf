"""The audio of HEAR tasks: mono files, all of the rate that their folder is named after."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hear_core.errors import AudioError

_UNKNOWN = 0xFFFFFFFF  # size of the data in a wav file that was written to a pipe


def rates(task: Path) -> list[int]:
    """Return the sample rates that a task has folders of, the lowest first."""
    return sorted(int(path.name) for path in task.iterdir() if path.name.isdecimal())


def read_clip(path: Path, sample_rate: int) -> np.ndarray:
    """Read the audio of a clip as it is.

    Args:
        path: Of the file.
        sample_rate: That it must have, in Hz.

    Returns:
        Waveform (samples,), float32, of finite numbers.

    Raises:
        AudioError: The file is missing, is no audio, is damaged or cut off, has another rate or
            several channels, or holds no samples or what is no number.
    """
    import soundfile

    if not path.is_file():
        msg = f"there is no file {path}"
        raise AudioError(msg)
    try:
        with soundfile.SoundFile(path) as file:
            rate, channels, promised = file.samplerate, file.channels, file.frames
            samples = file.read(dtype="float32")
    except (soundfile.SoundFileError, RuntimeError) as error:
        msg = f"{path} cannot be read as audio: {error}"
        raise AudioError(msg) from error
    if problem := _problem(samples, promised, rate, channels, sample_rate) or _cut_off(path):
        msg = f"{path} {problem}"
        raise AudioError(msg)
    return samples


def is_whole(path: Path, sample_rate: int) -> bool:
    """Say, by the header of a file, whether it is audio of a rate that was not cut off."""
    import soundfile

    try:
        rate = soundfile.info(path).samplerate
    except (soundfile.SoundFileError, RuntimeError):
        return False
    return rate == sample_rate and not _cut_off(path)


def _problem(
    samples: np.ndarray, promised: int, rate: int, channels: int, sample_rate: int
) -> str | None:
    if rate != sample_rate:
        return f"has a sample rate of {rate} Hz, and its folder says {sample_rate}"
    if channels != 1:
        return f"has {channels} channels; the audio of a task is mono"
    if len(samples) < promised:
        return f"is cut off: it says {promised} samples and holds {len(samples)}"
    if not len(samples):
        return "holds no samples"
    if not np.isfinite(samples).all():
        return "holds NaN or infinite values"
    return None


def _cut_off(path: Path) -> str | None:
    """Say what a wav file lacks of the data that its header promises; libsndfile reads the rest."""
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return None
        file.seek(12)
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            end = file.tell() + size
            if head[:4] == b"data":
                missing = end - path.stat().st_size
                if missing > 0 and size != _UNKNOWN:
                    return f"is cut off: it says {size} bytes of audio and lacks {missing} of them"
                return None
            file.seek(end + size % 2)
    return "is cut off: it holds no audio data"
