"""Embedding HEAR tasks, against heareval's own functions."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import AudioError, ConfigError
from hear_eval.embeddings import tasks as running
from hear_eval.embeddings.batches import EmbeddingError
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.split_files import labels_at
from hear_eval.embeddings.tasks import folder_name, run_task
from hear_eval.tasks.description import TaskError, find_tasks
from hear_eval.tasks.writing import write_audio, write_description

RATE, SPLITS = 800, ("train", "valid", "test")
PARAMETERS = {"sample_rate": RATE, "scene_embedding_size": 4, "timestamp_embedding_size": 3}


class Stub(torch.nn.Module):
    """A model whose embeddings can be computed by hand, and depend on the batch."""

    def __init__(self):
        super().__init__()
        for name, value in PARAMETERS.items():
            setattr(self, name, value)


def scene(audio, model):
    return torch.stack([audio.mean(1), audio.std(1), audio[:, 0], 0 * audio[:, 0] + len(audio)], 1)


def timestamps(audio, model):
    frames = audio[:, : audio.shape[1] // 40 * 40].reshape(len(audio), -1, 40)
    times = 50.0 * torch.arange(frames.shape[1]).expand(len(audio), -1)
    return torch.stack([frames.mean(2), frames.std(2), frames[..., 0]], 2), times


@pytest.fixture
def stub(monkeypatch):
    """A module of the API of HEAR."""
    functions = {"get_scene_embeddings": scene, "get_timestamp_embeddings": timestamps}
    module = SimpleNamespace(load_model=lambda file="", **options: Stub(), **functions)
    module.__name__ = "stub"
    monkeypatch.setitem(sys.modules, "stub", module)
    return module


def write_task(folder, kind="scene", clips=7, lengths=(0.5,), splits=SPLITS):
    """A task of noise, with two classes or with events that overlap."""
    rng, labels = np.random.default_rng(0), {}
    for split in splits:
        labels[split] = {}
        for i in range(clips):
            seconds = lengths[i % len(lengths)]
            name = f"{split}-{i}.wav"
            noise = rng.uniform(-0.5, 0.5, int(seconds * RATE)).astype(np.float32)
            write_audio(folder / str(RATE) / split / name, noise, RATE)
            events = [
                {"label": "ab"[k % 2], "start": 50.0 * k, "end": 50.0 * (k + 2 * i)}
                for k in range(i)
            ]
            labels[split][name] = ["ab"[i % 2]] if kind == "scene" else events
    write_description(
        folder,
        labels,
        ["a", "b"],
        embedding_type=kind,
        prediction_type="multiclass" if kind == "scene" else "multilabel",
        split_mode="trainvaltest" if splits == SPLITS else "new_split_kfold",
        sample_duration=lengths[0] if len(lengths) == 1 else None,
        evaluation=["top1_acc"],
    )
    return folder


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "tasks" / "noise")


def run(task, out, **options):
    return list(run_task(Plugin("stub"), task, out, **options))


def contents(folder):
    """All files except locks and the file with the time taken."""
    left_out = {"profile.embeddings.json"}
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in left_out and path.suffix != ".lock"
    }


@pytest.mark.parametrize("kind", ["scene", "event"])
@pytest.mark.parametrize("lengths", [(0.5,), (0.5, 0.7, 0.7)])
def test_the_files_are_those_of_heareval(stub, tmp_path, monkeypatch, kind, lengths):
    theirs = pytest.importorskip("heareval.embeddings.task_embeddings")
    task = write_task(tmp_path / "noise", kind, lengths=lengths)
    monkeypatch.setattr(theirs, "import_module", lambda name: stub)
    theirs.task_embeddings(theirs.Embedding("stub"), task, tmp_path / "theirs")
    # So many samples are what heareval takes; of clips that differ in length it takes one.
    one = {"batch_samples": 1} if len(lengths) > 1 else {}
    run(task, tmp_path / "ours", **one)
    wanted = {path.name for path in (tmp_path / "theirs").iterdir() if path.is_file()}
    ours = {path.name for path in (tmp_path / "ours").iterdir() if not path.name.startswith(".")}
    assert ours == wanted | {"embedding.json", "profile.embeddings.json"}
    for name in wanted:
        found, expected = (tmp_path / which / name for which in ("ours", "theirs"))
        if name.endswith("labels.pkl"):
            labels = [
                [sorted(set(row)) for row in pickle.loads(path.read_bytes())]
                for path in (found, expected)
            ]
            assert labels[0] == labels[1]
        elif name.endswith("timestamps.json"):
            places = [
                [(Path(place).name, time) for place, time in json.loads(path.read_text())]
                for path in (found, expected)
            ]
            assert places[0] == places[1]
        else:
            assert found.read_bytes() == expected.read_bytes(), name


def test_the_rows_are_those_of_the_clips(stub, tmp_path):
    """Without heareval: its order is a shuffle of every split, one after the other."""
    task = write_task(tmp_path / "noise", "event")
    run(task, tmp_path / "out")
    shuffler = random.Random(0)
    for split in SPLITS:
        labels = json.loads((task / f"{split}.json").read_text())
        clips = list(labels)
        shuffler.shuffle(clips)
        rows, size = json.loads(
            (tmp_path / "out" / f"{split}.embedding-dimensions.json").read_text()
        )
        found = np.fromfile(tmp_path / "out" / f"{split}.embeddings.npy", np.float32)
        places = json.loads((tmp_path / "out" / f"{split}.filename-timestamps.json").read_text())
        assert (rows, size) == (70, 3)
        assert [Path(place).name for place, _ in places] == [c for c in clips for _ in range(10)]
        audio = np.stack([soundfile.read(task / "800" / split / clip)[0] for clip in clips])
        frames = audio.reshape(70, 40)
        np.testing.assert_allclose(found.reshape(rows, size)[:, 0], frames.mean(1), atol=1e-6)


def test_numbers_stay_numbers_as_in_heareval(stub, task, tmp_path):
    for split in SPLITS:
        labels = json.loads((task / f"{split}.json").read_text())
        (task / f"{split}.json").write_text(json.dumps({file: [7] for file in labels}))
    (task / "labelvocabulary.csv").write_text("idx,label\n0,7\n")
    run(task, tmp_path / "out")
    assert pickle.loads((tmp_path / "out" / "train.target-labels.pkl").read_bytes()) == [[7]] * 7


def test_labels_cover_the_end_of_an_event():
    events = [
        {"label": "a", "start": 0, "end": 50},
        {"label": "b", "start": 50, "end": 50},
        {"label": "a", "start": 20, "end": 60},
    ]
    assert labels_at(events, [0, 50, 50.001, 61]) == [["a"], ["a", "b"], ["a"], []]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 90), st.integers(0, 30)), max_size=8)
)
def test_labels_are_those_of_heareval(drawn):
    theirs = pytest.importorskip("heareval.embeddings.task_embeddings")
    events = [
        {"label": label, "start": float(start), "end": float(start + length)}
        for label, start, length in drawn
    ]
    times = np.arange(0, 130, 2.5)
    (wanted,) = theirs.get_labels_for_timestamps([events], times[None])
    assert [set(row) for row in labels_at(events, times)] == [set(row) for row in wanted]


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", exclude_characters="&"), max_size=8),
        st.text(st.characters(codec="ascii", exclude_characters="&"), max_size=12)
        | st.floats(allow_nan=False)
        | st.booleans()
        | st.lists(st.sampled_from(["e1", "all_b"])),
        max_size=3,
    )
)
def test_a_folder_is_called_as_heareval_calls_it(options):
    slugify = pytest.importorskip("slugify").slugify
    parts = "-".join(f"{slugify(key)}={slugify(str(value))}" for key, value in options.items())
    assert folder_name("a.module", options) == "a.module" + (f"-{parts}" if parts else "")


class Killed(BaseException):
    """A run is interrupted."""


@pytest.mark.parametrize("kind", ["scene", "event"])
@pytest.mark.parametrize("after", [0, 1, 2, 4, 8])
def test_an_interrupted_run_ends_with_the_same_bytes(stub, tmp_path, monkeypatch, kind, after):
    """Kill a run before any batch; embeddings depend on batches, which must be the same."""
    task = write_task(tmp_path / "noise", kind)
    options = {"batch_samples": 3 * RATE // 2}  # three clips
    steps = run(task, tmp_path / "whole" / "noise", **options)
    assert [step.clips for step in steps] == [0, *[3, 3, 1] * 3]
    assert [step.left for step in steps] == [21, 18, 15, 14, 11, 8, 7, 4, 1, 0]
    out, real, calls = tmp_path / "whole" / "again", Plugin.embed, []

    def until(self, audio, **arguments):
        calls.append(len(audio))
        if len(calls) > after:
            raise Killed
        return real(self, audio, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Plugin, "embed", until)
        with pytest.raises(Killed):
            run(task, out, **options)
    assert not (out / ".done.embeddings").exists()
    assert len(list(out.glob("*.embeddings.npy"))) == after // 3
    # Rows whose line of the journal was never written, and an incomplete line.
    with (out / f".{SPLITS[after // 3]}.embeddings.npy.part").open("ab") as part:
        part.write(b"rows of nobody")
    with (out / f".{SPLITS[after // 3]}.journal").open("a") as journal:
        journal.write('[["train')
    left = run(task, out, **options)[0].left
    assert left == 21 - sum(calls[:after])
    assert contents(out).keys() == contents(tmp_path / "whole" / "noise").keys()
    for name, found in contents(out).items():
        if not name.endswith("timestamps.json"):  # which holds the name of the folder
            assert found == contents(tmp_path / "whole" / "noise")[name], name


def test_a_complete_folder_is_left_unchanged(stub, task, tmp_path):
    run(task, tmp_path / "out")
    shutil.rmtree(task / str(RATE))
    before = contents(tmp_path / "out")
    assert run(task, tmp_path / "out") == []
    assert contents(tmp_path / "out") == before


def test_nothing_remains_of_a_run_killed_at_its_very_end(stub, task, tmp_path):
    run(task, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out" / ".done.embeddings").unlink()
    (tmp_path / "out" / ".test.journal").write_text("[]")
    assert [step.left for step in run(task, tmp_path / "out")] == [0]
    assert contents(tmp_path / "out") == before


def test_a_complete_folder_of_heareval_is_accepted(stub, task, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for split in SPLITS:
        (out / f"{split}.embeddings.npy").write_bytes(b"half of it")
    run(task, out)
    for split in SPLITS:
        assert (out / f"{split}.embeddings.npy").stat().st_size == 7 * 4 * 4
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / ".done.embeddings").touch()
    assert run(task, theirs) == []


def test_other_settings_are_not_mixed_in(stub, task, tmp_path):
    run(task, tmp_path / "out")
    labels = json.loads((task / "test.json").read_text())
    (task / "test.json").write_text(json.dumps(dict(reversed(labels.items()))))
    with pytest.raises(ConfigError, match=r"made with other settings.* task is"):
        run(task, tmp_path / "out")


def test_another_process_is_kept_out(stub, task, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".embeddings.lock"), pytest.raises(ConfigError, match="another process"):
        run(task, out)
    assert run(task, out)


def broken_embeddings(change):
    def get(audio, model):
        return change(scene(audio, model))

    return get


def with_nan(found):
    found[-1, 2] = torch.nan
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_nan, r"embedding of train/train-\d\.wav contains NaN"),
        (lambda found: found[:, None], r"train-\d\.wav and 6 more have the shape \(7, 1, 4\)"),
        (lambda found: found[:-1], r"have the shape \(6, 4\); for 7 clips"),
        (lambda found: found[:, :3], r"have 3 values instead of 4"),
        (lambda found: found @ found, r"stub fails on train/train-\d\.wav and 6 more: Runtime"),
    ],
)
def test_an_invalid_embedding_is_named(stub, task, tmp_path, change, message):
    stub.get_scene_embeddings = broken_embeddings(change)
    with pytest.raises(EmbeddingError, match=message):
        run(task, tmp_path / "out")
    assert not list((tmp_path / "out").glob("[!.]*.npy"))
    stub.get_scene_embeddings = scene
    assert run(task, tmp_path / "out")[0].left == 21


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def at_another_rate(path):
    soundfile.write(path, np.zeros(400), 2 * RATE)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"train-2\.wav is truncated: 100 of 800 bytes of audio are missing"),
        (at_another_rate, r"train-2\.wav has a sample rate of 1600 Hz, but its folder"),
        (lambda path: path.write_bytes(b"text"), r"train-2\.wav cannot be read as audio"),
        (
            lambda path: soundfile.write(path, np.full(9, np.nan), RATE, subtype="FLOAT"),
            r"train-2\.wav contains NaN",
        ),
    ],
)
def test_damaged_audio_is_named_and_can_be_replaced(stub, task, tmp_path, damage, message):
    path = task / str(RATE) / "train" / "train-2.wav"
    whole = path.read_bytes()
    damage(path)
    with pytest.raises(AudioError, match=message):
        run(task, tmp_path / "out")
    path.write_bytes(whole)
    run(task, tmp_path / "out")
    assert (tmp_path / "out" / ".done.embeddings").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda task: (task / "test.json").unlink(), r"has no test\.json"),
        (lambda task: (task / "test.json").write_text("{}"), r"test\.json names no file"),
        (lambda task: (task / "test.json").write_text('{"a": ["c"]}'), r"a has the class 'c'"),
        (lambda task: shutil.rmtree(task / "800"), r"no audio at 800 Hz, only at none"),
        (
            lambda task: (task / "800").rename(task / "900"),
            r"only at 900; .*: hear tasks resample",
        ),
        (lambda task: shutil.rmtree(task / "800" / "test"), r"lacks test-0\.wav and 6 more of 7"),
    ],
)
def test_a_damaged_task_leaves_nothing_behind(stub, task, tmp_path, damage, message):
    damage(task)
    with pytest.raises(TaskError, match=message):
        run(task, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_batch_too_large_for_a_gpu_is_halved(stub, task, tmp_path, monkeypatch):
    monkeypatch.setitem(PARAMETERS, "scene_embedding_size", 3)

    def any_batch(audio, model):
        return scene(audio, model)[:, :3]

    def small(audio, model):
        if len(audio) > 2:
            raise torch.cuda.OutOfMemoryError
        return any_batch(audio, model)

    for name, function in (("large", any_batch), ("small", small)):
        stub.get_scene_embeddings = function
        run(task, tmp_path / name)
    assert contents(tmp_path / "small") == contents(tmp_path / "large")


def test_models_of_tensorflow_are_run(stub, task, tmp_path):
    tensorflow = pytest.importorskip("tensorflow")

    class Model(tensorflow.Module):
        sample_rate, scene_embedding_size = RATE, 2

    def mean_and_largest(audio, model):
        return tensorflow.stack(
            [tensorflow.reduce_mean(audio, 1), tensorflow.reduce_max(audio, 1)], 1
        )

    stub.load_model, stub.get_scene_embeddings = lambda: Model(), mean_and_largest
    run(task, tmp_path / "out")
    clips = list(json.loads((task / "train.json").read_text()))
    random.Random(0).shuffle(clips)
    audio = np.stack([soundfile.read(task / "800" / "train" / clip)[0] for clip in clips])
    found = np.fromfile(tmp_path / "out" / "train.embeddings.npy", np.float32).reshape(7, 2)
    np.testing.assert_allclose(found, np.stack([audio.mean(1), audio.max(1)], 1), atol=1e-6)


def test_clips_of_different_lengths_do_not_share_a_batch(stub, tmp_path):
    task = write_task(tmp_path / "noise", lengths=(0.5, 0.5, 0.7))
    sizes = []

    def watched(audio, model):
        sizes.append(tuple(audio.shape))
        return scene(audio, model)

    stub.get_scene_embeddings = watched
    run(task, tmp_path / "out")
    assert sum(clips for clips, _ in sizes) == 21
    assert {samples for _, samples in sizes} == {400, 560}
    assert max(clips for clips, _ in sizes) > 1


def test_few_clips_are_read_ahead(stub, task, tmp_path, monkeypatch):
    read, embedded, most = [], [], []
    real = running.read_clip
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(running, "read_clip", lambda *given: (read.append(1), real(*given))[1])

    def watched(audio, model):
        embedded.extend(audio)
        most.append(len(read) - len(embedded))
        return scene(audio, model)

    stub.get_scene_embeddings = watched
    run(task, tmp_path / "out", batch_samples=1)
    assert len(read) == 21
    assert max(most) <= 4


def test_tasks_are_found_by_name(tmp_path):
    for name in ("b", "a", ".half"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "task_metadata.json").touch()
    assert find_tasks(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert find_tasks(tmp_path, ["b", "b"]) == [tmp_path / "b"]
    with pytest.raises(ConfigError, match="unknown task 'c'"):
        find_tasks(tmp_path, ["c"])
    with pytest.raises(ConfigError, match=re.escape(f"no HEAR task in {tmp_path / 'a'}")):
        find_tasks(tmp_path / "a")
