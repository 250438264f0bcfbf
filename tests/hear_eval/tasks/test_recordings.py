from __future__ import annotations

import pytest

from hear_core.errors import ConfigError
from hear_core.events.event import Event
from hear_eval.tasks.description import TaskError
from hear_eval.tasks.recordings import (
    Recording,
    read_recording_folders,
    read_recording_table,
    with_splits,
)


def table(folder, text, name="meta.csv"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_table_with_folds(tmp_path):
    path = table(tmp_path, "filename,fold,category\na.wav,1,dog\nsub/b.ogg,10,fox\nc.wav,x,dog\n")
    assert read_recording_table(path) == [
        Recording(tmp_path / "a.wav", "a.wav", ("dog",), (), "fold01"),
        Recording(tmp_path / "sub/b.ogg", "sub/b.ogg", ("fox",), (), "fold10"),
        Recording(tmp_path / "c.wav", "c.wav", ("dog",), (), "x"),
    ]


def test_several_classes_in_a_cell_or_in_rows(tmp_path):
    path = table(tmp_path, 'fname,labels,split\na,"dog,fox",train\nb,,test\na,cat,train\n')
    found = read_recording_table(path, tmp_path / "audio", separator=",")
    assert [(r.path, r.labels, r.split) for r in found] == [
        (tmp_path / "audio" / "a", ("dog", "fox", "cat"), "train"),
        (tmp_path / "audio" / "b", (), "test"),
    ]


def test_spaces_and_empty_parts_are_not_classes(tmp_path):
    path = table(tmp_path, "filename,category\na,dog; rain\nb,rain;dog;\nc,;\nd, dog\n")
    assert [r.labels for r in read_recording_table(path, separator=";")] == [
        ("dog", "rain"),
        ("rain", "dog"),
        (),
        ("dog",),
    ]


def test_events_with_tabs_and_a_file_without_any(tmp_path):
    text = "filename\tonset\toffset\tevent_label\na\t0.5\t1\tdog\nb\t\t\t\na\t2\t2.25\tfox\n"
    first, second = read_recording_table(table(tmp_path, text, "meta.tsv"))
    assert first.events == (Event("dog", 0.5, 1), Event("fox", 2, 2.25))
    assert (second.name, second.events, second.split) == ("b", (), "")


def test_semicolons_and_empty_rows(tmp_path):
    path = table(tmp_path, "filename;category;fold\na.wav;dog;1\n\nb.wav;fox;2\n;;\n")
    assert [(r.name, r.labels, r.split) for r in read_recording_table(path)] == [
        ("a.wav", ("dog",), "fold01"),
        ("b.wav", ("fox",), "fold02"),
    ]


def test_groups_by_column_and_by_pattern(tmp_path):
    path = table(tmp_path, "filename,category,take\n1-x.wav,dog,p\n1-y.wav,fox,q\n2-x.wav,dog,q\n")
    assert [r.group for r in read_recording_table(path, group="take")] == ["p", "q", "q"]
    assert [r.group for r in read_recording_table(path, group=r"^(\d+)-")] == ["1", "1", "2"]
    assert [r.group for r in read_recording_table(path, group=r"[xy]")] == ["x", "y", "x"]
    with pytest.raises(ConfigError, match=r"does not match '2-x.wav'"):
        read_recording_table(path, group="^1")
    with pytest.raises(ConfigError, match="nor a regular expression"):
        read_recording_table(path, group="(")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename,fold\na,1\n", "a column category or label or labels or event_label"),
        ("filename,category\n", "must have rows"),
        ("filename,category,onset\na,b,1\n", "a column offset"),
        (
            "filename,category,onset,offset\na,b,1,x\n",
            "line 2: the onset or the offset is not a number",
        ),
        ("filename,category,onset,offset\na,b,1,0.5\n", "line 2: .* from 1 to 0.5 s"),
        ("filename,category,onset,offset\na,b,1,inf\n", "line 2: .* from 1 to inf s"),
        ("filename,category,onset,offset\na,b,nan,1\n", "line 2: .* from nan to 1 s"),
        ("filename,category\n,b\n", "line 2: '' is not the name of a file"),
        ("filename,category\na\0c,b\n", "line 2: .* is not the name of a file"),
        ("filename,category,fold\na,b,1\na,c,2\n", "line 3: a has another split"),
    ],
)
def test_invalid_tables_are_refused(tmp_path, text, message):
    with pytest.raises(TaskError, match=message):
        read_recording_table(table(tmp_path, text))


@pytest.mark.parametrize("group", ["", "take"])
def test_a_row_that_is_too_short_is_named(tmp_path, group):
    path = table(tmp_path, "category,take,filename\n\ndog,1,a\ndog\n")
    with pytest.raises(TaskError, match=r"meta\.csv, line 4: 1 cells in 3 columns"):
        read_recording_table(path, group=group)


def test_a_file_that_is_not_a_table_is_named(tmp_path):
    path = tmp_path / "meta.csv"
    path.write_text("filename,category\na,l\xe4rm\n", encoding="latin-1")
    with pytest.raises(TaskError, match=r"meta\.csv is not UTF-8; .* byte 0xe4"):
        read_recording_table(path)
    table(tmp_path, f'filename,category\na,dog\nb,"{200_000 * "x"}\n')
    with pytest.raises(TaskError, match=r"meta\.csv is not a table after line 3: field larger"):
        read_recording_table(path)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_folder_for_every_class(tmp_path):
    source = touch(tmp_path, "dog/1-a.wav", "dog/sub/2-b.flac", "fox/1-a.wav", "fox/notes.txt")
    found = read_recording_folders(source, group=r"\d+")
    assert [(r.name, r.labels, r.split, r.group) for r in found] == [
        ("dog/1-a.wav", ("dog",), "", "1"),
        ("dog/sub/2-b.flac", ("dog",), "", "2"),
        ("fox/1-a.wav", ("fox",), "", "1"),
    ]


def test_a_folder_for_every_split(tmp_path):
    source = touch(tmp_path, "train/dog/a.wav", "valid/dog/b.wav", "test/fox/c.wav")
    assert {r.name: (r.labels, r.split) for r in read_recording_folders(source)} == {
        "train/dog/a.wav": (("dog",), "train"),
        "valid/dog/b.wav": (("dog",), "valid"),
        "test/fox/c.wav": (("fox",), "test"),
    }


def test_folders_without_classes_or_audio_are_refused(tmp_path):
    with pytest.raises(TaskError, match="no audio in"):
        read_recording_folders(tmp_path)
    with pytest.raises(TaskError, match=r"a\.wav is not in a folder of a class"):
        read_recording_folders(touch(tmp_path, "a.wav"))


def test_splits_are_assigned_if_there_are_none(tmp_path):
    recordings = [Recording(tmp_path, f"{i}", ("ab"[i % 2],), group=f"{i // 4}") for i in range(40)]
    shares = {"train": 3.0, "valid": 1.0, "test": 1.0}
    found = with_splits(recordings, shares)
    assert [sum(r.split == split for r in found) for split in shares] == [24, 8, 8]
    assert all(len({r.split for r in found[i : i + 4]}) == 1 for i in range(0, 40, 4))
    assert with_splits(found, {"other": 1.0}) == found
    with pytest.raises(TaskError, match="39 of 40 recordings have no split, such as 1"):
        with_splits([found[0], *recordings[1:]], shares)
