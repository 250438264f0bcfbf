"""Clips of folders, tables and HDF5 files, and what happens to corrupt ones."""

import shutil

import h5py
import numpy as np
import pytest
import soundfile

from hear_core.errors import AudioError, ConfigError
from hear_core.zoo.labels import audioset_labels
from hear_train.data.clips import Clips, find_clips
from tests.hear_train.conftest import RATE

LABELS = audioset_labels()


def names(clips):
    return [clip.name for clip in clips]


def test_a_folder_without_what_is_kept_out(sounds, tmp_path):
    (tmp_path / "notes.txt").write_text("no audio")
    found = find_clips([sounds, tmp_path, sounds / "0-0.wav"], ["2-*"], LABELS)
    assert names(found) == ["0-0.wav", "0-3.wav", "1-1.wav", "1-4.wav", "0-0.wav"]
    assert all(clip.labels is None for clip in found)


def test_a_table_with_labels(sounds):
    table = sounds / "table.csv"
    rows = ["filename,labels", "0-0.wav,Speech; Male speech, man speaking", "1-1.wav,"]
    table.write_text("\n".join(f'{row.split(",", 1)[0]},"{row.split(",", 1)[1]}"' for row in rows))
    table.write_text(table.read_text().replace('"labels"', "labels"))
    first, second = find_clips([table], [], LABELS)
    table.unlink()
    there = {LABELS[i] for i in np.flatnonzero(np.unpackbits(first.labels))}
    assert there == {"Speech", "Male speech, man speaking"}
    assert second.labels is None
    expected = soundfile.read(sounds / "0-0.wav", dtype="float32")[0]
    np.testing.assert_array_equal(first.read(RATE), expected)


def test_the_layout_of_passt(packed, sounds):
    path, targets = packed
    found = find_clips([path], [], LABELS)
    labels = [np.unpackbits(clip.labels, count=527) for clip in found]
    np.testing.assert_array_equal(labels, targets)
    clips = Clips(found, RATE)
    original = soundfile.read(sorted(sounds.glob("*.wav"))[1])[0]
    decoded = clips.read(1)
    assert len(decoded) == len(original)
    # An mp3 of noise is not the same, but its slow course is.
    assert np.corrcoef(decoded**2, original**2)[0, 1] > 0.5
    with pytest.raises(AudioError, match=r"Yabcdefghij3.mp3 in .* cannot be read"):
        clips.read(3)


def test_corrupt_clips_are_dropped_and_named(packed):
    clips = Clips(find_clips([packed[0]], [], LABELS), RATE)
    before = clips.read(4)
    dropped = clips.keep()
    assert list(dropped) == ["Yabcdefghij3.mp3"]
    assert len(clips) == 5
    assert clips[3].name == "Yabcdefghij4.mp3"
    np.testing.assert_allclose(clips.read(3), before.clip(-1, 1), atol=1 / 32767)


def test_names_have_folders_and_patterns_need_not(sounds, tmp_path):
    for folder in ("yes", "no"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.wav").write_bytes((sounds / "0-0.wav").read_bytes())
    assert names(find_clips([tmp_path], [], LABELS)) == ["no/1.wav", "yes/1.wav"]
    assert names(find_clips([tmp_path], ["yes/*"], LABELS)) == ["no/1.wav"]
    with pytest.raises(ConfigError, match=r"all 2 clips, such as no/1\.wav, match keep_out"):
        find_clips([tmp_path], ["1.*"], LABELS)


@pytest.mark.parametrize("samples", [np.array([0.1, np.nan, 0.2]), np.zeros(1), np.array([np.inf])])
def test_unusable_clips_are_dropped(sounds, tmp_path, samples):
    soundfile.write(tmp_path / "bad.wav", samples, RATE, subtype="FLOAT")
    (tmp_path / "good.wav").write_bytes((sounds / "0-0.wav").read_bytes())
    clips = Clips(find_clips([tmp_path], [], LABELS), RATE)
    with pytest.raises(AudioError, match=r"bad\.wav (has 1 samples|contains NaN)"):
        clips.read(0)
    assert list(clips.keep()) == ["bad.wav"]
    assert len(clips) == 1


@pytest.mark.parametrize("targets", [np.zeros((6, 25), np.uint8), np.zeros((6, 527), bool)])
def test_bits_of_other_classes_are_refused(packed, tmp_path, targets):
    path = tmp_path / "fsd50k.hdf"
    shutil.copy(packed[0], path)
    with h5py.File(path, "a") as file:
        del file["target"]
        file["target"] = targets
    with pytest.raises(ConfigError, match=r"fsd50k\.hdf: target is .* 527 classes have uint8"):
        find_clips([path], [], LABELS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"filename,labels\na.wav,Speach", r"table\.csv, line 2: unknown label 'Speach'"),
        (
            b"filename,labels\na.wav,Speech\n,Speech",
            r"table\.csv, line 3, does not have a filename",
        ),
        ("filename,labels\nä.wav,".encode("latin-1"), r"table\.csv is not UTF-8"),
    ],
)
def test_tables_that_are_wrong_say_where(tmp_path, content, message):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        find_clips([tmp_path / "table.csv"], [], LABELS)


def test_a_table_as_excel_writes_it(tmp_path):
    content = "\ufefffilename,labels\r\na.wav,Speech; \r\n"
    (tmp_path / "table.csv").write_text(content, encoding="utf-8")
    (clip,) = find_clips([tmp_path / "table.csv"], [], LABELS)
    assert np.flatnonzero(np.unpackbits(clip.labels)).tolist() == [LABELS.index("Speech")]


def test_inputs_without_clips(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        find_clips([tmp_path / "gone"], [], LABELS)
    (tmp_path / "a.csv").write_text("name\nx")
    with pytest.raises(ConfigError, match="the column filename"):
        find_clips([tmp_path / "a.csv"], [], LABELS)
    (tmp_path / "a.h5").write_text("no HDF5")
    with pytest.raises(ConfigError, match="layout of PaSST"):
        find_clips([tmp_path / "a.h5"], [], LABELS)
    with pytest.raises(ConfigError, match="no clips to train on"):
        Clips(find_clips([tmp_path], [], LABELS), RATE)
    (tmp_path / "a.wav").write_text("no audio")
    with pytest.raises(ConfigError, match="none of the 1 clips can be read"):
        Clips(find_clips([tmp_path], [], LABELS), RATE).keep()


def test_the_cache_follows_the_content_of_a_file(sounds, tmp_path):
    """Clips are cached by path, size and time of change, not by a name that others may have."""
    for folder, source in (("one", "0-0.wav"), ("two", "1-1.wav")):
        (tmp_path / folder).mkdir()
        shutil.copy(sounds / source, tmp_path / folder / "a.wav")

    def read(folder, sample_rate=RATE):
        found = Clips(find_clips([tmp_path / folder], [], LABELS), sample_rate, tmp_path / "cache")
        return found.read(0)

    first, second = read("one"), read("two")
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(
        first, soundfile.read(sounds / "0-0.wav")[0].clip(-1, 1), atol=1 / 32767
    )
    assert len(read("one", RATE // 2)) == len(first) // 2
    cached = list((tmp_path / "cache").rglob("*.npy"))
    assert len(cached) == 3
    for file in cached:  # what is cached is not read again
        file.write_bytes(file.read_bytes()[:-2] + b"\x00\x40")
    assert read("one")[-1] == pytest.approx(0x4000 / 32767)
    (tmp_path / "one" / "a.wav").write_bytes((sounds / "2-2.wav").read_bytes())
    np.testing.assert_allclose(
        read("one"), soundfile.read(sounds / "2-2.wav")[0].clip(-1, 1), atol=1 / 32767
    )
    for file in (tmp_path / "cache").rglob("*.npy"):
        file.write_bytes(b"truncated")
    np.testing.assert_array_equal(read("two"), second)


def test_packed_clips_are_cached_by_row(packed, tmp_path):
    plain = Clips(find_clips([packed[0]], ["*3.mp3"], LABELS), RATE)
    cached = Clips(find_clips([packed[0]], ["*3.mp3"], LABELS), RATE, tmp_path)
    for index in range(len(plain)):
        for _ in range(2):
            expected = plain.read(index).clip(-1, 1)
            np.testing.assert_allclose(cached.read(index), expected, atol=1 / 32767)
    assert len(list(tmp_path.rglob("*.npy"))) == 5
