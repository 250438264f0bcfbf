"""Labelled clips, background and folds; audio files are empty, as nothing reads them."""

import numpy as np
import pytest

from hear_core.errors import ConfigError
from hear_train.classify.sounds import TESTED, TRAINED, few_recordings, find_sounds


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(root, text, *names):
    touch(root, *names)
    (root / "sounds.csv").write_text(text)
    return root / "sounds.csv"


def test_clips_of_a_recording_are_in_one_fold(tmp_path):
    names = [f"{c}/{c}{r}-{part}.wav" for c in "ab" for r in "pqrstuv" for part in (1, 2)]
    sounds = find_sounds(touch(tmp_path, *names))
    assert sounds.labels == ("a", "b")
    assert sounds.recordings[:2] == ["a/ap", "a/ap"]
    by_recording = {}
    for recording, fold in zip(sounds.recordings, sounds.folds.tolist(), strict=True):
        by_recording.setdefault(recording, set()).add(fold)
    assert all(len(folds) == 1 for folds in by_recording.values())
    for label in range(2):
        _, counts = np.unique(sounds.folds[sounds.targets[:, label] > 0], return_counts=True)
        assert len(counts) == 5
        assert counts.max() - counts.min() <= 2  # a recording has two clips


@pytest.mark.parametrize("name", ["background", "Noise", "_negative", "_background_noise_"])
def test_folders_of_background_are_not_classes(tmp_path, name):
    names = [f"{c}/{r}.wav" for c in ("a", "b", name) for r in ("rain", "wind")]
    sounds = find_sounds(touch(tmp_path, *names))
    assert sounds.labels == ("a", "b")
    assert sounds.background.sum() == 2
    assert sounds.targets.sum() == 4


def test_background_of_its_own_is_dealt_to_numbered_folds(tmp_path):
    rows = [f"{c}{n}.wav,{n},{c}" for c in "ab" for n in (1, 2, 3)]
    data = table(tmp_path, "\n".join(["file,fold,label", *rows]), *(r[:6] for r in rows))
    other = touch(tmp_path / "quiet", *(f"{n}.wav" for n in range(6)))
    sounds = find_sounds(data, [other])
    assert sounds.folds[~sounds.background].tolist() == [0, 1, 2, 0, 1, 2]
    assert np.bincount(sounds.folds[sounds.background]).tolist() == [2, 2, 2]
    tested = find_sounds(data, [other], test_fold=3)
    assert tested.folds[~tested.background].tolist() == [0, 1, TESTED, 0, 1, TESTED]
    assert (tested.folds[tested.background] == TESTED).sum() == 2


def test_named_splits(tmp_path):
    names = [f"{s}/{c}/{n}.wav" for s in ("train", "test") for c in "ab" for n in ("x", "y", "z")]
    data = touch(tmp_path / "data", *names)
    sounds = find_sounds(data, [touch(tmp_path / "quiet", *(f"{n}.wav" for n in range(8)))])
    split = np.array([file.split for file in sounds.files])
    for label in range(2):  # validated within the training set, each recording in another fold
        rows = (split == "train") & (sounds.targets[:, label] > 0)
        assert len(set(sounds.folds[rows].tolist()) & set(range(5))) == 3
    assert set(sounds.folds[split == "test"]) == {TESTED}
    assert TESTED in sounds.folds[sounds.background]
    touch(data, "valid/a/v.wav", "valid/b/v.wav")
    found = find_sounds(data)
    place = {file.split: fold for file, fold in zip(found.files, found.folds, strict=True)}
    assert place == {"train": TRAINED, "valid": 0, "test": TESTED}


def test_a_class_with_one_recording_is_trained_on_and_named(tmp_path):
    names = ["a/x.wav", "a/y.wav", "b/x.wav", "b/y.wav", "rare/x.wav"]
    sounds = find_sounds(touch(tmp_path, *names))
    assert sounds.folds[[file.labels == ("rare",) for file in sounds.files]] == [TRAINED]
    assert "rare has a single recording" in sounds.notes[0]
    assert [note.split()[0] for note in few_recordings(sounds)] == ["a", "b"]


ROWS = "filename,label\na.wav,a\nb.wav,b\n"
COLUMNS = "filename,label,split\n"
AB = ("a.wav", "b.wav")
BAD_TABLES = {
    "does not exist": ("", ()),
    "needs a column of labels": ("filename,kind\na.wav,a\n", ("a.wav",)),
    r"sounds.csv, line 3: b.wav does not exist as .*; 1 of the 2 files": (ROWS, ("a.wav",)),
    "line 2: a.wav does not have a label": ("filename,label\na.wav,\nb.wav,b\n", AB),
    "has 1 classes, and a classifier needs two": ("filename,label\na.wav,a\n", ("a.wav",)),
    "no class has two recordings": (ROWS, AB),
    "two are needed besides": ("filename,label,fold\na.wav,a,1\nb.wav,b,1\n", AB),
    "b.wav is not in a fold": ("filename,label,fold\na.wav,a,1\nb.wav,b,\n", AB),
    "unknown split 'trian'": (f"{COLUMNS}a.wav,a,trian\nb.wav,b,test\n", AB),
    "does not have the split train": (f"{COLUMNS}a.wav,a,test\nb.wav,b,test\n", AB),
    "a.wav is in the split": ("filename,label,fold\na.wav,a,1\na.wav,b,2\n", ("a.wav",)),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD_TABLES)
def test_bad_tables(tmp_path, message):
    text, names = BAD_TABLES[message]
    data = table(tmp_path, text, *names) if text else tmp_path / "missing"
    with pytest.raises(ConfigError, match=message):
        find_sounds(data)


def test_other_mistakes_stop_before_any_work(tmp_path):
    rows = "filename,label,fold\n" + "".join(
        f"{c}{f}.wav,{c},{f}\n" for c in "ab" for f in (1, 2, 3)
    )
    data = table(tmp_path, rows, *(f"{c}{f}.wav" for c in "ab" for f in (1, 2, 3)))
    with pytest.raises(ConfigError, match=r"no clip in fold 7 of .*the folds are \[1, 2, 3\]"):
        find_sounds(data, test_fold=7)
    with pytest.raises(ConfigError, match=r"a1.wav is given twice"):
        find_sounds(data, [tmp_path / "a1.wav"])
    with pytest.raises(ConfigError, match="there are no audio files in"):
        find_sounds(data, [touch(tmp_path / "empty", "readme.txt")])
    same = [touch(tmp_path / name, "hum.wav") for name in ("p", "q")]
    with pytest.raises(ConfigError, match=r"two clips would be called background/hum.wav"):
        find_sounds(data, same)
    with pytest.raises(ConfigError, match="is not a regular expression"):
        find_sounds(data, group="(")
    with pytest.raises(ConfigError, match="does not have numbered folds"):
        find_sounds(touch(tmp_path / "f", "a/x.wav", "b/x.wav"), test_fold=1)
