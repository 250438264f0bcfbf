"""Audio of HEAR tasks: mono files in a folder that is named after their sample rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hear_core.audio.decoding import decode
from hear_core.audio.links import find_links
from hear_core.audio.reading import read_audio
from hear_core.errors import AudioError, ConfigError

SAMPLE_RATES = range(100, 768_001)  # Hz


def check_task_sample_rate(sample_rate: int) -> int:
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
    parts, problems = list[np.ndarray](), list[str]()
    for block in decode(path, problems):
        channels = block.samples.shape[1]
        problem = _other_rate(block.sample_rate, sample_rate)
        if channels != 1:
            problem = problem or f"has {channels} channels; the audio of a task is mono"
        if problem:
            msg = f"{path} {problem}"
            raise AudioError(msg)
        parts.append(block.samples[:, 0])
    if not parts:
        problems.append("has no samples")
    if problems:
        msg = f"{path} {problems[0]}"
        raise AudioError(msg)
    return np.concatenate(parts)


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
    return read_audio(path, sample_rate, strict=True).numpy()


def header_flaw(path: Path, sample_rate: int) -> str | None:
    """Return what is wrong with a clip as far as its header and size tell, or None.

    Args:
        path: Path of the file.
        sample_rate: Sample rate in Hz that the file must have.
    """
    import soundfile

    try:
        found = soundfile.info(path).samplerate
        problems = [link.problem for link in find_links(path) if link.problem]
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        return f"cannot be read as audio: {error}"
    return _other_rate(found, sample_rate) or next(iter(problems), None)


def _other_rate(found: int, sample_rate: int) -> str | None:
    if found == sample_rate:
        return None
    return f"has a sample rate of {found} Hz, but its folder is for {sample_rate} Hz"
