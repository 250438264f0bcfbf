"""Clips in HDF5 files are read as files are, and damaged files raise the errors of the project."""

import io
import logging

import h5py
import numpy as np
import pytest
import soundfile

from hear_core.audio.reading import read_audio
from hear_core.errors import AudioError, ConfigError
from hear_train.data.hdf5 import PackedClip, packed_labels, read_index

RATE = 16000


def pack(path, contents, **datasets):
    with h5py.File(path, "w") as file:
        file["audio_name"] = np.array([f"{i}.mp3".encode() for i in range(len(contents))])
        rows = file.create_dataset("mp3", (len(contents),), h5py.vlen_dtype(np.dtype("uint8")))
        for index, content in enumerate(contents):
            rows[index] = np.frombuffer(content, np.uint8)
        for name, values in datasets.items():
            del file[name]
            file[name] = values
    return path


def encoded(samples, format_="WAV"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format=format_)
    return buffer.getvalue()


@pytest.fixture
def tone():
    return np.sin(np.arange(RATE) / 20)


def test_a_packed_clip_is_what_its_file_is(tmp_path, tone):
    content = encoded(np.stack([tone, tone / 3], 1), "MP3") + encoded(tone, "MP3")
    path = pack(tmp_path / "a.h5", [content])
    (tmp_path / "a.mp3").write_bytes(content)
    found = PackedClip(path, 0, "0.mp3")(32000)
    np.testing.assert_array_equal(found, read_audio(tmp_path / "a.mp3", 32000).numpy())
    assert len(found) > 1.9 * 32000


def test_antiphase_channels_do_not_become_silence(tmp_path, tone, caplog):
    path = pack(tmp_path / "b.h5", [encoded(np.stack([tone, -0.95 * tone], 1))])
    with caplog.at_level(logging.WARNING):
        found = PackedClip(path, 0, "0.mp3")(RATE)
    np.testing.assert_allclose(found, tone, atol=1e-4)
    assert "0.mp3 in" in caplog.text
    assert "cancel each other out" in caplog.text


def test_damaged_clips_and_files(tmp_path, tone):
    path = pack(tmp_path / "c.h5", [b"damaged", b"", encoded(tone[:0])])
    for index in (0, 1, 2, 3):
        with pytest.raises(AudioError, match=rf"clip {index} in .*c\.h5"):
            PackedClip(path, index, f"clip {index}")(RATE)
    (tmp_path / "d.h5").write_text("not HDF5")
    for read in (packed_labels, lambda path: read_index(path, 8)):
        with pytest.raises(ConfigError, match=r"d\.h5 is not an HDF5 file in the layout"):
            read(tmp_path / "d.h5")
    numbers = pack(tmp_path / "e.h5", [b""], audio_name=np.arange(1))
    scalar = pack(tmp_path / "f.h5", [b""], mp3=3)
    for file in (numbers, scalar):
        with pytest.raises(ConfigError, match=r"[ef]\.h5 is not an HDF5 file in the layout"):
            read_index(file, 8)


def test_labels_that_are_not_strings(tmp_path):
    path = pack(tmp_path / "g.h5", [b""])
    with h5py.File(path, "a") as file:
        file.attrs["labels"] = np.arange(3)
    with pytest.raises(ConfigError, match="labels is not a list of strings"):
        packed_labels(path)
