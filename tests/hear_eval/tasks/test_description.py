from __future__ import annotations

import json
import math

import pytest

from hear_eval.tasks.description import (
    Fold,
    TaskError,
    find_tasks,
    read_description,
    read_labels,
    task_folders_below,
)

METADATA = {
    "task_name": "barks",
    "embedding_type": "scene",
    "prediction_type": "multiclass",
    "split_mode": "new_split_kfold",
    "sample_duration": 1.0,
    "splits": ["fold00", "fold01", "fold02", "fold03"],
    "evaluation": ["top1_acc"],
}
EVENTS = {"embedding_type": "event", "prediction_type": "multilabel"}


def write(folder, vocabulary="idx,label\n0,dog\n1,fox\n", labels=None, **metadata):
    kept = {key: value for key, value in (METADATA | metadata).items() if value is not ...}
    (folder / "task_metadata.json").write_text(json.dumps(kept))
    (folder / "labelvocabulary.csv").write_text(vocabulary)
    (folder / "fold00.json").write_text(
        json.dumps({"a.wav": ["dog"]} if labels is None else labels)
    )
    return folder


def test_the_description_of_a_task_is_read(tmp_path):
    found = read_description(write(tmp_path, sample_duration=None))
    assert (found.name, found.embedding_type, found.seconds) == ("barks", "scene", None)
    assert found.vocabulary == ("dog", "fox")
    assert found.evaluation == ("top1_acc",)


def test_every_fold_is_tested_on_once_and_the_next_one_validates(tmp_path):
    found = read_description(write(tmp_path))
    assert found.folds == (
        Fold(("fold02", "fold03"), ("fold01",), ("fold00",)),
        Fold(("fold00", "fold03"), ("fold02",), ("fold01",)),
        Fold(("fold00", "fold01"), ("fold03",), ("fold02",)),
        Fold(("fold01", "fold02"), ("fold00",), ("fold03",)),
    )


def test_the_folds_are_those_of_heareval(tmp_path):
    predictions = pytest.importorskip("heareval.predictions.task_predictions")
    for splits in (["c", "a", "b"], [f"fold{i:02}" for i in range(10)]):
        metadata = METADATA | {"splits": splits}
        wanted = predictions.get_splits_from_metadata(metadata)
        found = read_description(write(tmp_path, splits=splits)).folds
        assert [{key: list(value) for key, value in fold._asdict().items()} for fold in found] == (
            wanted
        )


def test_a_task_with_splits_of_its_own_has_one_fold(tmp_path):
    splits = {"split_mode": "trainvaltest", "splits": ["test", "train", "valid"]}
    assert read_description(write(tmp_path, **splits)).folds == (
        Fold(("train",), ("valid",), ("test",)),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction_type": ...}, "lacks prediction_type"),
        ({"embedding_type": "scenes"}, "'scenes'; known: scene, event"),
        ({"split_mode": "trainvaltest"}, "no split"),
        ({"splits": ["a", "b"]}, "folds a, b; .* need three"),
        ({"splits": []}, "splits .* not a list of different names"),
        ({"evaluation": "top1_acc"}, "evaluation 'top1_acc', which is not a list"),
        ({"vocabulary": "idx,label\n"}, "must have rows"),
        *(
            ({"sample_duration": seconds}, "neither a number of seconds nor null")
            for seconds in (0, -1, math.inf, math.nan, 10**400, True, "1")
        ),
        ({"vocabulary": "label\ndog\n"}, "columns idx and label"),
        ({"vocabulary": "idx,label\n0,dog\n2,fox\n"}, "2 classes from 0, each once"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(tmp_path, change, message):
    with pytest.raises(TaskError, match=message):
        read_description(write(tmp_path, **change))


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(TaskError, match=r"has no task_metadata\.json"):
        read_description(tmp_path)
    (write(tmp_path) / "task_metadata.json").write_text("{")
    with pytest.raises(TaskError, match=r"task_metadata\.json is not valid JSON"):
        read_description(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("idx,label\n0,l\xe4rm\n".encode("latin-1"), "is not UTF-8"),
        (b"idx,label\n0,dog\n1\n", ", line 3: 1 cells in 2 columns"),
        (b'idx,label\n0,"' + 200_000 * b"x", "is not a table after line 2: field larger"),
    ],
)
def test_a_vocabulary_that_is_not_a_table_is_named(tmp_path, content, message):
    (write(tmp_path) / "labelvocabulary.csv").write_bytes(content)
    with pytest.raises(TaskError, match=rf"labelvocabulary\.csv ?{message}"):
        read_description(tmp_path)


NAMES = ["../../../x", "/x", "a/b", "..", ".", ".x", "", "a\0b", "a\\b", 300 * "x", "\ud800"]


@pytest.mark.parametrize("name", NAMES)
def test_a_split_or_clip_whose_name_leads_out_of_the_folder_is_refused(tmp_path, name):
    folder = write(tmp_path, splits=[name, "fold00", "fold01"])
    with pytest.raises(TaskError, match=r"task_metadata\.json has"):
        read_description(folder)
    folder = write(tmp_path, labels={name: ["dog"]})
    with pytest.raises(TaskError, match=r"fold00\.json has"):
        read_labels(folder, "fold00", read_description(folder))


def test_links_to_folders_are_followed_once(tmp_path):
    folder = tmp_path / "elsewhere" / "barks"
    folder.mkdir(parents=True)
    write(folder)
    tasks = tmp_path / "tasks"
    (tasks / ".half.part").mkdir(parents=True)
    write(tasks / ".half.part")
    (tasks / "linked").symlink_to(folder.parent)
    (folder / "circle").symlink_to(tasks)
    assert task_folders_below(tasks) == [tasks / "linked" / "barks"]
    assert find_tasks(tasks / "linked") == [tasks / "linked" / "barks"]


def test_numbers_may_be_classes(tmp_path):
    folder = write(tmp_path, vocabulary="idx,label\n0,8\n1,1\n", labels={"a.wav": [8]})
    assert read_labels(folder, "fold00", read_description(folder)) == {"a.wav": ["8"]}


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        ({}, {}, r"fold00\.json names no file"),
        ({}, {"a.wav": ["cat"]}, r"a\.wav has the class 'cat'"),
        ({}, {"a.wav": []}, r"a\.wav has 0 classes"),
        ({}, {"a.wav": "dog"}, "not a list"),
        (EVENTS, {"a.wav": [{"label": "dog", "start": 5}]}, "lacks a label, a start or an end"),
        (EVENTS, {"a.wav": [{"label": "dog", "start": 5, "end": 2}]}, "from 5 to 2 ms"),
        (EVENTS, {"a.wav": [{"label": "dog", "start": 5, "end": math.inf}]}, "from 5 to inf ms"),
        (EVENTS, {"a.wav": [{"label": "dog", "start": 5, "end": 10**400}]}, "lacks a label"),
        (EVENTS, {"a.wav": [{"label": "cat", "start": 5, "end": 6}]}, "'cat'"),
    ],
)
def test_invalid_labels_are_refused(tmp_path, kind, labels, message):
    folder = write(tmp_path, labels=labels, **kind)
    with pytest.raises(TaskError, match=message):
        read_labels(folder, "fold00", read_description(folder))


def test_a_scene_of_a_multi_label_task_may_have_no_label(tmp_path):
    folder = write(tmp_path, prediction_type="multilabel", labels={"a": [], "b": ["dog", "fox"]})
    found = read_labels(folder, "fold00", read_description(folder))
    assert found == {"a": [], "b": ["dog", "fox"]}
