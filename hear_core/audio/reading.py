"""Reading of audio files: mono, float32, at the sample rate of a model."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hear_core.audio.decoding import (
    CONTAINERS,
    LOUDEST,
    AudioSource,
    Block,
    EncodedAudio,
    check_sample_rate,
    decode,
)
from hear_core.errors import AudioError

log = logging.getLogger(__name__)

BLOCK_SAMPLES = 1 << 18
"""Samples in a block of `read_blocks`, unless told otherwise."""

# Suffixes of libsndfile's formats, besides the names that it gives them.
_MORE_SUFFIXES = {".aif", ".aifc", ".iff", ".mp2", ".oga", ".opus", ".snd", ".sph"}
_HEADERLESS = {".raw"}
_MOST_VALUES_PER_SECOND = 96_000  # stereo at 48 kHz
_CANCELLED = 0.01  # of the energy of the loudest channel, which is 20 dB below


def audio_suffixes() -> set[str]:
    """Return the suffixes of audio files that can be read, in lower case, such as ``.wav``.

    Those of containers are included, which need PyAV or ffmpeg; see `read_audio`.
    """
    import soundfile

    known = {f".{name.lower()}" for name in soundfile.available_formats()}
    return (known | _MORE_SUFFIXES | CONTAINERS) - _HEADERLESS


def duration_of(path: Path) -> float | None:
    """Return the length of an audio file in seconds, as its header promises; None if unknown."""
    import soundfile

    try:
        with path.open("rb") as file:
            return float(soundfile.info(file).duration)
    except (OSError, RuntimeError, TypeError, ValueError):
        return None


def read_audio(
    path: str | Path | EncodedAudio, sample_rate: int, *, strict: bool = False
) -> Tensor:
    """Read an audio file.

    The file is decoded to its true end, whatever length its header promises, also if it consists
    of several streams. Formats that libsndfile does not know (m4a, aac, mp4, webm, wma, WavPack)
    are read by PyAV, the extra ``av``, or by an installed ``ffmpeg``.

    Channels are averaged. Where they cancel each other out, because one is the inverse of the
    other, the loudest channel is taken instead, and a warning is logged. The sample rate is
    changed by soxr in high quality.

    Args:
        path: File to read, or the content of one.
        sample_rate: Sample rate of the result in Hz.
        strict: Whether a truncated file, or one whose header and content disagree, is an error. If
            not, what can be decoded is returned, and a warning is logged.

    Returns:
        Waveform (samples,), float32, in about [-1, 1], with at least one sample.

    Raises:
        AudioError: The file is missing, cannot be decoded, has no samples, holds NaN or infinite
            values, or has an absurd sample rate.
    """
    path = path if isinstance(path, EncodedAudio) else Path(path)
    check_sample_rate(sample_rate)
    problems: list[str] = []
    waveform = _mono(path, lambda found: decode(path, found), sample_rate, problems)
    _report(path, problems, empty=not len(waveform), strict=strict)
    return torch.from_numpy(waveform)


def read_if_short(path: str | Path, sample_rate: int, seconds: float) -> Tensor | None:
    """Read an audio file as `read_audio` does, but only if it is short.

    Args:
        path: File to read.
        sample_rate: Sample rate of the result in Hz.
        seconds: Longest duration in seconds.

    Returns:
        Waveform (samples,); None if the file is longer, or has so many channels that it takes the
        memory of a longer one. No more of it was decoded then than it takes to find that out.

    Raises:
        AudioError: As `read_audio` does.
    """
    path = Path(path)
    check_sample_rate(sample_rate)
    blocks, problems = list[Block](), list[str]()
    duration, values = 0.0, 0
    for block in decode(path, problems):
        blocks.append(block)
        duration += len(block.samples) / block.sample_rate
        values += block.samples.size
        if duration > seconds or values > _MOST_VALUES_PER_SECOND * seconds:
            return None
    waveform = _mono(path, lambda _: blocks, sample_rate, [])
    _report(path, problems, empty=not len(waveform), strict=False)
    return torch.from_numpy(waveform)


def _mono(
    path: AudioSource,
    blocks: Callable[[list[str]], Iterable[Block]],
    sample_rate: int,
    problems: list[str],
) -> np.ndarray:
    """Return the mix of blocks, which are read again if their channels cancel each other out."""
    mix = _Mix()
    waveform = _joined(_resampled(mix.mono(blocks(problems)), sample_rate))
    if mix.cancelled:
        mix.choose(path)
        del waveform  # it may be large
        waveform = _joined(_resampled(mix.mono(blocks([])), sample_rate))
    return waveform


class AudioBlocks(Iterator[np.ndarray]):
    """Blocks of a recording (samples,), and the duration of what was read of it.

    Args:
        blocks: The blocks.
        seconds: Duration in seconds of the audio they are made of.

    Attributes:
        seconds: Duration in seconds of the audio that was read so far, at its own sample rate. The
            blocks may be a part of a sample longer, if they have another sample rate.
    """

    def __init__(self, blocks: Iterable[np.ndarray] = (), seconds: float = 0.0) -> None:
        self._blocks, self.seconds = iter(blocks), seconds

    def __next__(self) -> np.ndarray:
        return next(self._blocks)

    @classmethod
    def of_file(
        cls, path: str | Path, sample_rate: int, size: int, *, strict: bool = False
    ) -> AudioBlocks:
        """Return the blocks of a file, see `read_blocks`."""
        found = cls()
        found._blocks = found._read(Path(path), sample_rate, size, strict=strict)
        return found

    def _read(
        self, path: Path, sample_rate: int, size: int, *, strict: bool
    ) -> Iterator[np.ndarray]:
        check_sample_rate(sample_rate)
        if size < 1:
            msg = f"size must be at least one sample, but is {size}"
            raise AudioError(msg)
        mix, problems = _Mix(), list[str]()
        mix.survey(decode(path, []))
        if mix.cancelled:
            mix.choose(path)
        decoded = self._timed(decode(path, problems))
        empty = True
        for block in _sized(_resampled(mix.mono(decoded), sample_rate), size):
            empty = False
            yield block
        _report(path, problems, empty=empty, strict=strict)

    def _timed(self, blocks: Iterable[Block]) -> Iterator[Block]:
        samples = Counter[int]()
        for block in blocks:
            samples[block.sample_rate] += len(block.samples)
            self.seconds = sum(count / rate for rate, count in samples.items())
            yield block


def read_blocks(
    path: str | Path, sample_rate: int, size: int = BLOCK_SAMPLES, *, strict: bool = False
) -> AudioBlocks:
    """Read an audio file in blocks, in memory that does not depend on its length.

    The blocks, joined, are what `read_audio` returns, bit by bit, for any block size. A file of
    several channels is decoded twice: first to find out whether they cancel each other out.

    Args:
        path: File to read.
        sample_rate: Sample rate of the blocks in Hz.
        size: Number of samples in each block; the last one may have fewer.
        strict: Whether damage is an error, as in `read_audio`, raised after the last block.

    Returns:
        An iterator of blocks of a waveform, (samples,), float32, each in memory of its own and not
        empty.

    Raises:
        AudioError: As `read_audio` does, when the first block is taken or later.
    """
    return AudioBlocks.of_file(path, sample_rate, size, strict=strict)


class _Mix:
    """Mixing of channels, stream by stream of a file.

    Whether channels cancel each other out is decided by the energies of a whole stream, so that
    neither the length of a recording nor the size of blocks makes a difference.
    """

    def __init__(self) -> None:
        self._products: dict[int, np.ndarray] = {}  # of every two channels, summed over time
        self._choices: dict[int, int] = {}

    def mono(self, blocks: Iterable[Block]) -> Iterator[tuple[np.ndarray, int]]:
        """Yield mono blocks (samples,) and their sample rates."""
        for samples, rate, stream in blocks:
            self._add(samples, stream)
            if (channel := self._choices.get(stream)) is not None:
                yield np.ascontiguousarray(samples[:, channel]), rate
            else:
                yield _mean(samples), rate

    def survey(self, blocks: Iterable[Block]) -> None:
        """Go through the blocks of a file; only the first if it is mono."""
        for number, (samples, _, stream) in enumerate(blocks):
            if number == 0 and samples.shape[1] == 1:
                return
            self._add(samples, stream)

    @property
    def cancelled(self) -> dict[int, int]:
        """The loudest channel of each stream whose mean is silent beside it."""
        found = {}
        for stream, products in self._products.items():
            energies = products.diagonal()
            mixed = products.sum() / len(products) ** 2
            if mixed < _CANCELLED * energies.max():
                found[stream] = int(energies.argmax())
        return found

    def choose(self, path: AudioSource) -> None:
        """Take the loudest channel from now on where channels cancel each other out."""
        self._choices = self.cancelled
        for stream, channel in self._choices.items():
            log.warning(
                "%s: the channels cancel each other out when they are averaged; channel %d of %d, "
                "the loudest, is used instead",
                path,
                channel + 1,
                len(self._products[stream]),
            )

    def _add(self, samples: np.ndarray, stream: int) -> None:
        channels = samples.shape[1]
        if channels > 1:
            products = self._products.setdefault(stream, np.zeros((channels, channels)))
            products += samples.T @ samples


def _mean(samples: np.ndarray) -> np.ndarray:
    """Return the mean of channels (samples, channels)."""
    if samples.shape[1] == 2:  # the same to the bit, and ten times as fast
        return (samples[:, 0] + samples[:, 1]) / 2
    return samples.mean(axis=1)


def _report(path: AudioSource, problems: list[str], *, empty: bool, strict: bool) -> None:
    """Raise or log what is wrong with a file that was decoded."""
    if empty:
        msg = f"{path} has no samples" + "".join(f"; it {problem}" for problem in problems[:1])
        raise AudioError(msg)
    for problem in problems:
        msg = f"{path} {problem}"
        if strict:
            raise AudioError(msg)
        log.warning("%s; what could be decoded is used", msg)


def _resampled(
    blocks: Iterable[tuple[np.ndarray, int]], new_sample_rate: int
) -> Iterator[np.ndarray]:
    """Change the sample rate of blocks, each of which comes with its own sample rate in Hz."""
    sample_rate, resampler = new_sample_rate, None
    for samples, own in blocks:
        if own != sample_rate and resampler is not None:
            yield resampler.finish()
            resampler = None
        sample_rate = own
        if own == new_sample_rate:
            yield samples
            continue
        if resampler is None:
            resampler = _Resampler(own, new_sample_rate)
        yield resampler.feed(samples)
    if resampler is not None:
        yield resampler.finish()


class _Resampler:
    """Resampling of blocks by soxr in high quality, identical to that of the whole waveform."""

    def __init__(self, sample_rate: int, new_sample_rate: int) -> None:
        import soxr

        self._stream = soxr.ResampleStream(
            sample_rate, new_sample_rate, 1, dtype="float32", quality="HQ"
        )

    def feed(self, samples: np.ndarray) -> np.ndarray:
        return self._stream.resample_chunk(samples)

    def finish(self) -> np.ndarray:
        return self._stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Join parts to an array that grows in place, so that no sample is in memory twice."""
    found, length = np.empty(1 << 20, np.float32), 0
    for part in parts:
        if length + len(part) > len(found):
            found.resize(max(length + len(part), len(found) * 3 // 2), refcheck=False)
        found[length : length + len(part)] = part
        length += len(part)
    found.resize(length, refcheck=False)
    return found


def _sized(parts: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Cut parts to blocks of one size; the last may be shorter."""
    block, filled = np.empty(size, np.float32), 0
    for part in parts:
        done = 0
        while done < len(part):
            count = min(size - filled, len(part) - done)
            block[filled : filled + count] = part[done : done + count]
            filled, done = filled + count, done + count
            if filled == size:
                yield block
                block, filled = np.empty(size, np.float32), 0
    if filled:
        yield block[:filled]


def as_chunk(chunk: np.ndarray) -> np.ndarray:
    """Check the next samples of a live source, and return a copy as float32.

    Args:
        chunk: Waveform (samples,), floating-point; may be empty.

    Raises:
        AudioError: The chunk has another shape or type, or holds NaN or infinite values.
    """
    return _as_samples(chunk, "a chunk").copy()  # sources reuse their buffers


def as_waveform(samples: np.ndarray | Tensor, sample_rate: int, new_sample_rate: int) -> np.ndarray:
    """Check a waveform that a user passes, and return it at another sample rate.

    Args:
        samples: Waveform (samples,), floating-point, in [-1, 1].
        sample_rate: Sample rate of `samples` in Hz.
        new_sample_rate: Sample rate of the result in Hz.

    Returns:
        Waveform (samples,), float32.

    Raises:
        AudioError: The samples have another shape or type, are empty, or hold NaN or infinite
            values, or a sample rate is absurd.
    """
    waveform = _as_samples(samples, "a waveform")
    if not len(waveform):
        msg = f"a waveform must have samples, but has the shape {waveform.shape}"
        raise AudioError(msg)
    check_sample_rate(sample_rate)
    return resample(waveform, sample_rate, new_sample_rate)


def _as_samples(given: object, what: str) -> np.ndarray:
    """Return samples that a user passes as an array (samples,), float32."""
    if isinstance(given, Tensor):
        given = _as_array(given, what)
    found = np.asarray(given)
    if found.ndim != 1:
        msg = f"{what} must have the shape (samples,), but has the shape {found.shape}"
        raise AudioError(msg)
    if not np.issubdtype(found.dtype, np.floating):
        msg = f"{what} must be floats in [-1, 1], such as int16 / 32768, but is {found.dtype}"
        raise AudioError(msg)
    samples = found.astype(np.float32, copy=False)
    if samples.size and not (np.abs(samples) <= LOUDEST).all():
        msg = f"{what} must be finite and in about [-1, 1], but has values up to {_peak(found)}"
        raise AudioError(msg)
    return samples


def _as_array(tensor: Tensor, what: str) -> np.ndarray:
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        kind = "meta" if tensor.is_meta else "quantized" if tensor.is_quantized else tensor.layout
        msg = f"{what} must be a dense tensor with values, but is {kind}"
        raise AudioError(msg)
    plain = tensor.detach().cpu().resolve_neg().resolve_conj()
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()


def _peak(samples: np.ndarray) -> str:
    return "NaN" if np.isnan(samples).any() else f"{float(np.abs(samples).max()):.3g}"


def resample(samples: np.ndarray, sample_rate: int, new_sample_rate: int) -> np.ndarray:
    """Change the sample rate of a waveform by soxr in high quality.

    Args:
        samples: Waveform (samples,), float32.
        sample_rate: Sample rate of `samples` in Hz.
        new_sample_rate: Sample rate of the result in Hz.
    """
    if sample_rate == new_sample_rate:
        return samples
    import soxr

    return soxr.resample(samples, sample_rate, new_sample_rate, quality="HQ")


def resample_chunks(
    chunks: Iterable[np.ndarray], sample_rate: int, new_sample_rate: int
) -> Iterator[np.ndarray]:
    """Change the sample rate of a waveform that arrives in chunks.

    Joined, the chunks of the result equal the output of `resample` for the joined input.

    Args:
        chunks: Chunks (samples,) of a waveform, float32.
        sample_rate: Sample rate of `chunks` in Hz.
        new_sample_rate: Sample rate of the result in Hz.
    """
    return _resampled(((chunk, sample_rate) for chunk in chunks), new_sample_rate)
