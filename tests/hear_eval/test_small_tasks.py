import numpy as np
import pytest
import soundfile

from hear_eval import small_tasks
from hear_eval.small_tasks import SMALL_TASKS, available_tasks, make_small_task
from hear_eval.tasks.checking import check_task
from hear_eval.tasks.description import TaskError, read_description, read_labels
from hear_eval.tasks.synthetic_notes import SAMPLE_RATE, random_timbre, synthesise_notes


def package(root, task, names):
    """The folders of an extracted package, with files of noise."""
    rng = np.random.default_rng(0)
    for name in names:
        path = root / SMALL_TASKS[task].sounds / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(2000), 16000)


def test_packages_are_found_where_they_were_extracted(tmp_path):
    package(tmp_path, "letters", ["en/alpha/A.ogg"])
    found = available_tasks([tmp_path])
    assert found["letters"] == tmp_path / SMALL_TASKS["letters"].sounds
    assert found["pitch"] is None
    assert "drums" not in found or found["drums"].is_absolute()


def test_drums_are_named_by_their_files_and_kits_stay_together(tmp_path):
    kits = [f"kit{i}/{name}" for i in range(6) for name in ("bd_01.flac", "My Snare-Hard.wav")]
    package(tmp_path, "drums", [*kits, "kit0/beats_01-10.flac", "kit1/RimClick-0.wav"])
    task = make_small_task(tmp_path, "drums", available_tasks([tmp_path])["drums"])
    description = read_description(task)
    assert description.vocabulary == ("kick", "snare")
    kits_of = []
    for split in description.splits:
        labels = read_labels(task, split, description)
        kits_of.append({name.split("__")[0].split("/")[0][:4] for name in labels})
    assert sum(len(kits) for kits in kits_of) == 6
    assert not check_task(task).problems


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("EE_Kick_Hard_2", "kick"),
        ("hihat-closed-4", "hihat"),
        ("HiHatSemiopen-3", "hihat"),
        ("VP Snare 2", "snare"),
        ("PearlTom1-Soft", "tom"),
        ("ft_01", "tom"),
        ("crash16i__ride2", "ride"),
        ("ZildjianSplash-Med", "crash"),
        ("SnareRim-4", None),
        ("beats_01-10", None),
    ],
)
def test_the_instrument_of_a_sample(tmp_path, name, label):
    package(tmp_path, "drums", [f"kit/{name}.wav"])
    found = list(SMALL_TASKS["drums"].find(tmp_path / SMALL_TASKS["drums"].sounds))
    assert [recording.labels[0] for recording in found] == ([label] if label else [])


def test_spoken_names_have_their_language_and_a_name_without_one_is_english(tmp_path):
    names = ["a/cat_desc.ogg", "a/cat_desc_fr.ogg", "a/cat_desc_zz.ogg", "a/cat.ogg"]
    package(tmp_path, "languages", names)
    found = list(SMALL_TASKS["languages"].find(tmp_path / SMALL_TASKS["languages"].sounds))
    assert {(r.labels[0], r.group) for r in found} == {("en", "a/cat"), ("fr", "a/cat")}


def test_another_folder_is_not_a_task(tmp_path):
    package(tmp_path, "letters", ["en/alpha/A.ogg"])
    with pytest.raises(TaskError, match=r"of the package klettres-data"):
        make_small_task(tmp_path, "letters", tmp_path / SMALL_TASKS["letters"].sounds)


@pytest.mark.parametrize("task", ["pitch", "polyphony"])
def test_synthetic_tasks_keep_timbres_together(tmp_path, monkeypatch, task):
    smaller = {"_TIMBRES": 5, "_NOTES": range(60, 65), "_CHORDS_PER_TIMBRE": 5}
    for name, value in smaller.items():
        monkeypatch.setattr(small_tasks, name, value)
    made = make_small_task(tmp_path, task)
    description = read_description(made)
    for split in description.splits:
        timbres = {name.split("_")[0] for name in read_labels(made, split, description)}
        assert len(timbres) == 1
    assert len(description.vocabulary) == 5


@pytest.mark.parametrize("pitch", [45, 69, 81])
def test_a_note_has_its_pitch(pitch):
    rng = np.random.default_rng(pitch)
    timbre = random_timbre(rng)._replace(vibrato=0.0, inharmonicity=0.0, noise=0.001, decay=1.0)
    waveform = synthesise_notes([pitch], [timbre], rng)
    assert waveform.dtype == np.float32
    assert np.abs(waveform).max() == pytest.approx(0.5)
    period = SAMPLE_RATE / (440 * 2 ** ((pitch - 69) / 12))
    spectrum = np.abs(np.fft.rfft(waveform, 2**18)) ** 2
    correlation = np.fft.irfft(spectrum)
    low, high = round(period * 0.7), round(period * 1.4)
    assert low + np.argmax(correlation[low:high]) == pytest.approx(period, abs=1.5)
