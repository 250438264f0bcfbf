"""Packing in the layout of PANNs: what the original wrote, and what it reads."""

from __future__ import annotations

import zlib

import h5py
import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from hear_cli.app import app
from hear_core.errors import AudioError, ConfigError
from hear_core.zoo.labels import audioset_labels, audioset_mids
from hear_train.data import panns
from hear_train.data.clips import packed_clips
from hear_train.data.datasets import DataConfig, open_dataset
from tests import goldens
from tests.goldens import waveform

GOLDEN = goldens.arrays("train/panns")
IDS = ("aaaaaaaaaaa", "-bbbbbbbbbb", "ccccccccccc", "d_ddddddddd")
MIDS = audioset_mids()
CLASSES = len(audioset_labels())


def table(path, rows):
    """Write a table as AudioSet has it: three comments, and a row for each clip."""
    head = ["# Segments csv created Sun Mar  5 10:54:31 2017", "# num_ytids=4", "# YTID, start"]
    lines = [f'{name}, 0.000, 10.000, "{",".join(mids)}"' for name, mids in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*head, *lines]) + "\n")


def classes_of(text):
    """The classes of a golden row, as numbers."""
    return [int(number) for number in str(text).replace(",", " ").split()]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """AudioSet in little: the four clips of the golden arrays, one of which is missing."""
    root = tmp_path_factory.mktemp("audioset")
    audio = root / "audios"
    signals = [waveform(3.0, 1, 32000)[0], waveform(11.0, 2, 32000)[1], None]
    signals.append(waveform(10.0, 3, 32000)[2])
    names = audioset_labels()
    wanted = [[0, 3], [526], [1], [10, 11]]
    rows = [(i, [MIDS[names[c]] for c in each]) for i, each in zip(IDS, wanted, strict=True)]
    for part in ("balanced_train_segments", "eval_segments"):
        table(root / "metadata" / f"{part}.csv", rows)
        (audio / part).mkdir(parents=True)
        for name, signal in zip(IDS, signals, strict=True):
            if signal is not None:
                path = audio / part / f"Y{name}.wav"
                soundfile.write(path, np.asarray(signal), 32000, subtype="FLOAT")
    table(root / "metadata" / "unbalanced_train_segments.csv", rows[:2])
    part = audio / "unbalanced_train_segments" / "unbalanced_train_segments_part00"
    part.mkdir(parents=True)
    soundfile.write(part / f"Y{IDS[0]}.wav", np.zeros(32000, np.float32), 32000)
    (part / f"Y{IDS[1]}.wav").write_bytes(b"damaged")
    return root


@pytest.fixture(scope="module")
def workspace(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("workspace")
    found = panns.pack_audioset(dataset / "audios", dataset / "metadata", folder)
    return folder, found


def test_waveforms_are_those_of_the_original(workspace):
    """The CRC of every row, of files that the original packed from the same audio."""
    with h5py.File(workspace[0] / "hdf5s" / "waveforms" / "eval.h5") as file:
        assert file.attrs["sample_rate"] == 32000
        assert file["audio_name"].dtype == "S20"
        assert (file["waveform"].dtype, file["waveform"].shape) == (np.int16, (4, 320000))
        assert (file["target"].dtype, file["target"].shape) == (np.bool_, (4, 527))
        crcs = [zlib.crc32(row.astype("<i2").tobytes()) for row in file["waveform"]]
        assert crcs == GOLDEN["pack_crc32"].tolist()
        assert [name.decode() for name in file["audio_name"]] == GOLDEN["pack_names"].tolist()
        assert [np.flatnonzero(row).tolist() for row in file["target"]] == [
            [0, 3], [526], [], [10, 11],
        ]  # fmt: skip


def test_missing_and_damaged_files_are_counted(workspace):
    found = workspace[1]
    assert [*found] == ["eval", "balanced_train", "unbalanced_train/unbalanced_train_part00"]
    assert (found["eval"].clips, found["eval"].missing) == (3, (f"Y{IDS[2]}.wav",))
    part = found["unbalanced_train/unbalanced_train_part00"]
    assert (part.clips, part.missing, [*part.failed]) == (1, (), [f"Y{IDS[1]}.wav"])


def read_as_the_original(index):
    """Read an index, and the clip of every row, with the fields and types of the original."""
    with h5py.File(index, "r") as file:
        names = [name.decode() for name in file["audio_name"][:]]
        paths = [path.decode() for path in file["hdf5_path"][:]]
        places, targets = file["index_in_hdf5"][:], file["target"][:].astype(np.float32)
        kinds = [file[name].dtype.str for name in ("audio_name", "hdf5_path", "index_in_hdf5")]
    clips = []
    for path, place in zip(paths, places, strict=True):
        with h5py.File(path, "r") as file:
            clips.append((file["waveform"][place] / 32767.0).astype(np.float32))
    return names, np.stack(clips), targets, kinds


def test_the_original_reads_our_indexes(workspace):
    indexes = workspace[0] / "hdf5s" / "indexes"
    names, clips, targets, kinds = read_as_the_original(indexes / "full_train.h5")
    assert kinds == ["|S20", "|S200", "<i4"]
    assert names == [f"Y{IDS[0]}.wav", f"Y{IDS[1]}.wav", "", f"Y{IDS[3]}.wav", f"Y{IDS[0]}.wav", ""]
    assert targets.sum(1).tolist() == [2, 1, 0, 2, 2, 0]
    assert clips.shape == (6, 320000)
    expected = np.asarray(waveform(3.0, 1, 32000)[0])
    np.testing.assert_allclose(clips[0, : len(expected)], expected.clip(-1, 1), atol=4e-5)
    assert not clips[0, len(expected) :].any()


def test_our_clips_are_those_of_the_indexes(workspace):
    """By the recipe's format; empty rows are no clips."""
    found = open_dataset([workspace[0]], DataConfig(format="panns"))
    assert [len(found.train), len(found.valid), len(found.test)] == [4, 3, 3]
    assert [clip.name for clip in found.test] == [f"Y{IDS[i]}.wav" for i in (0, 1, 3)]
    bits = np.unpackbits(found.test[2].labels, count=CLASSES)
    assert np.flatnonzero(bits).tolist() == [10, 11]
    samples = found.test[1].read(32000)
    assert samples.dtype == np.float32
    for sample_rate, step in ((16000, 2), (8000, 4)):
        np.testing.assert_array_equal(found.test[1].read(sample_rate), samples[::step])
    assert len(found.test[1].read(22050)) == 220500


def test_files_of_the_original_are_read(tmp_path):
    """Written here by the published names and types of its fields, without a class list."""
    stored = (np.arange(2 * 320000) % 60000 - 30000).astype(np.int16).reshape(2, -1)
    target = np.zeros((2, CLASSES), bool)
    target[0, 5] = target[1, [0, 526]] = True
    waveforms, indexes = tmp_path / "w" / "waveforms", tmp_path / "w" / "indexes"
    waveforms.mkdir(parents=True)
    indexes.mkdir()
    with h5py.File(waveforms / "balanced_train.h5", "w") as file:
        file.create_dataset("audio_name", data=[b"Ya.wav", b"Yb.wav"], dtype="S20")
        file.create_dataset("waveform", data=stored, dtype=np.int16)
        file.create_dataset("target", data=target, dtype=np.bool_)
        file.attrs.create("sample_rate", data=32000, dtype=np.int32)
    with h5py.File(indexes / "balanced_train.h5", "w") as file:
        file.create_dataset("audio_name", data=[b"Ya.wav", b"Yb.wav"], dtype="S20")
        file.create_dataset("target", data=target, dtype=np.bool_)
        moved = b"./workspaces/audioset_tagging/hdf5s/waveforms/balanced_train.h5"
        file.create_dataset("hdf5_path", data=[moved] * 2, dtype="S200")
        file.create_dataset("index_in_hdf5", data=np.arange(2), dtype=np.int32)
    for path in (waveforms / "balanced_train.h5", indexes / "balanced_train.h5"):
        clips = packed_clips(path, CLASSES)
        assert [clip.name for clip in clips] == ["Ya.wav", "Yb.wav"]
        np.testing.assert_array_equal(clips[1].read(32000), (stored[1] / 32767.0).astype("f4"))
        assert np.flatnonzero(np.unpackbits(clips[1].labels)[:CLASSES]).tolist() == [0, 526]
    with pytest.raises(ConfigError, match=r"target has the shape \(2, 527\), not \(2, 10\)"):
        packed_clips(waveforms / "balanced_train.h5", 10)
    (waveforms / "balanced_train.h5").unlink()
    with pytest.raises(ConfigError, match=r"names \./workspaces/.*, which does not exist"):
        packed_clips(indexes / "balanced_train.h5", CLASSES)


def test_samples_are_rounded_as_in_the_original():
    edges = np.array([-1.1, -1, -0.5, -1e-5, 0, 1e-5, 0.5, 1, 1.1], np.float32)
    found = panns.to_panns_int16(edges, 12)
    assert found.tolist() == [-32767, -32767, -16383, 0, 0, 0, 16383, 32767, 32767, 0, 0, 0]
    assert panns.to_panns_int16(edges, 3).tolist() == [-32767, -32767, -16383]
    values = GOLDEN["int16_in"]  # a waveform that is cut stays in single precision
    cut = panns.to_panns_int16(np.append(values, np.float32(0)), len(values))
    np.testing.assert_array_equal(cut, GOLDEN["int16_out"])
    wave = panns.to_panns_int16(np.append(waveform(0.05, 1, 32000)[0], np.float32(0)), 1600)
    np.testing.assert_array_equal(wave, GOLDEN["int16_wave"])
    np.testing.assert_array_equal(panns.as_float32(wave), GOLDEN["int16_back"])
    with pytest.raises(AudioError, match=r"reaches 1.3, and must stay within"):
        panns.to_panns_int16(np.array([0, 1.3], np.float32))


def test_an_interrupted_packing_resumes(dataset, tmp_path, monkeypatch):
    segments = panns.read_segments(dataset / "metadata" / "eval_segments.csv")
    audio, target = dataset / "audios" / "eval_segments", tmp_path / "eval.h5"
    monkeypatch.setattr(panns, "_FLUSH", 1)

    def stop(number, total):
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        panns.pack_segments(target, segments, audio, stop)
    assert not target.exists()
    read, calls = panns.read_audio, []
    monkeypatch.setattr(panns, "read_audio", lambda p, r: calls.append(p.name) or read(p, r))
    found = panns.pack_segments(target, segments, audio)
    assert calls == [f"Y{IDS[3]}.wav"]
    assert (found.clips, len(found.missing)) == (3, 1)
    with h5py.File(target) as file:
        crcs = [zlib.crc32(row.astype("<i2").tobytes()) for row in file["waveform"]]
    assert crcs == GOLDEN["pack_crc32"].tolist()
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == ["eval.h5"]


def test_the_command_packs_audioset(dataset, tmp_path):
    line = ["train", "pack", tmp_path / "out", "--layout", "panns", "-d", dataset / "audios"]
    result = CliRunner().invoke(app, list(map(str, [*line, "-d", dataset / "metadata"])))
    assert result.exit_code == 0, result.output
    assert "eval: 3 clips; 1 missing, 0 unreadable" in result.output
    assert "unbalanced_train_part00: 1 clips; 0 missing, 1 unreadable" in result.output
    assert (tmp_path / "out" / "hdf5s" / "indexes" / "full_train.h5").is_file()


def test_any_data_set_is_packed_in_this_layout(tmp_path):
    """It keeps splits and names of classes, and the original reads its waveforms."""
    for split in ("train", "test"):
        for label in ("cat", "a dog"):
            path = tmp_path / "data" / split / label / "1.wav"
            path.parent.mkdir(parents=True)
            soundfile.write(path, np.full(8000, 0.5 if label == "cat" else -0.25), 8000)
    line = ["train", "pack", tmp_path / "a.h5", "--layout", "panns", "-d", tmp_path / "data"]
    result = CliRunner().invoke(app, list(map(str, [*line, "--sample-rate", 8000])))
    assert result.exit_code == 0, result.output
    found = open_dataset([tmp_path / "a.h5"], DataConfig())
    assert found.labels == ("a dog", "cat")
    assert [clip.name for clip in found.train] == ["train/a dog/1.wav", "train/cat/1.wav"]
    assert [len(found.train), len(found.valid), len(found.test)] == [2, 0, 2]
    np.testing.assert_allclose(found.test[1].read(8000)[:8000], 0.5, atol=4e-5)
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file["waveform"].dtype, file["waveform"].shape) == (np.int16, (4, 80000))
        assert file["audio_name"][0].decode() == "train/a dog/1.wav"
        assert file["target"][:].tolist() == [[True, False], [False, True]] * 2
        assert file.attrs["sample_rate"] == 8000


def test_what_is_packed_is_kept(dataset, workspace):
    again = panns.pack_audioset(dataset / "audios", dataset / "metadata", workspace[0])
    assert set(again.values()) == {None}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('abc, 0, 10, "/m/xyz"', "line 4: '/m/xyz' is not a class of AudioSet"),
        ("abc, 0, 10", r"line 4, is not an identifier, two times and"),
    ],
)
def test_a_wrong_line_of_a_table_is_named(tmp_path, line, message):
    table(tmp_path / "a.csv", [])
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text() + line)
    with pytest.raises(ConfigError, match=message):
        panns.read_segments(tmp_path / "a.csv")


def test_a_folder_without_an_index_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"does not have the index full_train.h5 or balanced"):
        panns.find_indexes(tmp_path)
    with pytest.raises(ConfigError, match=r"no set of AudioSet has a table in"):
        panns.pack_audioset(tmp_path, tmp_path, tmp_path / "out")
