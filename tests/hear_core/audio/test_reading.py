import numpy as np
import pytest
import soundfile
import torch

from hear_core.audio.reading import audio_suffixes, read_audio
from hear_core.errors import AudioError


def tone(seconds, rate, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(
        "float32"
    )


@pytest.mark.parametrize(
    ("suffix", "options", "tolerance"),
    [
        (".wav", {"subtype": "PCM_16"}, 1e-4),
        (".wav", {"subtype": "FLOAT"}, 1e-7),
        (".flac", {}, 1e-4),
        (".aiff", {}, 1e-4),
        (".ogg", {}, 0.05),
        (".mp3", {}, 0.05),
    ],
)
def test_formats(tmp_path, suffix, options, tolerance):
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, tone(1.0, 32000), 32000, **options)
    waveform = read_audio(path, 32000)
    assert waveform.dtype == torch.float32
    assert waveform.shape == (32000,)
    np.testing.assert_allclose(waveform[1000:-1000], tone(1.0, 32000)[1000:-1000], atol=tolerance)


def test_channels_are_averaged(tmp_path):
    left, right = tone(0.1, 16000), tone(0.1, 16000, 1000.0)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(
        read_audio(tmp_path / "stereo.wav", 16000), (left + right) / 2, atol=1e-6
    )


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_rate_is_changed(tmp_path, rate):
    soundfile.write(tmp_path / "tone.wav", tone(2.0, rate), rate, subtype="FLOAT")
    waveform = read_audio(tmp_path / "tone.wav", 32000)
    assert waveform.shape == (64000,)
    np.testing.assert_allclose(waveform[2000:-2000], tone(2.0, 32000)[2000:-2000], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.wav", b"this is no audio at all", "cannot be read as audio"),
        ("empty.wav", b"", "cannot be read as audio"),
    ],
)
def test_no_audio(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=f"{name} {message}"):
        read_audio(tmp_path / name, 32000)


def test_no_samples(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0, "float32"), 32000)
    with pytest.raises(AudioError, match=r"none.wav holds no samples"):
        read_audio(tmp_path / "none.wav", 32000)


def test_no_file(tmp_path):
    with pytest.raises(AudioError, match=r"there is no file .*gone.wav"):
        read_audio(tmp_path / "gone.wav", 32000)


def test_usual_suffixes_are_known():
    assert {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff"} <= audio_suffixes()
    assert not {".raw", ".txt", ""} & audio_suffixes()
