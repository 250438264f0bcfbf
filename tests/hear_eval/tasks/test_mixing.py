from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import AudioError, ConfigError
from hear_core.events.event import Event
from hear_eval.tasks.description import FIXED_SPLITS, TaskError
from hear_eval.tasks.mixing import (
    LabelledClip,
    Mixture,
    mix_event_task,
    mix_scene,
    pink_noise,
    trim_silence,
)
from hear_eval.tasks.resampling import resample_task

RATE = 16000
SCENES = {"train": 4, "valid": 2, "test": 2}
SMALL = Mixture(seconds=3, sample_rate=RATE, events=(2, 4), longest=1.0)
# Every class has a tone of its own in every split, so that a scene tells what it was mixed from.
HERTZ = {
    (label, split): 1000 + 500 * (3 * i + j)
    for i, label in enumerate(["horn", "flute", "whistle"])
    for j, split in enumerate(FIXED_SPLITS)
}


@pytest.fixture
def clips(tmp_path):
    """Tones of three classes between silences, two clips of each in every split."""
    found = []
    for (label, split), hertz in HERTZ.items():
        for seconds in (0.4, 0.7):
            path = tmp_path / "audio" / f"{split}-{label}-{seconds}.wav"
            path.parent.mkdir(exist_ok=True)
            tone = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)
            soundfile.write(path, np.pad(tone, (1600, 4800)), RATE)
            found.append(LabelledClip(path, label, split))
    return found


@pytest.fixture
def task(clips, tmp_path):
    return mix_event_task(tmp_path / "tasks", "tones", clips, SCENES, SMALL)


def events_of(task):
    """Yield the split, waveform and events of every scene of a task."""
    for split in FIXED_SPLITS:
        for file, events in json.loads((task / f"{split}.json").read_text()).items():
            waveform, rate = soundfile.read(task / str(RATE) / split / file)
            assert rate == RATE
            yield split, waveform, events


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_task_is_what_heareval_reads(task):
    metadata = json.loads((task / "task_metadata.json").read_text())
    assert metadata["embedding_type"] == "event"
    assert metadata["prediction_type"] == "multilabel"
    assert metadata["split_mode"] == "trainvaltest"
    assert metadata["splits"] == list(FIXED_SPLITS)
    assert metadata["sample_duration"] == 3
    assert metadata["evaluation"] == ["event_onset_200ms_fms", "segment_1s_er"]
    assert metadata["mixture"]["seed"] == 0
    vocabulary = (task / "labelvocabulary.csv").read_text().split()
    assert vocabulary == ["idx,label", "0,flute", "1,horn", "2,whistle"]
    assert {
        split: len(json.loads((task / f"{split}.json").read_text())) for split in FIXED_SPLITS
    } == (SCENES)
    files = [path.name for path in task.glob("16000/*/*")]
    assert len(files) == len(set(files)) == 8
    assert {soundfile.info(path).frames for path in task.glob("16000/*/*")} == {3 * RATE}


def test_events_sound_where_the_labels_say_and_come_from_their_split(task):
    """Every class sounds with the tone of its split, and only while its labels say so."""
    size = RATE // 50
    times = 1000 * np.arange(3 * RATE // size) * size / RATE
    for split, waveform, events in events_of(task):
        assert events == sorted(events, key=lambda event: event["start"])
        for (label, tone_split), hertz in HERTZ.items():
            wave = np.exp(-2j * np.pi * hertz * np.arange(len(waveform)) / RATE)
            power = np.abs((waveform * wave).reshape(-1, size).mean(1)) ** 2
            inside = np.zeros(len(times), bool)
            border = np.zeros(len(times), bool)
            for event in events:
                if event["label"] == label and tone_split == split:
                    inside |= (times >= event["start"]) & (times + 20 <= event["end"])
                    border |= (times < event["end"]) & (times + 20 > event["start"])
            # Frames that an event begins or ends in count on neither side. The quietest tone has
            # 6 dB, so an amplitude of 0.028 and here a power of 2e-4; the rest is noise.
            assert (power[inside] > 1e-4).all()
            assert (power[~border] < 3e-5).all()


def test_silence_around_a_clip_is_not_part_of_its_event(task):
    lengths = {
        round(event["end"] - event["start"]) for *_, events in events_of(task) for event in events
    }
    assert lengths <= {400, 700}


@given(data=st.data())
def test_scenes_keep_to_their_rules(data):
    polyphony = data.draw(st.integers(1, 3))
    mixture = Mixture(
        seconds=data.draw(st.floats(0.5, 4)),
        sample_rate=data.draw(st.sampled_from([1000, 2205, 8000])),
        polyphony=polyphony,
        snr=(3.0, 12.0),
        longest=0.5,
    )
    rate = mixture.sample_rate
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    labels = data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
    # Ones, so that not a single sample of an event is lost in the background.
    sounds = [(label, np.ones(rng.integers(1, rate), np.float32)) for label in labels]
    background = rng.choice([-1.0, 1.0], mixture.samples).astype(np.float32)
    scene, events = mix_scene(iter(sounds), background, mixture, rng)

    assert scene.dtype == np.float32
    assert scene.shape == (mixture.samples,)
    assert events
    layers = np.zeros(mixture.samples, int)
    for event in events:
        start, stop = round(event.onset * rate), round(event.offset * rate)
        assert 0 <= start < stop <= mixture.samples
        assert stop - start <= 0.5 * rate
        layers[start:stop] += 1
        for other in events:
            if other.label == event.label and other.onset > event.onset:
                assert other.onset - event.offset > 0.49
    assert layers.max() <= polyphony
    added = scene - 0.01 * background
    assert np.abs(added[layers == 0]).max(initial=0) < 1e-6
    assert (added[layers > 0] > 1e-4).all()
    steady = added[layers == 1].max(initial=0)  # between the fades, where there is only one
    assert steady <= 0.01 * 10 ** (12 / 20) * 1.01


def test_events_have_the_signal_to_noise_ratio_of_the_mixture():
    mixture = Mixture(seconds=2, sample_rate=8000, snr=(10, 10))
    rng = np.random.default_rng(0)
    background = pink_noise(16000, 8000, rng)
    sound = rng.standard_normal(8000).astype(np.float32)
    scene, [event] = mix_scene([("a", sound)], background, mixture, rng)
    inside = slice(round(event.onset * 8000), round(event.offset * 8000))
    alone = 0.01 * background / background.std()
    ratio = np.var((scene - alone)[inside]) / np.var(alone)
    assert 10 * np.log10(ratio) == pytest.approx(10, abs=0.1)


def test_a_loud_scene_does_not_clip():
    mixture = Mixture(seconds=1, sample_rate=8000, snr=(60, 60))
    sound = np.sin(np.arange(4000)).astype(np.float32)
    rng = np.random.default_rng(0)
    scene, _ = mix_scene([("a", sound)], np.ones(8000, np.float32), mixture, rng)
    assert np.abs(scene).max() == pytest.approx(0.99)


def test_a_sound_that_does_not_fit_is_left_out():
    mixture = Mixture(seconds=1, sample_rate=8000, polyphony=1)
    whole, half = np.ones(8000, np.float32), np.ones(4000, np.float32)
    rng = np.random.default_rng(0)
    _, events = mix_scene([("a", whole), ("b", half)], whole, mixture, rng)
    assert events == [Event("a", 0, 1)]


def test_silence_can_be_mixed():
    silence = np.zeros(8000, np.float32)
    mixture = Mixture(seconds=1, sample_rate=8000)
    scene, _ = mix_scene([], silence, mixture, np.random.default_rng(0))
    assert not scene.any()


@given(
    before=st.integers(0, 3000),
    length=st.integers(80, 4000),
    after=st.integers(0, 3000),
    noise=st.sampled_from([0.0, 1e-3]),
)
def test_trimming_finds_the_sound(before, length, after, noise):
    """To the 10 ms of which energy is taken, in digital silence as in noise of -57 dB."""
    rng = np.random.default_rng(0)
    clip = noise * rng.standard_normal(before + length + after)
    position = np.arange(len(clip))
    tone = np.sin(position)
    clip[before : before + length] += tone[before : before + length]
    # What is returned is a view of the clip, whose place in it is marked by a ramp.
    marked = trim_silence((clip + 1e-9 * position).astype(np.float64), 8000)
    start = int(np.flatnonzero(clip + 1e-9 * position == marked[0])[0])
    assert before - 80 < start < before + 80
    assert before + length - 80 < start + len(marked) < before + length + 160


def test_a_pause_ends_an_event():
    tone = np.sin(np.arange(8000))
    parts = [0.5 * tone[:2000], np.zeros(12000), tone[:4000], np.zeros(4000), tone[:1600]]
    trimmed = trim_silence(np.concatenate(parts), 8000)
    assert len(trimmed) == 4000 + 4000 + 1600


def test_pink_noise_has_the_same_power_in_every_octave():
    noise = pink_noise(2**18, 32000, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / 32000)
    octaves = [power[(hertz >= f) & (hertz < 2 * f)].sum() for f in 62.5 * 2.0 ** np.arange(8)]
    assert np.ptp(10 * np.log10(octaves)) < 0.5


def test_the_same_seed_makes_the_same_bytes(task, clips, tmp_path):
    again = mix_event_task(tmp_path / "again", "tones", clips, SCENES, SMALL)
    assert contents(again) == contents(task)


def test_another_seed_makes_other_scenes(task, clips, tmp_path):
    other = Mixture(seconds=3, sample_rate=RATE, events=(2, 4), longest=1.0, seed=1)
    task_of_other = mix_event_task(tmp_path / "other", "tones", clips, SCENES, other)
    audio = [p.relative_to(task) for p in task.glob("16000/*/*")]
    assert not [p for p in audio if (task / p).read_bytes() == (task_of_other / p).read_bytes()]


def test_more_scenes_keep_those_of_fewer(task, clips, tmp_path):
    more = mix_event_task(tmp_path / "more", "tones", clips, {**SCENES, "train": 6}, SMALL)
    few, many = contents(task / str(RATE)), contents(more / str(RATE))
    assert few.items() <= many.items()
    assert len(many) == len(few) + 2


def test_classes_take_turns_whatever_they_have_of_clips(clips, tmp_path):
    scenes = {"train": 12, "valid": 1, "test": 1}
    few = [clip for clip in clips if clip.path.name != "train-horn-0.4.wav"]
    # Short enough that everything fits.
    mixture = Mixture(seconds=8, sample_rate=RATE, events=(3, 3))
    task = mix_event_task(tmp_path, "turns", few, scenes, mixture)
    events = [e["label"] for split, _, found in events_of(task) if split == "train" for e in found]
    assert {events.count(label) for label in set(events)} == {12}


def test_given_backgrounds_are_used(clips, tmp_path):
    """One is longer than a scene, the others are shorter and silent at their ends."""
    for split, seconds in zip(FIXED_SPLITS, (5, 0.5, 1), strict=True):
        hum = np.sin(2 * np.pi * 100 * np.arange(round(seconds * RATE)) / RATE)
        soundfile.write(tmp_path / f"{split}.wav", np.pad(hum, 800), RATE)
        clips.append(LabelledClip(tmp_path / f"{split}.wav", "", split))
    task = mix_event_task(tmp_path, "hum", clips, SCENES, SMALL)
    assert "3" not in (task / "labelvocabulary.csv").read_text()
    for _, waveform, events in events_of(task):
        frames = waveform.reshape(-1, RATE // 50)
        times = 1000 * np.arange(len(frames)) / 50
        quiet = np.ones(len(frames), bool)
        for event in events:
            quiet &= (times + 20 <= event["start"]) | (times >= event["end"])
        assert frames[quiet].std(axis=1) == pytest.approx(0.01, rel=0.1)


def test_progress_and_log(clips, tmp_path, caplog):
    steps = []
    with caplog.at_level(logging.INFO, "hear_eval.tasks.mixing"):
        mix_event_task(tmp_path, "tones", clips, SCENES, SMALL, lambda *step: steps.append(step))
    assert steps == [(made, 8) for made in range(1, 9)]
    assert "tones: 4 scenes of train with" in caplog.text


def test_a_task_can_be_resampled(task):
    assert resample_task(task, 8000).written == 8


def test_a_clip_that_cannot_be_read_leaves_nothing_behind(clips, tmp_path):
    clips[-1].path.write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"test-whistle-0.7.wav cannot be read"):
        mix_event_task(tmp_path / "tasks", "broken", clips, {**SCENES, "test": 9}, SMALL)
    assert list((tmp_path / "tasks").iterdir()) == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [(0.0, "is silent"), (np.nan, "contains NaN"), (np.inf, "contains NaN or inf")],
)
def test_a_silent_clip_is_refused(clips, tmp_path, value, reason):
    soundfile.write(clips[0].path, np.full(8000, value), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=f"train-horn-0.4.wav {reason}"):
        mix_event_task(tmp_path / "tasks", "silent", clips, {**SCENES, "train": 9}, SMALL)


def test_a_truncated_clip_is_refused(clips, tmp_path):
    clips[0].path.write_bytes(clips[0].path.read_bytes()[:-4000])
    with pytest.raises(AudioError, match=r"train-horn-0.4.wav is truncated"):
        mix_event_task(tmp_path / "tasks", "cut", clips, {**SCENES, "train": 9}, SMALL)
    assert list((tmp_path / "tasks").iterdir()) == []


def test_an_existing_task_is_kept(task, clips):
    before = contents(task)
    with pytest.raises(TaskError, match=r"tones exists already: remove it"):
        mix_event_task(task.parent, "tones", clips, SCENES, SMALL)
    assert contents(task) == before


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "../a", "a\0b", 300 * "a"])
def test_a_name_that_cannot_be_a_folder_is_refused(clips, tmp_path, name):
    with pytest.raises(ConfigError, match=r"the task name .* cannot be used as a file name"):
        mix_event_task(tmp_path, name, clips, SCENES, SMALL)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seconds": 0}, "seconds must be from 0.01 to 86400, but is 0"),
        ({"seconds": np.inf}, "seconds must be from 0.01 to 86400, but is inf"),
        ({"longest": 0.001}, "longest must be at least 0.01 seconds, but is 0.001"),
        ({"sample_rate": 50}, "sample_rate must be from 100 to 768000 Hz, but is 50"),
        ({"events": (5, 3)}, r"events must be two numbers .*, the smaller first, but is \(5, 3\)"),
        ({"events": (0, 3)}, "events must be two numbers from 1"),
        ({"polyphony": 0}, "polyphony must be at least 1, but is 0"),
        (
            {"snr": (6, -6)},
            r"snr must be two numbers of dB .*, the smaller first, but is \(6, -6\)",
        ),
        ({"snr": (0, np.nan)}, "snr must be two numbers of dB"),
        ({"snr": (0, 1e12)}, "snr must be two numbers of dB"),
        ({"seconds": 1e12}, "seconds must be from"),
        ({"events": (1, 10**12)}, "events must be two numbers"),
        ({"seed": -1}, "seed must be at least 0, but is -1"),
    ],
)
def test_values_out_of_range(changed, message):
    with pytest.raises(ConfigError, match=message):
        Mixture(**changed)


@pytest.mark.parametrize(
    "scenes", [{}, {"train": 1, "valid": 1}, {**SCENES, "test": 0}, {**SCENES, "more": 1}]
)
def test_scenes_of_all_splits_are_needed(clips, tmp_path, scenes):
    with pytest.raises(ConfigError, match=r"train, valid, test need scenes each, but have"):
        mix_event_task(tmp_path, "tones", clips, scenes, SMALL)


def test_a_clip_of_two_splits_is_refused(clips, tmp_path):
    clips.append(clips[0]._replace(split="test"))
    with pytest.raises(ConfigError, match=r"train-horn-0.4.wav is both in train and in test"):
        mix_event_task(tmp_path, "tones", clips, SCENES, SMALL)


@pytest.mark.parametrize(("label", "what"), [("horn", "horn"), ("", "background")])
def test_a_class_must_be_in_all_splits(clips, tmp_path, label, what):
    clips = [clip for clip in clips if (clip.label, clip.split) != (label, "valid")]
    clips.append(LabelledClip(tmp_path / "new.wav", label, "train"))
    with pytest.raises(
        ConfigError, match=f"the split valid has no clips of {what}, but another split has"
    ):
        mix_event_task(tmp_path, "tones", clips, SCENES, SMALL)


def test_other_splits_and_missing_clips_are_refused(clips, tmp_path):
    with pytest.raises(ConfigError, match=r"has the split 'fold1', which is not one of"):
        mix_event_task(tmp_path, "tones", [clips[0]._replace(split="fold1")], SCENES, SMALL)
    with pytest.raises(ConfigError, match=r"there are no labelled clips to mix"):
        mix_event_task(tmp_path, "tones", [], SCENES, SMALL)
