"""Data sets with labels and splits, on files of their layout without content."""

import json

import numpy as np
import pytest

from hear_core.errors import ConfigError
from hear_train.data.datasets import (
    DataConfig,
    LabelledFile,
    open_dataset,
    read_labelled_table,
    recordings_of,
    split_by_recording,
)
from hear_train.data.hdf5 import PackedRow, write_packed


def names(clips):
    return [clip.name for clip in clips]


def classes(clips, labels):
    """Return the names of the classes of every clip."""
    count = len(labels)
    bits = [np.flatnonzero(np.unpackbits(clip.labels, count=count)) for clip in clips]
    return [tuple(labels[index] for index in row.tolist()) for row in bits]


def touch(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


TABLES = {
    "comma": ("filename,label\na.wav,owl\nb.wav,jay\n", "utf-8"),
    "semicolon": ("file;category\na.wav;owl\nb.wav;jay\n", "utf-8"),
    "tab": ("path\tlabels\na.wav\towl\nb.wav\tjay\n", "utf-8"),
    "byte order mark": ("\ufefffilename,label\r\na.wav,owl\r\nb.wav,jay\r\n", "utf-8"),
    "UTF-16 of Excel": ("filename\tlabel\r\na.wav\towl\r\nb.wav\tjay\r\n", "utf-16"),
    "upper case and blanks": ("Filename , LABEL\na.wav, owl\nb.wav,jay \n", "utf-8"),
    "more columns": ("id,fname,x,class\n1,a.wav,,owl\n2,b.wav,,jay\n", "utf-8"),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("suffix", ["csv", "CSV", "tsv"])
def test_tables_as_people_have_them(tmp_path, name, suffix):
    text, encoding = TABLES[name]
    table = tmp_path / f"table.{suffix}"
    table.write_bytes(text.encode(encoding))
    found = read_labelled_table(table)
    assert [(file.name, file.labels) for file in found] == [
        ("a.wav", ("owl",)),
        ("b.wav", ("jay",)),
    ]
    assert found[0].path == tmp_path / "a.wav"


def test_several_labels_in_a_cell_or_in_several_rows(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("filename,label\na.wav,owl; jay\nb.wav,owl\nb.wav,rain|wind\n")
    found = read_labelled_table(table)
    assert [file.labels for file in found] == [("owl", "jay"), ("owl", "rain", "wind")]


WRONG_TABLES = {
    "filename,name\na.wav,owl": r"t\.csv needs a column of labels, called category, label",
    "label\nowl": r"t\.csv needs a column of files, called filename, file",
    "filename,label": r"t\.csv has no rows",
    "filename,label\n,owl": r"t\.csv, line 2, does not have a filename",
    "filename,label\na.wav,owl,3": r"t\.csv, line 2: 3 cells in 2 columns",
    "filename,label,split\na.wav,x,train\na.wav,y,test": r"line 3: a\.wav is in the split 'train'",
    "filename,label,split\na.wav,x,train\nb.wav,y,tets": "unknown split 'tets'; did you",
    "filename,label,fold\na.wav,x,2\nb.wav,y,3": r"no clip in fold 1; the folds are \[2, 3\]",
}


@pytest.mark.parametrize("text", WRONG_TABLES)
def test_tables_that_are_wrong_say_where(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigError, match=WRONG_TABLES[text]):
        open_dataset([tmp_path / "t.csv"], DataConfig(format="table"))


def test_a_table_with_splits_and_one_with_folds(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("filename,label,split\na,x,Train\nb,y,valid\nc,x,test\nd,y,training\n")
    found = open_dataset([table], DataConfig())
    parts = found.train, found.valid, found.test
    assert [names(part) for part in parts] == [["a", "d"], ["b"], ["c"]]
    assert found.labels == ("x", "y")
    assert found.split("valid") == found.valid
    table.write_text("filename,label,fold\na,x,1\nb,y,2\nc,x,fold3\n")
    found = open_dataset([table], DataConfig(fold=2))
    assert (names(found.train), names(found.test)) == (["a", "c"], ["b"])
    assert found.split("valid") == found.test  # where there is no other


def test_a_folder_per_class_and_folders_of_splits(tmp_path):
    touch(tmp_path / "plain", *(f"{c}/{n}.wav" for c in "xy" for n in range(10)))
    found = open_dataset([tmp_path / "plain"], DataConfig(test_share=0.3))
    assert (len(found.train), len(found.test)) == (14, 6)
    assert sorted(classes(found.test, found.labels)) == [("x",)] * 3 + [("y",)] * 3
    again = open_dataset([tmp_path / "plain"], DataConfig(test_share=0.3))
    assert names(again.test) == names(found.test)
    other = open_dataset([tmp_path / "plain"], DataConfig(test_share=0.3, seed=1))
    assert names(other.test) != names(found.test)
    touch(tmp_path / "split", "train/x/a.wav", "train/y/b.WAV", "val/x/c.flac", "test/y/d.ogg")
    found = open_dataset([tmp_path / "split"], DataConfig())
    parts = found.train, found.valid, found.test
    assert [classes(part, found.labels) for part in parts] == [[("x",), ("y",)], [("x",)], [("y",)]]
    touch(tmp_path / "plain", "loose.wav")
    with pytest.raises(ConfigError, match=r"loose\.wav is not in the folder of a class"):
        open_dataset([tmp_path / "plain"], DataConfig())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="there are no clips in"):
        open_dataset([tmp_path / "empty"], DataConfig())


def file(name, label="x", group=""):
    return LabelledFile(None, name, (label,), "", group)


def test_recordings_by_column_pattern_and_part_number():
    parts = [file(f"x/{bird}_{part}.wav") for bird in ("a", "b", "c", "d", "e") for part in (1, 2)]
    groups = recordings_of(parts)
    assert groups[::2] == groups[1::2] == ["x/a", "x/b", "x/c", "x/d", "x/e"]
    numbered = [file(f"x/clip_{number}.wav") for number in range(6)]
    assert recordings_of(numbered) == [each.name for each in numbered]  # numbers that merely count
    assert recordings_of([file("a.wav", group="g"), file("b.wav")]) == ["g", "b.wav"]
    esc = [file("1-100032-A-0.wav"), file("1-100032-B-0.wav"), file("other.wav")]
    assert recordings_of(esc, r"^\d-\d+") == ["1-100032", "1-100032", "other.wav"]
    assert recordings_of(esc, r"-(\d+)-") == ["100032", "100032", "other.wav"]
    with pytest.raises(ConfigError, match=r"data\.group '\(' is not a regular expression"):
        recordings_of(esc, "(")


@pytest.mark.parametrize("seed", range(5))
def test_clips_of_one_recording_stay_in_one_split(seed):
    rng = np.random.default_rng(seed)
    files = [file(f"{n}.wav", "xyz"[n % 3], f"r{n % 3}{rng.integers(8)}") for n in range(90)]
    groups = recordings_of(files)
    tested = split_by_recording(files, groups, 0.25, seed)
    sides = [
        {g for g, t in zip(groups, tested, strict=True) if t is np.bool_(side)} for side in (0, 1)
    ]
    assert not sides[0] & sides[1]
    for label in "xyz":
        members = {g for f, g in zip(files, groups, strict=True) if f.labels == (label,)}
        assert len(members & sides[1]) == round(0.25 * len(members))


def test_a_class_with_one_recording_is_trained_on_only(caplog):
    files = [file("a.wav", "rare"), *(file(f"{n}.wav", "x") for n in range(5))]
    tested = split_by_recording(files, recordings_of(files), 0.9, 0)
    assert not tested[0]
    assert tested.sum() == 4
    assert "the class rare has a single recording, and is not tested" in caplog.text


def test_a_hear_task(tmp_path):
    root = tmp_path / "task"
    touch(root, "48000/train/a.wav", "48000/valid/b.wav", "48000/test/c.wav", "16000/train/a.wav")
    (root / "task_metadata.json").write_text(json.dumps({"embedding_type": "scene"}))
    (root / "labelvocabulary.csv").write_text("idx,label\n0,y\n1,x\n")
    for split, (name, labels) in {
        "train": ("a.wav", ["x", "y"]),
        "valid": ("b.wav", ["y"]),
        "test": ("c.wav", ["x"]),
    }.items():
        (root / f"{split}.json").write_text(json.dumps({name: labels}))
    found = open_dataset([root], DataConfig(format="hear"))
    assert found.labels == ("y", "x")
    parts = found.train, found.valid, found.test
    assert [classes(part, found.labels) for part in parts] == [[("y", "x")], [("y",)], [("x",)]]
    assert found.train[0].read.path == root / "48000" / "train" / "a.wav"
    (root / "task_metadata.json").write_text(json.dumps({"embedding_type": "event"}))
    with pytest.raises(ConfigError, match="is not a HEAR task of clips"):
        open_dataset([root], DataConfig(format="hear"))


def test_folds_of_a_hear_task(tmp_path):
    (tmp_path / "task_metadata.json").write_text(json.dumps({"embedding_type": "scene"}))
    (tmp_path / "labelvocabulary.csv").write_text("idx,label\n0,x\n")
    for fold in range(3):
        touch(tmp_path, f"48000/fold0{fold}/{fold}.wav")
        (tmp_path / f"fold0{fold}.json").write_text(json.dumps({f"{fold}.wav": ["x"]}))
    found = open_dataset([tmp_path], DataConfig(format="hear", fold=2))
    assert names(found.test) == ["fold02/2.wav"]
    assert len(found.train) == 2


def test_fsd50k_packed_and_in_folders(tmp_path):
    labels = tuple(f"l{number:03}" for number in range(200))
    for number, split in enumerate(("train", "val", "eval")):
        bits = np.packbits(np.arange(200) == number)
        write_packed(tmp_path / f"FSD50K.{split}_mp3.hdf", [PackedRow("a", b"", bits)], 1, labels)
    found = open_dataset([tmp_path], DataConfig(format="fsd50k"))
    assert len(found.labels) == 200
    parts = found.train, found.valid, found.test
    assert [classes(part, range(200)) for part in parts] == [[(0,)], [(1,)], [(2,)]]
    touch(tmp_path, "FSD50K.ground_truth/vocabulary.csv")
    rows = "\n".join(f"{n},{label},/m/{n}" for n, label in enumerate(labels))
    (tmp_path / "FSD50K.ground_truth" / "vocabulary.csv").write_text(rows)
    assert open_dataset([tmp_path], DataConfig(format="fsd50k")).labels == labels


def test_openmic_packed(tmp_path):
    labels = tuple(f"i{number:02}" for number in range(20))
    (tmp_path / "class-map.json").write_text(json.dumps({x: n for n, x in enumerate(labels)}))
    for split in ("train", "test"):
        bits, known = np.packbits(np.arange(20) == 3), np.packbits(np.arange(20) < 5)
        rows = [PackedRow(split, b"", bits, known)]
        write_packed(tmp_path / f"openmic_{split}.csv_mp3.hdf", rows, 1, labels)
    found = open_dataset([tmp_path], DataConfig(format="openmic"))
    assert found.labels == labels
    assert classes(found.test, labels) == [("i03",)]
    assert np.unpackbits(found.test[0].known, count=20).tolist() == [1] * 5 + [0] * 15


def test_audioset_takes_several_files(tmp_path):
    for name in ("balanced_train", "unbalanced_train", "eval"):
        path = tmp_path / f"{name}_segments_mp3.hdf"
        write_packed(path, [PackedRow(name, b"", np.zeros(66, np.uint8))], 1, ("x",) * 527)
    found = open_dataset([tmp_path], DataConfig(format="audioset"))
    assert (names(found.train), names(found.test)) == (
        ["balanced_train", "unbalanced_train"],
        ["eval"],
    )
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match="AudioSet is read as PaSST packs it"):
        open_dataset([tmp_path / "none"], DataConfig(format="audioset"))


def test_paths_that_are_wrong(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        open_dataset([tmp_path / "gone"], DataConfig())
    with pytest.raises(ConfigError, match="the data format esc50 needs one path of data, not 2"):
        open_dataset([tmp_path, tmp_path], DataConfig(format="esc50"))
    with pytest.raises(ConfigError, match=r"does not have meta/esc50\.csv or"):
        open_dataset([tmp_path], DataConfig(format="esc50"))
    with pytest.raises(ConfigError, match=r"does not have meta\.csv"):
        open_dataset([tmp_path], DataConfig(format="dcase20"))


def test_a_label_that_is_not_in_the_vocabulary_names_the_file(tmp_path):
    touch(tmp_path, "48000/train/a.wav")
    (tmp_path / "task_metadata.json").write_text(json.dumps({"embedding_type": "scene"}))
    (tmp_path / "labelvocabulary.csv").write_text("idx,label\n0,owl\n")
    (tmp_path / "train.json").write_text(json.dumps({"a.wav": ["owls"]}))
    with pytest.raises(
        ConfigError, match=r"train/a\.wav: unknown label 'owls'; did you mean 'owl'"
    ):
        open_dataset([tmp_path], DataConfig(format="hear"))
