"""Audio of HEAR tasks: mono files in a folder that is named after their sample rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hear_core.audio.reading import resample
from hear_core.errors import AudioError, ConfigError

SAMPLE_RATES = range(100, 768_001)  # Hz
_UNKNOWN = 0xFFFFFFFF  # size of the data in a wav file that was written to a pipe


def check_sample_rate(sample_rate: int) -> int:
    """Return a sample rate that audio can be written at.

    Raises:
        ConfigError: The rate is out of range.
    """
    if sample_rate not in SAMPLE_RATES:
        msg = (
            f"a sample rate must be from {SAMPLE_RATES.start} to {SAMPLE_RATES.stop - 1} Hz, "
            f"but is {sample_rate}"
        )
        raise ConfigError(msg)
    return int(sample_rate)


def sample_rates_of(task: Path) -> list[int]:
    """Return the sample rates in Hz that a task has folders of audio for, the lowest first."""
    names = [path.name for path in task.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def read_clip(path: Path, sample_rate: int) -> np.ndarray:
    """Read the audio of a clip without changing it.

    Args:
        path: Path of the file.
        sample_rate: Sample rate in Hz that the file must have.

    Returns:
        Waveform (samples,), float32, all finite.

    Raises:
        AudioError: The file is missing, is not audio, is damaged or truncated, has another sample
            rate or several channels, or has no samples or samples that are not finite.
    """
    samples, found = _read(path)
    channels = samples.shape[1]
    problem = _other_rate(found, sample_rate)
    if channels != 1:
        problem = problem or f"has {channels} channels; the audio of a task is mono"
    if problem:
        msg = f"{path} {problem}"
        raise AudioError(msg)
    return samples[:, 0]


def read_recording(path: Path, sample_rate: int) -> np.ndarray:
    """Read an audio file to be written into a task, as `hear_core.audio.reading.read_audio` does.

    A damaged file is refused, since the damage could no longer be noticed in what is written.

    Args:
        path: Path of the file.
        sample_rate: Sample rate in Hz to which the audio is resampled.

    Returns:
        Waveform (samples,), float32, all finite.

    Raises:
        AudioError: The file is missing, is not audio, is damaged or truncated, or has no samples or
            samples that are not finite.
    """
    samples, found = _read(path)
    return resample(samples.mean(axis=1), found, sample_rate)


def header_flaw(path: Path, sample_rate: int) -> str | None:
    """Return what is wrong with a clip as far as its header and size tell, or None.

    Args:
        path: Path of the file.
        sample_rate: Sample rate in Hz that the file must have.
    """
    import soundfile

    try:
        found = soundfile.info(path).samplerate
    except (soundfile.SoundFileError, RuntimeError) as error:
        return f"cannot be read as audio: {error}"
    return _other_rate(found, sample_rate) or _truncation(path)


def _read(path: Path) -> tuple[np.ndarray, int]:
    """Return the samples (samples, channels) of an undamaged file, and its sample rate in Hz."""
    import soundfile

    if not path.is_file():
        msg = f"there is no file {path}"
        raise AudioError(msg)
    try:
        with soundfile.SoundFile(path) as file:
            sample_rate = file.samplerate
            # The length in an MP3 header may be an estimate.
            promised = 0 if file.format == "MP3" else file.frames
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        msg = f"{path} cannot be read as audio: {error}"
        raise AudioError(msg) from error
    if problem := _problem(samples, promised) or _truncation(path):
        msg = f"{path} {problem}"
        raise AudioError(msg)
    return samples, sample_rate


def _other_rate(found: int, sample_rate: int) -> str | None:
    if found == sample_rate:
        return None
    return f"has a sample rate of {found} Hz, but its folder is for {sample_rate} Hz"


def _problem(samples: np.ndarray, promised: int) -> str | None:
    if len(samples) < promised:
        return f"is truncated: its header promises {promised} samples, but it has {len(samples)}"
    if not len(samples):
        return "has no samples"
    if not np.isfinite(samples).all():
        return "contains NaN or infinite samples"
    return None


def _truncation(path: Path) -> str | None:
    """Return what a wav file lacks of the data that its header promises, or None.

    libsndfile reads the rest of such a file without an error.
    """
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
                    return f"is truncated: {missing} of {size} bytes of audio are missing"
                return None
            file.seek(end + size % 2)
    return "is truncated: it has no audio data"
