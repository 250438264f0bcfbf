from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
import torch

from hear_eval.downstream.embedded_task import read_embedded_task, task_of_arrays
from hear_eval.tasks.description import TaskError, read_description
from tests.hear_eval.embedding_folders import KFOLD, LABELS, write_events, write_scenes, write_split


def test_a_folder_is_read_as_heareval_reads_it(tmp_path):
    oracle = pytest.importorskip("heareval.predictions.task_predictions")
    for folder in (write_scenes(tmp_path / "a"), write_events(tmp_path / "b")):
        task = read_embedded_task(folder)
        kind = task.description.embedding_type
        for split, rows in task.rows.items():
            index = {label: i for i, label in enumerate(LABELS)}
            data = oracle.SplitMemmapDataset(
                folder, index, len(LABELS), split, kind, in_memory=True, metadata=True
            )
            torch.testing.assert_close(task.embeddings[rows], data.embeddings)
            torch.testing.assert_close(task.targets[rows], data.y)
            if kind == "event":
                event_rows = task.event_rows[split]
                assert [*zip(event_rows.files, event_rows.timestamps, strict=True)] == [
                    (row["filename"], row["timestamp"]) for row in data.metadata
                ]


def test_arrays_are_a_task_too(tmp_path):
    read = read_embedded_task(write_scenes(tmp_path))
    arrays = {split: read.embeddings[rows].numpy() for split, rows in read.rows.items()}
    labels = {
        split: [[LABELS[row.argmax()]] for row in read.targets[rows]]
        for split, rows in read.rows.items()
    }
    made = task_of_arrays(read.description, arrays, labels)
    assert torch.equal(made.embeddings, read.embeddings)
    assert torch.equal(made.targets, read.targets)
    assert made.rows == read.rows
    assert torch.equal(made.columns([3, 1]).embeddings, read.embeddings[:, [3, 1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("fold01"), "no embeddings, or no labels, of the split fold01"),
        (lambda arrays: arrays.update(fold01=np.zeros((40, 7))), "fold01: .*(40, 7)"),
        (lambda arrays: arrays.update(fold01=np.zeros((0, 12))), "fold01: .*(0, 12)"),
        (lambda arrays: arrays.update(fold01=np.zeros((9, 12))), "fold01 has 40 rows of labels"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, change, message):
    description = read_description(write_scenes(tmp_path))
    arrays = {split: np.zeros((40, 12), np.float32) for split in KFOLD}
    change(arrays)
    with pytest.raises(TaskError, match=message):
        task_of_arrays(description, arrays, {split: [["bird"]] * 40 for split in KFOLD})


def not_finite(folder):
    embeddings = np.zeros((40, 12))
    embeddings[17, 3] = np.nan
    write_split(folder, "fold01", embeddings, [["bird"]] * 40)


def relabel(labels):
    return lambda folder: (folder / "fold01.target-labels.pkl").write_bytes(pickle.dumps(labels))


def resize(*dimensions):
    path = "fold01.embedding-dimensions.json"
    return lambda folder: (folder / path).write_text(json.dumps(dimensions))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "fold01.embeddings.npy").unlink(), r"no fold01\.embeddings\.npy"),
        (lambda f: (f / "fold01.target-labels.pkl").unlink(), r"no fold01\.target-labels\.pkl"),
        (lambda f: (f / "fold01.target-labels.pkl").write_bytes(b"\x80"), "not a pickle of lists"),
        (lambda f: (f / "labelvocabulary.csv").unlink(), r"no labelvocabulary\.csv"),
        (resize(41, 12), r"fold01\.embeddings\.npy has 1920 bytes; 41 rows of 12"),
        (resize(80, 6), "fold01 have 6 dimensions, but those of fold00 12"),
        (resize(0, 12), r"fold01\.embedding-dimensions\.json: the split fold01 is empty"),
        (resize("a"), "must hold the numbers of rows"),
        (not_finite, r"fold01\.embeddings\.npy: the embedding in row 17 is not finite"),
        (relabel([["bird"]] * 39), r"fold01\.target-labels\.pkl has 39 rows"),
        (relabel([["bird"]] * 39 + [["cat"]]), "row 39 has the class 'cat', which is not in"),
        (relabel([["bird"]] * 39 + [[]]), "row 39 has 0 classes"),
        (relabel(["bird"] * 40), "row 0 are 'bird', which are not a list"),
    ],
)
def test_the_error_names_the_problem_of_a_folder(tmp_path, damage, message):
    folder = write_scenes(tmp_path)
    damage(folder)
    with pytest.raises(TaskError, match=message):
        read_embedded_task(folder)


@pytest.mark.parametrize("content", ["[]", "[[1, 2, 3]]", "3", '[["a.wav", 50]]'])
def test_timestamps_must_be_those_of_the_embeddings(tmp_path, content):
    folder = write_events(tmp_path)
    (folder / "valid.filename-timestamps.json").write_text(content)
    with pytest.raises(TaskError, match=r"valid\.filename-timestamps\.json"):
        read_embedded_task(folder)


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_a_pickle_cannot_do_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_scenes(tmp_path / "folder")
    relabel([Harm()] * 40)(folder)
    with pytest.raises(TaskError, match="it names"):
        read_embedded_task(folder)
    assert not (tmp_path / "harm").exists()


def test_numbers_are_finite_even_if_their_sum_is_not(tmp_path):
    folder = write_scenes(tmp_path)
    large = np.full((40, 12), 3e38, np.float32)
    write_split(folder, "fold01", large, [["bird"]] * 40)
    task = read_embedded_task(folder)
    assert (task.embeddings[task.rows["fold01"]].numpy() == large).all()


def test_bfloat16_is_read_as_it_is_rounded(tmp_path):
    folder = write_scenes(tmp_path)
    half = read_embedded_task(folder, torch.bfloat16).embeddings
    assert torch.equal(half, read_embedded_task(folder).embeddings.bfloat16())
