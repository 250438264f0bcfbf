from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile

from hear_eval.tasks.checking import check_task
from hear_eval.tasks.writing import write_audio, write_description

RATE = 800


@pytest.fixture
def task(tmp_path):
    folder, rng, labels = tmp_path / "noise", np.random.default_rng(0), {}
    for fold in ("fold0", "fold1", "fold2"):
        labels[fold] = {}
        for i in range(4):
            name = f"{fold}-{i}.wav"
            labels[fold][name] = ["ab"[i % 2]]
            for rate in (RATE, 2 * RATE):
                noise = rng.uniform(-0.5, 0.5, rate // 2).astype(np.float32)
                write_audio(folder / str(rate) / fold / name, noise, rate)
    describe(folder, labels)
    return folder


def describe(folder, labels, vocabulary="ab", **metadata):
    kinds = {"embedding_type": "scene", "prediction_type": "multiclass"}
    kinds |= {"split_mode": "presplit_kfold", "sample_duration": 0.5, "evaluation": ["top1_acc"]}
    write_description(folder, labels, vocabulary, **kinds | metadata)


def labels_of(task):
    return {split: json.loads((task / f"{split}.json").read_text()) for split in splits(task)}


def splits(task):
    return json.loads((task / "task_metadata.json").read_text())["splits"]


def found(task):
    return {(problem.file, problem.reason) for problem in check_task(task).problems}


def test_a_task_without_problems(task):
    calls = []
    report = check_task(task, lambda *progress: calls.append(progress))
    assert report == ([], 12, ["fold0", "fold1", "fold2"], [RATE, 2 * RATE])
    assert calls == [(i, 24) for i in range(1, 25)]


def test_all_problems_of_audio_are_found_at_once(task):
    folder = task / str(RATE)
    (folder / "fold0" / "fold0-0.wav").unlink()
    cut = folder / "fold0" / "fold0-1.wav"
    cut.write_bytes(cut.read_bytes()[:-8])
    (folder / "fold0" / "fold0-2.wav").write_bytes(b"text")
    soundfile.write(folder / "fold1" / "fold1-0.wav", np.zeros(2 * RATE), 2 * RATE)
    write_audio(folder / "fold1" / "fold1-1.wav", np.zeros(401), RATE)
    soundfile.write(folder / "fold1" / "fold1-2.wav", np.full(400, np.inf), RATE, subtype="FLOAT")
    soundfile.write(folder / "fold1" / "fold1-3.wav", np.zeros((400, 2)), RATE)
    write_audio(folder / "fold2" / "fold2-0.wav", np.zeros(0), RATE)
    write_audio(folder / "fold2" / "extra.wav", np.zeros(400), RATE)
    (folder / "fold9").mkdir()
    wrong = found(task)
    unreadable = {reason for file, reason in wrong if file == "800/fold0/fold0-2.wav"}
    assert len(unreadable) == 1
    assert unreadable.pop().startswith("cannot be read as audio")
    assert {problem for problem in wrong if problem[0] != "800/fold0/fold0-2.wav"} == {
        ("800/fold0/fold0-0.wav", "is missing; fold0.json names it"),
        (
            "800/fold0/fold0-1.wav",
            "is truncated: 8 of 800 bytes of audio are missing",
        ),
        ("800/fold1/fold1-0.wav", "has a sample rate of 1600 Hz, but its folder is for 800 Hz"),
        ("800/fold1/fold1-1.wav", "has 401 samples; the 0.5 s of the task are 400"),
        ("800/fold1/fold1-2.wav", "contains NaN or infinite samples"),
        ("800/fold1/fold1-3.wav", "has 2 channels; the audio of a task is mono"),
        ("800/fold2/fold2-0.wav", "has no samples"),
        ("800/fold2/extra.wav", "is not in fold2.json"),
        ("800/fold9", "is not a split of the task"),
    }


def test_a_truncated_flac_is_found(task):
    path = task / str(RATE) / "fold0" / "fold0-0.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 400)
    soundfile.write(path, noise, RATE, format="FLAC")
    assert found(task) == set()
    path.write_bytes(path.read_bytes()[:-200])
    ((file, _),) = found(task)
    assert file == "800/fold0/fold0-0.wav"


def test_all_problems_of_labels_are_found_at_once(task):
    labels = labels_of(task)
    labels["fold0"] |= {"fold0-0.wav": ["c"], "fold0-1.wav": ["a", "b"]}
    labels["fold1"] = {}
    labels["fold2"] |= {"fold0-0.wav": "a"}
    describe(task, labels)
    reasons = {(file, reason) for file, reason in found(task) if file.endswith("json")}
    assert reasons == {
        ("fold0.json", "fold0-0.wav has the class 'c', which is not in labelvocabulary.csv"),
        ("fold0.json", "fold0-1.wav has 2 classes; in a multi-class task it must have one"),
        ("fold1.json", "names no file: a split without audio cannot be trained or tested on"),
        ("fold2.json", "fold0-0.wav has the labels 'a', which are not a list"),
        ("fold2.json", "fold0-0.wav is in fold0.json as well"),
    }


def test_invalid_events_are_found(task):
    good = {"label": "a", "start": 0, "end": 100}
    labels = {split: {file: [good] for file in files} for split, files in labels_of(task).items()}
    kind = {"embedding_type": "event", "prediction_type": "multilabel"}
    describe(task, labels, "a", **kind)
    assert found(task) == set()
    labels["fold0"]["fold0-0.wav"] = [good, {"label": "a", "start": 9, "end": 1}, {"label": "a"}]
    describe(task, labels, "a", **kind)
    assert found(task) == {
        ("fold0.json", "fold0-0.wav has an event from 9 to 1 ms"),
        (
            "fold0.json",
            "fold0-0.wav has the event {'label': 'a'}, which lacks a label, a start or an end",
        ),
    }


def test_events_past_the_end_of_a_clip_are_found(task):
    inside, ends_late, begins_late = ((0, 590), (0, 700), (500, 501))
    labels = {
        split: {file: [{"label": "a", "start": 0, "end": 9}] for file in files}
        for split, files in labels_of(task).items()
    }
    labels["fold0"]["fold0-0.wav"] = [
        {"label": "a", "start": start, "end": end}
        for start, end in (inside, ends_late, begins_late)
    ]
    describe(task, labels, "a", embedding_type="event", prediction_type="multilabel")
    assert found(task) == {
        (f"{rate}/fold0/fold0-0.wav", f"is 0.5 s long, but fold0.json has an event from {times} s")
        for rate in (RATE, 2 * RATE)
        for times in ("0 to 0.7", "0.5 to 0.501")
    }


def test_names_that_lead_out_of_the_task_are_found_and_nothing_is_read_there(task, tmp_path):
    (tmp_path / "fold9.json").write_text('{"x.wav": ["a"]}')
    labels = labels_of(task)
    labels["fold0"]["../../secret.wav"] = ["a"]
    describe(task, labels)
    assert {file for file, _ in found(task)} >= {"fold0.json"}
    metadata = json.loads((task / "task_metadata.json").read_text())
    metadata["splits"] += ["../fold9"]
    (task / "task_metadata.json").write_text(json.dumps(metadata))
    (reason,) = [reason for file, reason in found(task) if file == "task_metadata.json"]
    assert "the split '../fold9' cannot be used as a file name" in reason


def test_classes_without_training_data_are_found(task):
    labels = labels_of(task)
    labels["fold0"]["fold0-0.wav"] = ["c"]
    labels["fold1"]["fold1-0.wav"] = ["c"]
    describe(task, labels, "abcdefghij")
    assert found(task) == {
        ("labelvocabulary.csv", "has classes that no clip has: d, e, f, g, h and 2 more"),
        ("fold0.json", "has classes without training data in fold2: c"),
        ("fold1.json", "has classes without training data in fold2: c"),
    }


def test_all_problems_of_the_description_are_found_at_once(task):
    metadata = json.loads((task / "task_metadata.json").read_text())
    metadata |= {"embedding_type": "scenes", "evaluation": "top1_acc", "sample_duration": -1}
    del metadata["prediction_type"]
    (task / "task_metadata.json").write_text(json.dumps(metadata))
    (task / "labelvocabulary.csv").write_text("label\n")
    (task / "fold1.json").write_text("[]")
    assert {(file, reason.partition(",")[0]) for file, reason in found(task)} >= {
        ("task_metadata.json", "lacks prediction_type"),
        ("task_metadata.json", "has embedding_type 'scenes'; known: scene"),
        ("task_metadata.json", "has evaluation 'top1_acc'"),
        ("task_metadata.json", "has sample_duration -1"),
        ("labelvocabulary.csv", "must have rows"),
        ("fold1.json", "must hold a JSON object"),
    }


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 10**400, "1", []])
def test_a_length_that_clips_cannot_have_is_found(task, seconds):
    describe(task, labels_of(task), sample_duration=seconds)
    ((file, reason),) = found(task)
    assert file == "task_metadata.json"
    assert "neither a number of seconds nor null" in reason


def test_missing_files_are_found(task, tmp_path):
    shutil.rmtree(task / str(RATE))
    shutil.rmtree(task / str(2 * RATE))
    (task / "fold1.json").unlink()
    assert {file for file, _ in found(task)} == {".", "fold1.json"}
    assert {file for file, _ in found(tmp_path)} == {
        *("task_metadata.json", "labelvocabulary.csv", ".")
    }


def test_lengths_may_be_rounded_either_way_but_consistently(task):
    labels = labels_of(task)
    describe(task, labels, sample_duration=0.5006)  # 400.48 and 800.96 samples
    assert {reason for _, reason in found(task)} == set()
    write_audio(task / str(RATE) / "fold0" / "fold0-0.wav", np.zeros(401), RATE)
    assert found(task) == {
        ("800/fold0/fold0-0.wav", "has 401 samples; the 0.5006 s of the task are 400")
    }
