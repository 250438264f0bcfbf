"""Decoding of audio files in blocks, by libsndfile, PyAV or ffmpeg."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeAlias

import numpy as np

from hear_core.audio.links import Link, Pieces, find_links
from hear_core.errors import AudioError

if TYPE_CHECKING:
    import soundfile

BLOCK = 1 << 16
"""Samples per channel that are decoded at a time, at most."""

CONTAINERS = frozenset({".m4a", ".aac", ".mp4", ".webm", ".wma", ".wv", ".mka", ".ac3", ".3gp"})
"""Suffixes of formats that libsndfile does not know, and PyAV and ffmpeg do."""

LOUDEST = 2.0**32
"""Largest magnitude of a sample; no scale of samples reaches further."""

_RATES = (100, 10_000_000)
_AU, _AU_FLOAT = b".snd", 6  # the format in which ffmpeg hands over samples


class EncodedAudio(NamedTuple):
    """The content of an audio file in memory, such as a row of an HDF5 file.

    Attributes:
        name: Name of the audio, for messages.
        content: The bytes.
    """

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the content for reading, as `Path.open` does."""
        return io.BytesIO(self.content)


AudioSource: TypeAlias = Path | EncodedAudio


class Block(NamedTuple):
    """Decoded audio.

    Attributes:
        samples: Samples (samples, channels), float32.
        sample_rate: Sample rate in Hz. It may change from one stream of a file to the
            next, as may the number of channels.
        stream: Number of the stream in the file.
    """

    samples: np.ndarray
    sample_rate: int
    stream: int


def decode(path: AudioSource, problems: list[str]) -> Iterator[Block]:
    """Decode an audio file to its end, however long its header says that it is.

    Args:
        path: File to decode, or the content of one.
        problems: Receives what header and content disagree on, as ends of sentences that begin
            with the name of the file. It is complete when the last block was taken.

    Yields:
        Blocks of at least one and at most `BLOCK` samples per channel.

    Raises:
        AudioError: The file is missing, cannot be decoded, has an absurd sample rate, or holds NaN,
            infinite or absurdly large values.
    """
    if isinstance(path, Path):
        _check_file(path)
    try:
        for block in _blocks(path, problems):
            check_sample_rate(block.sample_rate, f"{path} has")
            _check_values(path, block.samples)
            yield block
    except AudioError:
        raise
    except Exception as error:  # decoders raise anything, ValueError and MemoryError included
        msg = f"{path} cannot be read as audio: {_reason(error)}"
        raise AudioError(msg) from error


def _check_file(path: Path) -> None:
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError) as error:  # such as a name that is too long, or has a NUL
        msg = f"cannot read {path}: {getattr(error, 'strerror', error)}"
        raise AudioError(msg) from error
    if not is_file:
        msg = f"{path} is a folder" if is_folder else f"{path} does not exist"
        raise AudioError(msg)


def check_sample_rate(sample_rate: float, what: str = "sample_rate is") -> None:
    """Raise if a sample rate is not one of audio.

    Args:
        sample_rate: Sample rate in Hz.
        what: Begin of the message.

    Raises:
        AudioError: It is below 100 Hz or above 10 MHz, or not a number.
    """
    is_number = isinstance(sample_rate, Real) and not isinstance(sample_rate, bool)
    if not is_number or not _RATES[0] <= sample_rate <= _RATES[1]:
        limits = f"{_RATES[0]} to {_RATES[1]} Hz are supported"
        name = "" if what.startswith("sample_rate") else "a sample rate of "
        msg = (
            f"{what} {name}{sample_rate if is_number else repr(sample_rate)} Hz, but only {limits}"
        )
        raise AudioError(msg)


def _check_values(path: AudioSource, samples: np.ndarray) -> None:
    highest = max(float(samples.max()), -float(samples.min()))
    if highest <= LOUDEST:
        return
    if np.isfinite(samples).all():
        msg = f"{path} contains values up to {highest:.3g}; audio is in [-1, 1]"
    else:
        msg = f"{path} contains NaN or infinite samples"
    raise AudioError(msg)


def _blocks(path: AudioSource, problems: list[str]) -> Iterator[Block]:
    import soundfile

    links = find_links(path)
    try:
        yield from _sound_file_links(path, links, problems)
    except soundfile.LibsndfileError as error:
        if error.code != _UNKNOWN_FORMAT:
            raise
        reason = error
    else:
        return
    ffmpeg = shutil.which("ffmpeg")
    if find_spec("av") is not None:
        blocks = _with_av(path)
    elif ffmpeg:
        blocks = _with_ffmpeg(path, ffmpeg)
    elif Path(str(path)).suffix.lower() in CONTAINERS:
        msg = (
            f"{path} cannot be read as audio: libsndfile does not know the format; install the "
            f"extra 'av' (pip install av) or the program ffmpeg"
        )
        raise AudioError(msg)
    else:
        raise reason
    empty = True
    for block in blocks:
        empty = False
        yield block
    if empty:
        raise reason


_NO_LENGTH = 2**62  # samples; libsndfile gives more where a header has no length
_UNKNOWN_FORMAT = 1  # SF_ERR_UNRECOGNISED_FORMAT


def _sound_file_links(path: AudioSource, links: list[Link], problems: list[str]) -> Iterator[Block]:
    for number, link in enumerate(links):
        found: list[str] = []
        with path.open("rb") as file:
            whole = path if isinstance(path, Path) else file
            source = whole if link.pieces is None else Pieces(file, link.pieces)
            for samples, sample_rate in _sound_file(source, link.skip, found):
                yield Block(samples, sample_rate, number)
        if problem := link.problem or next(iter(found), None):
            name = "" if len(links) == 1 else f"in stream {number + 1} of {len(links)} "
            problems.append(f"{name}{problem}")


def _sound_file(
    source: Path | BinaryIO | Pieces, skip: int, problems: list[str]
) -> Iterator[tuple[np.ndarray, int]]:
    with _open(source) as file:
        decoded, promised = 0, file.frames
        damaged = False
        while not damaged:
            samples, damaged = _next_samples(file)
            if not len(samples):
                break
            begin = min(len(samples), max(0, skip - decoded))
            decoded += len(samples)
            if begin < len(samples):
                yield samples[begin:], file.samplerate
        if damaged:
            seconds = decoded / file.samplerate
            problems.append(f"is truncated or damaged after {seconds:.2f} s")
            return
        # The length of an MP3 is exact to a frame or two, as encoders count differently.
        slack = 2 * 1152 if file.format == "MP3" else 0
        if decoded + slack < promised < _NO_LENGTH:
            problems.append(f"promises {promised} samples in its header, but has {decoded}")


def _next_samples(file: soundfile.SoundFile) -> tuple[np.ndarray, bool]:
    """Return the next samples (samples, channels), and whether damage ends the file after them.

    Raises:
        LibsndfileError: The file is damaged, and there are no samples before the damage.
    """
    import soundfile

    # libsndfile does not tell how many samples it gave before an error, so they are marked.
    samples = np.full((BLOCK, file.channels), np.nan, np.float32)
    try:
        return file.read(BLOCK, dtype="float32", always_2d=True, out=samples), False
    except soundfile.LibsndfileError:
        count = int(np.append(np.isnan(samples).any(1), True).argmax())
        if not count and not file.tell():
            raise
        return samples[:count], True


def _open(source: Path | BinaryIO | Pieces) -> soundfile.SoundFile:
    """Open a file that is read from begin to end.

    A file that can be sought is read by the `soundfile` package up to the length in its header,
    and sought after every block, which costs time and changes what some decoders give.
    """
    import soundfile

    class Sequential(soundfile.SoundFile):  # type: ignore[misc]  # has no types
        def seekable(self) -> bool:
            return False

    # soundfile encodes names strictly, and not every name is text.
    return Sequential(os.fsencode(source) if isinstance(source, Path) else source)


def _with_av(path: AudioSource) -> Iterator[Block]:
    import av

    with av.open(str(path) if isinstance(path, Path) else path.open(), "r") as container:
        if not container.streams.audio:
            msg = f"{path} has no audio"
            raise AudioError(msg)
        resampler, form, number = None, None, -1
        for frame in container.decode(audio=0):
            if (frame.sample_rate, frame.layout.name) != form:
                form, number = (frame.sample_rate, frame.layout.name), number + 1
                resampler = av.AudioResampler("fltp", frame.layout, frame.sample_rate)
            assert resampler is not None  # noqa: S101  # set with the first frame
            for converted in resampler.resample(frame):
                if len(samples := converted.to_ndarray().T):
                    yield Block(np.ascontiguousarray(samples), frame.sample_rate, number)


def _with_ffmpeg(path: AudioSource, ffmpeg: str) -> Iterator[Block]:
    if isinstance(path, EncodedAudio):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "audio")
            copy.write_bytes(path.content)
            yield from _with_ffmpeg(copy, ffmpeg)
        return
    command = [ffmpeg, "-nostdin", "-v", "error", "-i", f"file:{path}", "-map", "0:a:0"]
    command += ["-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            yield from _au_blocks(process.stdout)  # type: ignore[arg-type]  # it is a pipe
            failed = process.wait() != 0
        finally:
            process.kill()
        errors.seek(0)
        lines = errors.read().decode(errors="replace").split("\n")
        if failed:
            msg = next(
                (line for line in reversed(lines) if line.strip()), "ffmpeg cannot decode it"
            )
            raise ValueError(msg)


def _au_blocks(stream: BinaryIO) -> Iterator[Block]:
    """Yield the samples of an AU file of floats; its header is the simplest there is."""
    head = stream.read(24)
    if len(head) < 24:
        return
    magic, offset, _, encoding, rate, channels = struct.unpack(">4s5I", head)
    if (magic, encoding) != (_AU, _AU_FLOAT) or not channels:
        msg = "ffmpeg gave another format than it was told to"
        raise ValueError(msg)
    stream.read(offset - len(head))
    size = 4 * channels
    while content := stream.read(BLOCK * size):
        whole = content[: len(content) // size * size]
        if whole:
            samples = np.frombuffer(whole, ">f4").astype(np.float32).reshape(-1, channels)
            yield Block(samples, rate, 0)


def _reason(error: Exception) -> str:
    """Return the message of an error without the name of the file, which is named already."""
    text = str(getattr(error, "error_string", "") or error) or type(error).__name__
    return text if not isinstance(error, MemoryError) else "it takes more memory than there is"
