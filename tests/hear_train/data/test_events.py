"""Events as frames, samplers of EfficientSED, and data sets with events in their layouts."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import soundfile
import torch

from hear_core.errors import ConfigError
from hear_core.events.event import Event
from hear_core.zoo.labels import audioset_labels
from hear_sed.labels import strong_labels, strong_mids
from hear_train.augment.waveforms import crop
from hear_train.data.clips import Clip, Clips
from hear_train.data.datasets import DataConfig, open_dataset
from hear_train.data.encoding import encode_events
from hear_train.data.events import FrameTargets, event_rows
from hear_train.data.hdf5 import PackedRow, as_mp3, write_packed
from hear_train.data.samplers import (
    UniformSampler,
    WeightedSampler,
    balanced_weights,
    frame_weights,
    window_counts,
)
from hear_train.data.sources import ClipDrawer, Part, WaveformAugmentation
from hear_train.objectives.stored_frames import StoredFrames
from tests.goldens.arrays import arrays, facts

GOLDEN = arrays("train/efficientsed_data")
LABELS = {label: number for number, label in enumerate(strong_labels())}
RATE = 16000


@pytest.mark.parametrize("number", range(4))
def test_events_are_encoded_as_in_efficientsed(number):
    case = facts("train/efficientsed_labels")["cases"][number]
    events = [Event(e["label"], e["onset"], e["offset"]) for e in case["events"]]
    active = encode_events(event_rows(events, LABELS), 447, 250, 640, RATE)
    expected = np.unpackbits(GOLDEN["labels_packed"][number], axis=-1, count=250)
    np.testing.assert_array_equal(active, expected)


def test_onsets_are_rounded_down_and_offsets_up():
    case = facts("sed/metrics")["encode"]
    events = [Event(label, onset, offset) for onset, offset, label in case["events"]]
    active = encode_events(event_rows(events, LABELS), 447, *case["shape"][:1], 640, RATE)
    assert active.shape == tuple(reversed(case["shape"]))
    found = {label: np.flatnonzero(active[LABELS[label]]).tolist() for label in case["active"]}
    assert found == case["active"]
    assert active.sum() == sum(map(len, found.values()))


def test_events_of_other_frames_and_crops():
    rows = np.array([[1, 0.5, 1.0]])
    whole = encode_events(rows, 2, 20, 1600, RATE)[1]
    assert np.flatnonzero(whole).tolist() == [5, 6, 7, 8, 9]
    later = encode_events(rows, 2, 20, 1600, RATE, start=7200)[1]
    assert np.flatnonzero(later).tolist() == [0, 1, 2, 3, 4, 5]
    clip = Clip("a", None, events=rows)
    shifted = FrameTargets(2, 20, 1600, RATE)(clip, Part(0, 1.0, 0, 16 * 1600))[1]
    assert np.flatnonzero(shifted).tolist() == [1, 2, 3, 4, 5]
    assert not FrameTargets(2, 20, 1600, RATE)(clip._replace(events=None), Part(0, 1.0)).any()


def test_hear_encodes_the_frames_whose_centre_is_in_an_event():
    """Centres at 20 + 40 i ms; an event includes its end."""
    for onset, offset in [(0.0, 0.02), (0.02, 0.06), (0.021, 0.0599), (0.1, 0.42), (9.98, 12.0)]:
        rows = np.array([[0, onset, offset]])
        found = encode_events(rows, 1, 250, 640, RATE, encoding="centre")[0]
        centres = 20.0 + 40.0 * np.arange(250)
        expected = (centres >= onset * 1000 - 1e-9) & (centres <= offset * 1000 + 1e-4)
        np.testing.assert_array_equal(found > 0, expected)


def test_sampling_weights_are_those_of_efficientsed():
    counts = GOLDEN["sampler_counts"]
    clips = [
        Clip(
            "a", None, events=np.array([[c, 0, round(n * 0.04, 6)] for c, n in enumerate(row) if n])
        )
        for row in counts
    ]
    clips = [c._replace(events=c.events.reshape(-1, 3)) for c in clips]
    np.testing.assert_allclose(frame_weights(clips, 447), GOLDEN["sampler_weights"], rtol=1e-6)
    weak = [Clip("a", None, np.packbits(row > 0)) for row in GOLDEN["weak_sampler_targets"]]
    found = balanced_weights(weak, 527)
    np.testing.assert_allclose(found, GOLDEN["weak_sampler_weights"], rtol=1e-5)
    sampler = WeightedSampler(GOLDEN["sampler_draw_weights"], 0, 20)
    drawn = [[sampler[20 * epoch + place] for place in range(20)] for epoch in range(2)]
    assert drawn == GOLDEN["sampler_draws"].tolist()


def test_long_recordings_are_drawn_as_often_as_they_have_windows():
    clips = [Clip("a", None, seconds=seconds) for seconds in (0, 4, 35, 100)]
    assert window_counts(clips, 10).tolist() == [1, 1, 4, 10]


def test_crops_around_events_hold_them():
    samples = np.arange(60 * 100, dtype=np.float32) / 6000
    rows = np.array([[0, 40.0, 41.0], [1, 10.0, 30.0]])
    clips = Clips([Clip("a", lambda rate: samples, events=rows)], 100)
    drawer = ClipDrawer(
        clips, UniformSampler(1, 0), 5.0, WaveformAugmentation(), 0, around_events=1.0
    )
    targets = FrameTargets(2, 125, 4, 100)
    for number in range(40):
        drawn = drawer.draw(number)
        (part,) = drawn.clips
        np.testing.assert_array_equal(drawn.samples, crop(samples, 500, part.start))
        short, long = targets(clips[0], part)
        assert short.sum() >= 25 or long.all()


def write(path, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).normal(0, 0.1, round(seconds * RATE))
    soundfile.write(path, noise, RATE)


def test_a_table_of_own_events_is_split_by_recording(tmp_path):
    rows = ["filename\tonset\toffset\tevent_label", "quiet\t\t\t"]
    write(tmp_path / "audio" / "quiet.wav")
    for number in range(20):
        name = f"site{'abcdefghij'[number // 2]}_{number % 2}.wav"
        write(tmp_path / "audio" / "deep" / name)
        rows.append(f"{name}\t0.1\t0.5\t{'xy'[number // 2 % 2]}")
    write(tmp_path / "audio" / "other.wav")
    (tmp_path / "events.tsv").write_text("\n".join(rows))
    config = DataConfig(format="events", labels=str(tmp_path / "events.tsv"), group=r"site(\w)")
    dataset = open_dataset([tmp_path / "audio"], config)
    assert dataset.labels == ("x", "y")
    sizes = [len(dataset.split(name)) for name in ("train", "valid", "test")]
    assert sum(sizes) == 21
    assert min(sizes) >= 4
    sites = [
        {clip.name.split("site")[-1][0] for clip in dataset.split(name) if "site" in clip.name}
        for name in ("train", "valid", "test")
    ]
    assert not sites[0] & sites[1] | sites[0] & sites[2] | sites[1] & sites[2]
    (quiet,) = (clip for part in dataset[1:] for clip in part if "quiet" in clip.name)
    assert quiet.events.shape == (0, 3)
    assert quiet.seconds == 1.0
    (tmp_path / "events.tsv").write_text("filename,onset,offset,event_label\nnone.wav,1,2,x")
    with pytest.raises(ConfigError, match=r"'none\.wav', none of which is among the 22 recordings"):
        open_dataset([tmp_path / "audio"], config)


def test_annotations_next_to_recordings(tmp_path):
    write(tmp_path / "train" / "a.wav")
    (tmp_path / "train" / "a.txt").write_text("0.1\t0.4\tbird\n\\\t100\t200\n0.5\t0.6\tcar\n")
    write(tmp_path / "test" / "b.wav")
    (tmp_path / "test" / "b.Table.1.selections.txt").write_text(
        "Selection\tView\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tSpecies\n"
        "1\tWaveform 1\t0.2\t0.3\t10\tbird\n1\tSpectrogram 1\t0.2\t0.3\t10\tbird\n"
    )
    dataset = open_dataset([tmp_path], DataConfig(format="events"))
    assert dataset.labels == ("bird", "car")
    assert dataset.train[0].events.tolist() == [[0, 0.1, 0.4], [1, 0.5, 0.6]]
    assert dataset.test[0].events.tolist() == [[0, 0.2, 0.3]]
    (tmp_path / "train" / "a.txt").write_text("0.1 0.4 bird\n")
    with pytest.raises(ConfigError, match=r"a\.txt, line 1, must have a start, an end and a label"):
        open_dataset([tmp_path], DataConfig(format="events"))


def test_a_hear_task_of_events(tmp_path):
    (tmp_path / "task_metadata.json").write_text('{"embedding_type": "event"}')
    (tmp_path / "labelvocabulary.csv").write_text("idx,label\n0,b\n1,a\n")
    for split in ("train", "valid"):
        write(tmp_path / "16000" / split / "1.wav")
        rows = {"1.wav": [{"label": "a", "start": 100.0, "end": 250.0}]}
        (tmp_path / f"{split}.json").write_text(json.dumps(rows))
    dataset = open_dataset([tmp_path], DataConfig(format="events"))
    assert dataset.labels == ("b", "a")
    assert dataset.valid[0].events.tolist() == [[1, 0.1, 0.25]]
    assert len(dataset.valid[0].read(RATE)) == RATE


def test_audioset_strong(tmp_path):
    """Identifiers or names of classes, mp3s in HDF5 or in files, and classes of evaluation only."""
    speech = next(label for label, mid in strong_mids().items() if mid == "/m/09x0r")
    samples = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    rows = [PackedRow(f"Yabcdefghij{n}.mp3", as_mp3(samples, RATE)) for n in "12"]
    write_packed(tmp_path / "balanced_train_segments_mp3.hdf", rows, 2, audioset_labels())
    write(tmp_path / "eval" / "Yevalevaleva.wav")
    write(tmp_path / "eval" / "Yonlyonlyonl.wav")
    (tmp_path / "audioset_train_strong.tsv").write_text(
        "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
        "abcdefghij1_30000\t0.0\t0.5\t/m/09x0r\nabcdefghij2_0\t0.1\t0.2\t/m/none\n"
        "abcdefghij9_0\t0.1\t0.2\t/m/09x0r\n"
    )
    (tmp_path / "audioset_eval_strong.tsv").write_text(
        "filename\tonset\toffset\tevent_label\n"
        f"Yevalevaleva.mp3\t0.5\t0.9\t{speech}\nYonlyonlyonl.mp3\t0.5\t0.9\tnot a class\n"
    )
    (tmp_path / "eval_durations.csv").write_text("filename,seconds\nYevalevaleva,9.5\n")
    dataset = open_dataset([tmp_path], DataConfig(format="audioset_strong"))
    assert dataset.labels == strong_labels()
    assert [clip.name for clip in dataset.train] == [row.name for row in rows]
    assert [len(clip.events) for clip in dataset.train] == [1, 0]
    (tested,) = dataset.test
    assert tested.events.tolist() == [[LABELS[speech], 0.5, 0.9]]
    assert tested.seconds == 9.5
    with pytest.raises(ConfigError, match="there are no clips of AudioSet Strong"):
        open_dataset([tmp_path / "eval"], DataConfig(format="audioset_strong"))


def test_stored_predictions_of_frames_have_two_spellings(tmp_path):
    names = ["Yabcdefghij1.mp3", "Yabcdefghimp.mp3".rstrip(".mp3"), "Ykkkkkkkkkkk"]
    logits = np.random.default_rng(0).normal(0, 2, (3, 447, 250)).astype(np.float16)
    with h5py.File(tmp_path / "pseudo.hdf5", "w") as file:
        file["filenames"] = np.array([name.encode() for name in names])
        file["strong_logits"] = logits
    stored = StoredFrames(tmp_path / "pseudo.hdf5")
    given = ["Yabcdefghij1.mp3", "Yabcdefghimp.mp3", "Ykkkkkkkkkkk.mp3"]
    assert stored.of([*given, "Yzzzzzzzzzzz.mp3"]) == set(given)
    for row, name in enumerate(given):
        expected = torch.from_numpy(logits[row].astype(np.float32)).sigmoid()
        np.testing.assert_allclose(stored.probabilities(name), expected, atol=1e-6)
    with pytest.raises(ConfigError, match="none of the 1 clips, such as other, has a row"):
        stored.of(["other"])
