from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import soundfile

from hear_core.errors import AudioError, ConfigError
from hear_core.events.event import Event
from hear_core.metrics.registry import METRICS
from hear_eval.tasks.description import TaskError, read_description, read_labels
from hear_eval.tasks.making import make_task
from hear_eval.tasks.recordings import Recording


@pytest.fixture
def recordings(tmp_path):
    """Six short tones at 8 kHz, two classes in three folds, longer in every fold."""
    found = []
    for fold in range(3):
        for label, hertz in [("low", 200), ("high", 2000)]:
            path = tmp_path / "audio" / f"{label}{fold}.flac"
            path.parent.mkdir(exist_ok=True)
            t = np.arange(4000 + 1000 * fold) / 8000
            soundfile.write(path, 0.5 * np.sin(2 * np.pi * hertz * t), 8000)
            found.append(Recording(path, path.name, (label,), split=f"fold{fold:02d}"))
    return found


def frames(task, rate):
    paths = sorted((task / str(rate)).glob("*/*"))
    infos = [soundfile.info(path) for path in paths]
    assert all((info.samplerate, info.channels) == (rate, 1) for info in infos)
    return [info.frames for info in infos]


def test_a_multi_class_task_is_what_heareval_reads(recordings, tmp_path):
    task = make_task(tmp_path, "tones", recordings, "multiclass", seconds=0.6, sample_rates=[16000])
    metadata = json.loads((task / "task_metadata.json").read_text())
    assert metadata["splits"] == ["fold00", "fold01", "fold02"]
    assert metadata["split_mode"] == "presplit_kfold"
    assert metadata["sample_duration"] == 0.6
    assert (metadata["embedding_type"], metadata["evaluation"]) == ("scene", ["top1_acc"])
    labels = {"low1.wav": ["low"], "high1.wav": ["high"]}
    assert json.loads((task / "fold01.json").read_text()) == labels
    with (task / "labelvocabulary.csv").open() as file:
        assert [tuple(row.values()) for row in csv.DictReader(file)] == [
            ("0", "high"),
            ("1", "low"),
        ]
    assert frames(task, 16000) == [9600] * 6
    short, _ = soundfile.read(task / "16000" / "fold00" / "low0.wav")
    assert short[:8000].any()
    assert not short[8100:].any()


def test_clips_may_keep_their_lengths_and_have_several_rates(recordings, tmp_path):
    task = make_task(tmp_path, "tones", recordings, "multiclass", sample_rates=[8000, 4000])
    assert read_description(task).seconds is None
    assert frames(task, 8000) == [4000, 4000, 5000, 5000, 6000, 6000]
    assert frames(task, 4000) == [2000, 2000, 2500, 2500, 3000, 3000]
    alike = [
        recordings[0]._replace(path=r.path, name=f"{i}", split=r.split, labels=r.labels)
        for i, r in enumerate([*recordings[:2]] * 3)
    ]
    alike = [r._replace(split=f"fold{i // 2}") for i, r in enumerate(alike)]
    task = make_task(tmp_path, "alike", alike, "multiclass", sample_rates=[8000, 4000])
    assert read_description(task).seconds == 0.5


def test_a_multi_label_task_with_splits_of_its_own(recordings, tmp_path):
    splits = dict(zip(("fold00", "fold01", "fold02"), ("test", "train", "valid"), strict=True))
    drawn = [(), ("a",), ("b", "a"), ("b",), ("a",), ("c", "c")]
    changed = [
        r._replace(split=splits[r.split], labels=labels)
        for r, labels in zip(recordings, drawn, strict=True)
    ]
    task = make_task(tmp_path, "many", changed, "multilabel", metrics=["d_prime", "mAP"])
    found = read_description(task)
    assert (found.splits, len(found.folds)) == (("train", "valid", "test"), 1)
    assert (found.vocabulary, found.evaluation) == (("a", "b", "c"), ("d_prime", "mAP"))
    assert read_labels(task, "train", found) == {"low1.wav": ["a", "b"], "high1.wav": ["b"]}
    assert read_labels(task, "valid", found) == {"low2.wav": ["a"], "high2.wav": ["c"]}
    assert read_labels(task, "test", found) == {"low0.wav": [], "high0.wav": ["a"]}


def test_events_are_truncated_with_their_clips(recordings, tmp_path):
    events = (Event("b", 0.3, 0.8), Event("a", 0.1, 0.1004), Event("a", 0.5, 0.6))
    late = recordings[4:]
    changed = [
        r._replace(events=events if r in late else events[1:2], labels=()) for r in recordings
    ]
    task = make_task(tmp_path, "events", changed, "events", seconds=0.5)
    metadata = json.loads((task / "task_metadata.json").read_text())
    assert metadata["embedding_type"] == "event"
    assert metadata["evaluation"] == ["event_onset_200ms_fms", "segment_1s_er"]
    assert metadata["evaluation_params"]["event_postprocessing_grid"]
    assert read_labels(task, "fold02", read_description(task))["low2.wav"] == [
        {"label": "a", "start": 100.0, "end": 100.4},
        {"label": "b", "start": 300.0, "end": 500.0},
    ]


@pytest.mark.parametrize("times", [(0.2, 0.7), (7, 9), (0.5, 0.55)])
def test_an_event_past_the_end_of_its_recording_is_refused(recordings, tmp_path, times):
    changed = [r._replace(events=(Event("a", 0.1, 0.2),)) for r in recordings]
    changed[0] = changed[0]._replace(events=(Event("a", *times),))
    message = rf"low0\.flac is 0\.5 s long, but is labelled with an event from {times[0]:g} to"
    for seconds in (None, 0.3, 20):
        with pytest.raises(TaskError, match=message):
            make_task(tmp_path / "tasks", "events", changed, "events", seconds=seconds)
    assert not list((tmp_path / "tasks").iterdir())


@pytest.mark.parametrize(
    "split", ["../../../x", "/x", "a/b", "..", ".", ".hidden", "", "a\0b", "a\\b", 300 * "x"]
)
def test_a_split_whose_name_leads_out_of_the_task_is_refused(recordings, tmp_path, split):
    changed = [r._replace(split=split) if r.split == "fold00" else r for r in recordings]
    with pytest.raises(ConfigError, match="tones: the split"):
        make_task(tmp_path / "tasks", "tones", changed, "multiclass")
    assert {path.name for path in tmp_path.iterdir()} == {"audio"}


@pytest.mark.parametrize(
    "name", ["../../../x.wav", "/x.wav", "./.x.wav", "y/" + 300 * "x" + ".wav"]
)
def test_a_recording_of_any_name_is_written_into_the_task(recordings, tmp_path, name):
    changed = [recordings[0]._replace(name=name), *recordings[1:]]
    task = make_task(tmp_path / "tasks", "tones", changed, "multiclass", sample_rates=[8000])
    assert {path.name for path in tmp_path.iterdir()} == {"audio", "tasks"}
    files = [path.name for path in (task / "8000").glob("*/*")]
    assert len(files) == 6
    assert not [file for file in files if file.startswith(".") or len(file) > 224]


@pytest.mark.parametrize("name", ["", "/", "..", "a\nb.wav", "a\0b.wav", "a\\b.wav"])
def test_a_recording_without_a_usable_name_is_refused(recordings, tmp_path, name):
    changed = [recordings[0]._replace(name=name), *recordings[1:]]
    with pytest.raises(TaskError, match="tones: "):
        make_task(tmp_path / "tasks", "tones", changed, "multiclass")


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, 0, 1e12])
def test_lengths_that_clips_cannot_have_are_refused(recordings, tmp_path, seconds):
    with pytest.raises(ConfigError, match="length of clips must be above 0"):
        make_task(tmp_path, "tones", recordings, "multiclass", seconds=seconds)


@pytest.mark.parametrize("sample_rate", [0, -1, 1, 10**12])
def test_sample_rates_that_audio_cannot_have_are_refused(recordings, tmp_path, sample_rate):
    with pytest.raises(ConfigError, match="sample rate must be from 100 to 768000 Hz"):
        make_task(tmp_path, "tones", recordings, "multiclass", sample_rates=[sample_rate])


def test_folders_become_part_of_a_name(recordings, tmp_path):
    changed = [r._replace(name=f"sub/{r.labels[0]}/x.y.ogg") for r in recordings[:2]]
    task = make_task(tmp_path, "tones", [*changed, *recordings[2:]], "multiclass")
    assert set(json.loads((task / "fold00.json").read_text())) == {
        "sub-low-x.y.wav",
        "sub-high-x.y.wav",
    }


def test_the_metrics_are_those_of_heareval():
    score = pytest.importorskip("heareval.score")
    assert set(METRICS) == set(score.available_scores)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda r: r[:4], {}, TaskError, "has the splits 'fold00', 'fold01'; a task must have"),
        (lambda r: [x._replace(split="train") for x in r[:1]] + r, {}, TaskError, "both be named"),
        (
            lambda r: [r[0]._replace(split="train"), *r[1:]],
            {},
            TaskError,
            "splits .*'train'; a task",
        ),
        (lambda r: [x._replace(labels=("low",)) for x in r], {}, TaskError, "has 1 classes"),
        (
            lambda r: [r[0]._replace(labels=("a", "b")), *r[1:]],
            {},
            TaskError,
            "low0.* has 2 classes",
        ),
        (lambda r: [*r, r[0]._replace(name="low0.mp3")], {}, TaskError, "flac and low0.mp3 would"),
        (lambda r: r, {"kind": "scenes"}, ConfigError, "unknown kind of task 'scenes'"),
        (
            lambda r: r,
            {"metrics": ["map"]},
            ConfigError,
            "unknown metric 'map'; known: aucroc",
        ),
    ],
)
def test_an_invalid_task_is_refused(recordings, tmp_path, change, options, error, message):
    kind = options.pop("kind", "multiclass")
    with pytest.raises(error, match=message):
        make_task(tmp_path / "tasks", "tones", change(recordings), kind, **options)
    assert not (tmp_path / "tasks").exists()


def test_a_broken_recording_leaves_nothing_behind(recordings, tmp_path):
    recordings[3].path.write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"high1.flac (cannot be read|.* no samples)"):
        make_task(tmp_path / "tasks", "broken", recordings, "multiclass")
    assert list((tmp_path / "tasks").iterdir()) == []


def test_a_truncated_or_invalid_recording_leaves_nothing_behind(recordings, tmp_path):
    cut, nan = tmp_path / "cut.wav", tmp_path / "nan.wav"
    soundfile.write(cut, np.zeros((4000, 2)), 8000)
    cut.write_bytes(cut.read_bytes()[:8000])
    soundfile.write(nan, np.full(4000, np.nan), 8000, subtype="FLOAT")
    for path, message in ((cut, "cut.wav is truncated"), (nan, "nan.wav contains NaN")):
        changed = [recordings[0]._replace(path=path), *recordings[1:]]
        with pytest.raises(AudioError, match=message):
            make_task(tmp_path / "tasks", "broken", changed, "multiclass", seconds=1)
        assert list((tmp_path / "tasks").iterdir()) == []


def test_an_mp3_without_an_index_is_complete(recordings, tmp_path):
    """Its length is estimated, and the estimate may be too long."""
    path, noise = tmp_path / "noise.mp3", np.random.default_rng(0).uniform(-0.5, 0.5, 32000)
    noise[:8000] = 0  # which takes few bytes
    soundfile.write(path, noise, 16000)
    content = path.read_bytes()
    path.write_bytes(content[content.index(content[:2], 2) :])  # from the second frame on
    assert soundfile.info(path).frames > 100000
    changed = [recordings[0]._replace(path=path), *recordings[1:]]
    task = make_task(tmp_path, "tones", changed, "multiclass", sample_rates=[8000])
    assert max(frames(task, 8000)) == pytest.approx(16000, abs=1000)


def test_an_existing_task_is_kept(recordings, tmp_path):
    task = make_task(tmp_path, "tones", recordings, "multiclass", sample_rates=[8000])
    with pytest.raises(TaskError, match=r"tones exists already: remove it"):
        make_task(tmp_path, "tones", recordings, "multiclass", seconds=1, sample_rates=[8000])
    assert frames(task, 8000)[0] == 4000


def test_a_task_that_another_process_makes_is_left_to_it(recordings, tmp_path):
    refused = []

    def again(*progress):
        with pytest.raises(ConfigError, match=r"another process is writing .*; wait") as caught:
            make_task(tmp_path / "tasks", "tones", recordings, "multiclass", sample_rates=[8000])
        refused.append(caught)

    make_task(tmp_path / "tasks", "tones", recordings, "multiclass", progress=again)
    assert len(refused) == 6
    assert [path.name for path in (tmp_path / "tasks").iterdir()] == ["tones"]


def test_the_remains_of_a_killed_process_are_removed(recordings, tmp_path):
    left = tmp_path / "tasks" / ".tones.part" / "tones" / "8000"
    left.mkdir(parents=True)
    (left / ".low0.wav.part").touch()
    task = make_task(tmp_path / "tasks", "tones", recordings, "multiclass")
    assert [path.name for path in task.parent.iterdir()] == ["tones"]
    assert not (task / "8000").exists()
