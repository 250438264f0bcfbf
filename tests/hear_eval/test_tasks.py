import csv
import json

import numpy as np
import pytest
import soundfile

from hear_core.errors import AudioError
from hear_eval.description import TaskError
from hear_eval.tasks import Clip, make_scene_task, resample_task


@pytest.fixture
def clips(tmp_path):
    """Six short recordings at 8 kHz, two classes in three folds."""
    found = []
    for fold in range(3):
        for label, hertz in [("low", 200), ("high", 2000)]:
            path = tmp_path / "audio" / f"{label}{fold}.wav"
            path.parent.mkdir(exist_ok=True)
            t = np.arange(4000 + 1000 * fold) / 8000
            soundfile.write(path, 0.5 * np.sin(2 * np.pi * hertz * t), 8000)
            found.append(Clip(path, label, f"fold{fold:02d}"))
    return found


@pytest.fixture
def task(clips, tmp_path):
    return make_scene_task(tmp_path / "tasks", "tones", clips, seconds=0.6, sample_rate=16000)


def test_a_task_is_what_heareval_reads(task):
    metadata = json.loads((task / "task_metadata.json").read_text())
    assert metadata["splits"] == ["fold00", "fold01", "fold02"]
    assert metadata["sample_duration"] == 0.6
    assert metadata["embedding_type"] == "scene"
    assert json.loads((task / "fold01.json").read_text()) == {
        "low1.wav": ["low"],
        "high1.wav": ["high"],
    }
    with (task / "labelvocabulary.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"idx": "0", "label": "high"},
            {"idx": "1", "label": "low"},
        ]


def test_all_clips_are_of_one_length_and_rate(task):
    for path in task.glob("16000/*/*.wav"):
        info = soundfile.info(path)
        assert (info.frames, info.samplerate, info.channels) == (9600, 16000, 1)
    short, _ = soundfile.read(task / "16000" / "fold00" / "low0.wav")
    assert short[:8000].any()
    assert not short[8100:].any()


def test_another_rate_is_added(task):
    assert resample_task(task, 32000) == 6
    low, rate = soundfile.read(task / "32000" / "fold01" / "low1.wav")
    spectrum = np.abs(np.fft.rfft(low))
    assert rate == 32000
    assert abs(spectrum.argmax() * rate / len(low) - 200) < 2


def test_resampling_goes_on_where_it_was_cut_off(task):
    resample_task(task, 32000)
    kept = task / "32000" / "fold00" / "low0.wav"
    kept.write_bytes(b"was here")
    (task / "32000" / "fold02" / "low2.wav").unlink()
    assert resample_task(task, 32000) == 1
    assert kept.read_bytes() == b"was here"
    assert not list(task.rglob("*.part"))


def test_resampling_takes_the_highest_other_rate(task):
    resample_task(task, 4000)
    resample_task(task, 32000)
    spectrum = np.abs(np.fft.rfft(soundfile.read(task / "32000" / "fold00" / "high0.wav")[0]))
    assert abs(spectrum.argmax() * 32000 / 19200 - 2000) < 2


def test_resampling_to_the_only_rate_writes_nothing(task):
    assert resample_task(task, 16000) == 0


def test_what_is_no_task_is_refused(tmp_path):
    with pytest.raises(TaskError, match=r"is not a HEAR task: it has no task_metadata.json"):
        resample_task(tmp_path, 32000)
    (tmp_path / "task_metadata.json").touch()
    with pytest.raises(TaskError, match=r"holds no audio"):
        resample_task(tmp_path, 32000)


def test_too_few_folds(clips, tmp_path):
    with pytest.raises(TaskError, match=r"few: 2 splits and 2 classes; it takes 3 and 2"):
        make_scene_task(tmp_path, "few", clips[:4], seconds=1, sample_rate=8000)


def test_two_clips_of_one_name(clips, tmp_path):
    with pytest.raises(TaskError, match=r"fold00 has two clips that would be called low0.wav"):
        make_scene_task(tmp_path, "twins", [*clips, clips[0]], seconds=1, sample_rate=8000)


def test_a_broken_clip_leaves_no_task(clips, tmp_path):
    clips[-1].path.write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"high2.wav cannot be read"):
        make_scene_task(tmp_path / "tasks", "broken", clips, seconds=1, sample_rate=8000)
    assert list((tmp_path / "tasks").iterdir()) == []


def test_a_task_that_is_there_is_kept(task, clips):
    with pytest.raises(TaskError, match=r"there is a .*tones already: remove it"):
        make_scene_task(task.parent, "tones", clips, seconds=1, sample_rate=16000)
    assert soundfile.info(task / "16000" / "fold00" / "low0.wav").frames == 9600
