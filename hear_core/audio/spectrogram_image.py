"""Small pictures of spectrograms as PNG files, drawn without a plotting library."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_WINDOW = 1024  # samples
_RANGE = 70.0  # dB below the highest value that are shown
# Colours of ascending values, in equal steps of lightness.
_COLOURS = (
    *((0, 0, 4), (59, 15, 112), (140, 41, 129)),
    *((222, 73, 104), (254, 159, 109), (252, 253, 191)),
)


def spectrogram_png(
    samples: np.ndarray, sample_rate: int, width: int = 480, height: int = 128
) -> bytes:
    """Return a picture of the spectrogram of an excerpt, on a mel axis, as a PNG file.

    Args:
        samples: Samples (samples, channels), whose channels are averaged.
        sample_rate: Sample rate in Hz.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
    """
    mono = samples.mean(1)
    padded = np.pad(mono, _WINDOW // 2)
    starts = np.linspace(0, len(mono) - 1, width).round().astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(padded, (0, 1)), _WINDOW)[starts]
    power = np.abs(np.fft.rfft(windows * np.hanning(_WINDOW))) ** 2
    # The mel scale of O'Shaughnessy, from the highest frequency at the top to 0 at the bottom.
    most = np.log1p(sample_rate / 2 / 700)
    hertz = 700 * np.expm1(np.linspace(most, 0, height))
    place = np.minimum(hertz / sample_rate * _WINDOW, power.shape[1] - 1.001)
    low = place.astype(int)
    share = place - low
    decibel = 10 * np.log10(np.maximum(power, 1e-12))
    image = (decibel[:, low] * (1 - share) + decibel[:, low + 1] * share).T
    scaled = np.clip((image - image.max()) / _RANGE + 1, 0, 1)
    return _png(np.round(255 * scaled).astype(np.uint8))


def _png(values: np.ndarray) -> bytes:
    """Return a PNG file of values (height, width) from 0 to 255, drawn in `_COLOURS`."""
    steps = np.linspace(0, 255, len(_COLOURS))
    palette = np.stack(
        [np.interp(np.arange(256), steps, channel) for channel in np.transpose(_COLOURS)], axis=1
    )
    height, width = values.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), values], axis=1)  # without a filter
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette.round().astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
