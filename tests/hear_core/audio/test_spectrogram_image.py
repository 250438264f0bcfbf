from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from hear_core.audio.spectrogram_image import spectrogram_png


def decoded(png):
    """Return size and values of a picture, by the definition of PNG."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, place = {}, 8
    while place < len(png):
        (size,) = struct.unpack(">I", png[place : place + 4])
        kind, data = png[place + 4 : place + 8], png[place + 8 : place + 8 + size]
        assert struct.unpack(">I", png[place + 8 + size :][:4]) == (zlib.crc32(kind + data),)
        chunks[kind], place = data, place + 12 + size
    width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [8, 3, 0, 0, 0]
    assert len(chunks[b"PLTE"]) == 3 * 256
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:]


@pytest.mark.parametrize("hertz", [200, 1000, 6000])
def test_a_tone_is_where_its_frequency_is_on_the_mel_axis(hertz):
    tone = np.sin(2 * np.pi * hertz * np.arange(16000) / 16000)[:, None].repeat(2, 1)
    image = decoded(spectrogram_png(tone.astype(np.float32), 16000, 200, 100))
    assert image.shape == (100, 200)
    brightest = image[:, 20:-20].argmax(0)
    wanted = 99 * (1 - np.log1p(hertz / 700) / np.log1p(8000 / 700))
    assert np.abs(brightest - wanted).max() <= 2


def test_silence_and_a_single_sample_are_drawn():
    assert decoded(spectrogram_png(np.zeros((5000, 1), np.float32), 8000)).shape == (128, 480)
    assert decoded(spectrogram_png(np.ones((1, 1), np.float32), 8000)).shape == (128, 480)


def test_later_sounds_are_farther_right():
    samples = np.zeros((32000, 1), np.float32)
    samples[24000:24800, 0] = np.random.default_rng(0).normal(size=800)
    image = decoded(spectrogram_png(samples, 32000, 400, 64)).astype(float)
    assert abs(image.mean(0).argmax() - 305) < 12
