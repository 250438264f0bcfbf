"""Packing of data sets to HDF5, interrupted ones included."""

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from hear_cli.app import app
from hear_core.errors import ConfigError
from hear_train.data import packing
from hear_train.data.clips import Clip, FileReader
from hear_train.data.datasets import DataConfig, open_dataset
from hear_train.data.hdf5 import PackedRow, as_mp3, read_index, write_packed
from hear_train.data.packing import pack_clips
from tests.hear_train.conftest import RATE


@pytest.fixture
def birds(tmp_path):
    """A folder per class in folders of splits; one file is corrupt."""
    for number in range(8):
        split, label = ("train", "valid")[number // 6], ("owl", "jay")[number % 2]
        path = tmp_path / "birds" / split / label / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = 0.3 * np.sin(2 * np.pi * 200 * (1 + number) * np.arange(RATE // 4) / RATE)
        soundfile.write(path, np.stack([tone, tone], 1), RATE)
    (tmp_path / "birds" / "train" / "owl" / "2.wav").write_bytes(b"damaged")
    return tmp_path / "birds"


def opened(path):
    return open_dataset([path], DataConfig())


def splits(dataset):
    return {name: getattr(dataset, name) for name in ("train", "valid", "test")}


def contents(clips):
    return [
        (clip.name, clip.labels.tolist(), clip.group, clip.read(RATE // 2).tolist())
        for clip in clips
    ]


def test_a_packed_data_set_is_the_same_one(birds, tmp_path):
    dataset, target = opened(birds), tmp_path / "birds.hdf"
    counts = []
    found = pack_clips(
        target, splits(dataset), dataset.labels, report=lambda *count: counts.append(count)
    )
    assert (found.clips, list(found.failed)) == (7, ["train/owl/2.wav"])
    assert "cannot be" in found.failed["train/owl/2.wav"]
    assert counts == [(number, 8) for number in range(1, 9)]
    packed = opened(target)
    assert packed.labels == dataset.labels == ("jay", "owl")
    for before, after in zip(splits(dataset).values(), splits(packed).values(), strict=True):
        good = [clip for clip in before if clip.name != "train/owl/2.wav"]
        assert [clip.name for clip in after] == [clip.name for clip in good]
        assert [c.labels.tolist() for c in after] == [c.labels.tolist() for c in good]
        for one, other in zip(good, after, strict=True):
            samples = one.read(RATE), other.read(RATE)
            assert len(samples[0]) == len(samples[1])
            assert np.corrcoef(*samples)[0, 1] > 0.99
    assert [path.name for path in tmp_path.iterdir() if "pack" in path.name] == []


@pytest.mark.parametrize("end", [1, 3, 8])
def test_an_interrupted_packing_resumes(birds, tmp_path, monkeypatch, end):
    dataset, encoded = opened(birds), []
    reference = tmp_path / "whole.hdf"
    pack_clips(reference, splits(dataset), dataset.labels)

    def encode(clip, sample_rate):
        encoded.append(clip.name)
        return as_mp3(clip.read(sample_rate), sample_rate)

    layout = packing.LAYOUTS["passt"]._replace(encode=encode)
    monkeypatch.setitem(packing.LAYOUTS, "passt", layout)

    def kill(done, total):
        if done == end:
            raise KeyboardInterrupt

    target = tmp_path / "killed.hdf"
    with pytest.raises(KeyboardInterrupt):
        pack_clips(target, splits(dataset), dataset.labels, report=kill)
    assert not target.exists()
    content = tmp_path / ".killed.hdf.packing" / "clips.bin"
    with content.open("ab") as file:  # of a clip that is not in the journal
        file.write(b"half a clip")
    encoded.clear()
    found = pack_clips(target, splits(dataset), dataset.labels)
    assert len(encoded) == 8 - end
    assert (found.clips, list(found.failed)) == (7, ["train/owl/2.wav"])
    for one, other in zip(opened(reference)[1:], opened(target)[1:], strict=True):
        assert contents(one) == contents(other)


def test_a_journal_whose_contents_were_lost(birds, tmp_path):
    dataset, target = opened(birds), tmp_path / "killed.hdf"

    def kill(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_clips(target, splits(dataset), dataset.labels, report=kill)
    content = tmp_path / ".killed.hdf.packing" / "clips.bin"
    content.write_bytes(content.read_bytes()[:-10])
    found = pack_clips(target, splits(dataset), dataset.labels)
    assert found.clips == 7
    assert len(opened(target).train) == 5
    for clip in opened(target).train:
        assert len(clip.read(RATE)) == RATE // 4


def test_what_cannot_be_packed(birds, tmp_path):
    dataset = opened(birds)
    with pytest.raises(ConfigError, match=r"birds\.wav must end in \.hdf, \.hdf5 or \.h5"):
        pack_clips(tmp_path / "birds.wav", splits(dataset), dataset.labels)
    with pytest.raises(ConfigError, match="unknown layout 'pasts'; did you mean 'passt'"):
        pack_clips(tmp_path / "birds.hdf", splits(dataset), dataset.labels, layout="pasts")
    corrupt = Clip("2.wav", FileReader(birds / "train" / "owl" / "2.wav"))
    with pytest.raises(ConfigError, match="none of the 1 clips can be read"):
        pack_clips(tmp_path / "birds.hdf", {"train": [corrupt]}, ("owl",))
    with pytest.raises(ConfigError, match=r"sample_rate is 32000 there and 16000 here"):
        pack_clips(tmp_path / "birds.hdf", {"train": [corrupt]}, ("owl",), sample_rate=16000)


def test_classes_that_were_not_annotated_are_stored_as_in_openmic(tmp_path):
    content = as_mp3(np.zeros(RATE // 10, np.float32), RATE)
    bits = [np.packbits(row) for row in np.eye(3, dtype=bool)]
    rows = [PackedRow("a", content, bits[0], bits[0] | bits[1]), PackedRow("b", content, bits[2])]
    write_packed(tmp_path / "a.hdf", rows, 2, ("x", "y", "z"))
    names, labels, known = read_index(tmp_path / "a.hdf", 3)
    assert names == ["a", "b"]
    assert np.unpackbits(labels, axis=1, count=3).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert np.unpackbits(known, axis=1, count=3).tolist() == [[1, 1, 0], [1, 1, 1]]


def test_long_names_stay_whole(tmp_path):
    name = "ä" * 300 + ".wav"
    write_packed(tmp_path / "a.hdf", [PackedRow(name, b"x")], 1, ("a",))
    assert read_index(tmp_path / "a.hdf", 1)[0] == [name]


def test_a_file_of_other_origin_does_not_name_its_classes(packed):
    with pytest.raises(ConfigError, match="does not name its classes"):
        opened(packed[0])


def test_the_pack_command(birds, tmp_path):
    line = ["train", "pack", tmp_path / "birds.hdf", "--data", birds, "--split", "train"]
    result = CliRunner().invoke(app, [*map(str, line), "--sample-rate", "16000"])
    assert result.exit_code == 0, result.output
    assert "birds.hdf: 5 clips; 1 skipped" in result.output
    assert "train/owl/2.wav was skipped" in result.output
    found = opened(tmp_path / "birds.hdf")
    assert (len(found.train), len(found.valid)) == (5, 0)
