"""The audio of HEAR tasks: mono files, all of the rate that their folder is named after."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hear_core.audio.reading import resample
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
    samples, rate = _read(path)
    channels = samples.shape[1]
    problem = _other_rate(rate, sample_rate)
    if channels != 1:
        problem = problem or f"has {channels} channels; the audio of a task is mono"
    if problem:
        msg = f"{path} {problem}"
        raise AudioError(msg)
    return samples[:, 0]


def read_recording(path: Path, sample_rate: int) -> np.ndarray:
    """Read any audio file that a task may be made of, as `hear_core.audio.reading.read_audio` does.

    Once it is written anew, nobody can tell any more that it was damaged: then it is refused.

    Args:
        path: Of the file.
        sample_rate: Wanted, in Hz.

    Returns:
        Waveform (samples,), float32, of finite numbers.

    Raises:
        AudioError: The file is missing, is no audio, is damaged or cut off, or holds no samples or
            what is no number.
    """
    samples, rate = _read(path)
    return resample(samples.mean(axis=1), rate, sample_rate)


def flaw(path: Path, sample_rate: int) -> str | None:
    """Say, by the header of a file, why it is no whole audio of a rate; None if it is."""
    import soundfile

    try:
        rate = soundfile.info(path).samplerate
    except (soundfile.SoundFileError, RuntimeError) as error:
        return f"cannot be read as audio: {error}"
    return _other_rate(rate, sample_rate) or _cut_off(path)


def _read(path: Path) -> tuple[np.ndarray, int]:
    """Return the samples (samples, channels) of a file that is whole, and their rate."""
    import soundfile

    if not path.is_file():
        msg = f"there is no file {path}"
        raise AudioError(msg)
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            # How long an MP3 is can be a guess.
            promised = 0 if file.format == "MP3" else file.frames
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        msg = f"{path} cannot be read as audio: {error}"
        raise AudioError(msg) from error
    if problem := _problem(samples, promised) or _cut_off(path):
        msg = f"{path} {problem}"
        raise AudioError(msg)
    return samples, rate


def _other_rate(rate: int, sample_rate: int) -> str | None:
    if rate == sample_rate:
        return None
    return f"has a sample rate of {rate} Hz, and its folder says {sample_rate}"


def _problem(samples: np.ndarray, promised: int) -> str | None:
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
