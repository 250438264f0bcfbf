from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from filelock import FileLock

from hear_core.audio.reading import read_audio
from hear_core.errors import ConfigError
from hear_eval.tasks.description import TaskError
from hear_eval.tasks.resampling import resample_task


@pytest.fixture
def task(tmp_path):
    """Six tones at 16 kHz, low and high ones in three folds."""
    folder = tmp_path / "tones"
    for fold in range(3):
        for label, hertz in [("low", 200), ("high", 2000)]:
            path = folder / "16000" / f"fold{fold:02}" / f"{label}{fold}.wav"
            path.parent.mkdir(exist_ok=True, parents=True)
            soundfile.write(path, 0.5 * np.sin(2 * np.pi * hertz * np.arange(9600) / 16000), 16000)
    (folder / "task_metadata.json").write_text(json.dumps({"task_name": "tones"}))
    return folder


def frequency(path):
    """Return the frequency of a tone in Hz."""
    samples, rate = soundfile.read(path)
    return np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)


def test_another_rate_is_added(task):
    calls = []
    found = resample_task(task, 32000, lambda *progress: calls.append(progress))
    assert found == (6, 0, {})
    assert calls == [(i, 6) for i in range(1, 7)]
    low = task / "32000" / "fold01" / "low1.wav"
    assert soundfile.info(low).samplerate == 32000
    assert abs(frequency(low) - 200) < 2
    soxr = read_audio(task / "16000" / "fold01" / "low1.wav", 32000)
    np.testing.assert_allclose(soundfile.read(low)[0], soxr, atol=1 / 32768)


def test_complete_files_are_kept_and_others_are_written_again(task):
    resample_task(task, 8000)
    folder = task / "8000"
    soundfile.write(folder / "fold00" / "low0.wav", np.zeros(100), 8000)
    cut, other = folder / "fold01" / "low1.wav", folder / "fold01" / "high1.wav"
    whole = {path: path.read_bytes() for path in (cut, other)}
    cut.write_bytes(whole[cut][:-10])
    soundfile.write(other, np.zeros(100), 4000)
    (folder / "fold02" / "low2.wav").write_bytes(b"RIFF")
    (folder / "fold02" / "high2.wav").unlink()
    (folder / "fold02" / f".high2.wav.{12 * '0'}.part").write_bytes(b"from a run that was killed")
    assert resample_task(task, 8000) == (4, 2, {})
    assert soundfile.info(folder / "fold00" / "low0.wav").frames == 100
    assert {path: path.read_bytes() for path in whole} == whole
    assert not list(task.rglob("*.part"))
    assert resample_task(task, 8000) == (0, 6, {})


def test_a_file_that_cannot_be_read_does_not_stop_the_others(task):
    broken = task / "16000" / "fold01" / "low1.wav"
    broken.write_bytes(b"no sound")
    found = resample_task(task, 32000)
    assert found.written == 5
    assert list(found.failures) == [broken]
    assert "cannot be read as audio" in found.failures[broken]
    assert not (task / "32000" / "fold01" / "low1.wav").exists()


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil(path):
    soundfile.write(path, np.full(9600, np.nan), 16000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (halve, "low1.wav is truncated: 9622 of 19200 bytes of audio are missing"),
        (spoil, "low1.wav contains NaN or infinite samples"),
    ],
)
def test_damaged_audio_is_not_resampled(task, damage, reason):
    broken = task / "16000" / "fold01" / "low1.wav"
    damage(broken)
    found = resample_task(task, 32000)
    assert found.written == 5
    assert found.failures == {broken: f"{broken.parent}/{reason}"}
    assert not (task / "32000" / "fold01" / "low1.wav").exists()


def test_the_source_is_the_highest_other_rate(task):
    resample_task(task, 4000)
    resample_task(task, 32000)
    assert abs(frequency(task / "32000" / "fold00" / "high0.wav") - 2000) < 2


def test_a_rate_without_all_clips_is_not_the_source(task):
    resample_task(task, 48000)
    (task / "48000" / "fold02" / "low2.wav").unlink()
    assert resample_task(task, 32000).written == 6


def test_an_additional_file_does_not_make_a_rate_the_source(task):
    resample_task(task, 48000)
    for fold in range(3):
        files = [f"{label}{fold}.wav" for label in ("low", "high")]
        (task / f"fold{fold:02}.json").write_text(json.dumps({file: ["a"] for file in files}))
    splits = {"splits": ["fold00", "fold01", "fold02"]}
    (task / "task_metadata.json").write_text(json.dumps(splits))
    (task / "16000" / "fold00" / "notes.txt").touch()
    assert resample_task(task, 32000) == (6, 0, {})


def contents(task):
    return {path: path.read_bytes() for path in task.rglob("*") if path.is_file()}


def test_the_only_rate_is_left_alone(task):
    before = contents(task)
    assert resample_task(task, 16000) == (0, 6, {})
    assert contents(task) == before


def test_the_only_audio_is_not_written_over(task):
    broken = task / "16000" / "fold01" / "low1.wav"
    halve(broken)
    before, calls = contents(task), []
    found = resample_task(task, 16000, lambda *progress: calls.append(progress))
    assert found[:2] == (0, 5)
    assert calls == [(6, 6)]
    assert list(found.failures) == [broken]
    assert found.failures[broken].startswith(f"{broken} is truncated: 9622 of 19200 bytes")
    assert found.failures[broken].endswith(
        "it is not written again, since the task has no other rate: download it again"
    )
    assert contents(task) == before


def test_audio_is_not_replaced_from_a_lower_rate(task):
    resample_task(task, 8000)
    broken, gone = (task / "16000" / "fold01" / f"{name}1.wav" for name in ("low", "high"))
    halve(broken)
    gone.unlink()
    before = broken.read_bytes()
    written, kept, failures = resample_task(task, 16000)
    assert (written, kept) == (1, 4)
    ((path, reason),) = failures.items()
    assert path == task / "8000" / "fold01" / "low1.wav"
    assert reason.startswith(f"{broken} is truncated")
    assert reason.endswith("since 8000 Hz is a lower rate: download it again")
    assert broken.read_bytes() == before
    assert soundfile.info(gone).samplerate == 16000


def test_another_process_is_kept_out(task):
    with FileLock(task / ".32000.lock"):
        with pytest.raises(ConfigError, match=r"another process is writing .*32000; wait for it"):
            resample_task(task, 32000)
        assert resample_task(task, 8000).written == 6
    assert resample_task(task, 32000).written == 6
    with FileLock(task / ".32000.lock"):
        assert resample_task(task, 32000) == (0, 6, {})


def test_an_invalid_task_is_refused(tmp_path):
    with pytest.raises(TaskError, match=r"is not a HEAR task: it has no task_metadata.json"):
        resample_task(tmp_path, 32000)
    (tmp_path / "task_metadata.json").touch()
    with pytest.raises(TaskError, match=r"has no audio"):
        resample_task(tmp_path, 32000)
