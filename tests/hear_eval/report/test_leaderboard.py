"""The leaderboard against published values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_eval.report.leaderboard import (
    ScoredModel,
    TaskScore,
    best_of_2021,
    categories,
    leaderboard,
    means,
    normalised,
    task_of,
)
from hear_eval.tasks.published import hear_tasks
from tests.goldens import facts

# The columns of the published table.
SHORT = (
    *("Beehive", "Beijing Opera", "CREMA-D", "DCASE 2016", "ESC-50", "FSD50K", "GTZAN Genre"),
    *("GTZAN Music/Speech", "Gunshot", "Libricount", "Maestro 5h", "Mridangam Stroke"),
    *("Mridangam Tonic", "NSynth Pitch 50h", "NSynth Pitch 5h", "Speech commands 5h"),
    *("Speech commands full", "Vocal Imitation", "VoxLingua107 top 10"),
)


def model(name):
    (found,) = [model for model in leaderboard() if model.name == name]
    return found


@pytest.mark.parametrize(
    ("name", "submitted", "tasks", "mean"),
    [
        ("GURA Fuse Cat H+w+C", "HEAR 2021", 18, 93.12),
        ("RedRice ced_base", "2023-09-26", 19, 87.76),
        ("CP-JKU PaSST base", "HEAR 2021", 17, 80.94),
        ("CP-JKU mn40_as (e1+l+all_se)", "2023-01-05", 19, 80.29),
        ("CP-JKU mn04_as (e1+l)", "2023-01-05", 19, 65.65),
        ("Soundsensing YAMNet", "HEAR 2021", 16, 52.76),
    ],
)
def test_means_are_those_that_are_published(name, submitted, tasks, mean):
    found = model(name)
    assert (found.submitted, len(found.scores)) == (submitted, tasks)
    assert 100 * means(normalised(found))["all"] == pytest.approx(mean, abs=0.006)


@pytest.mark.parametrize(
    ("name", "general", "music", "speech"),
    [
        ("RedRice ced_base", 93.1, 86.2, 82.5),
        ("RedRice ced_small", 92.8, 82.9, 78.6),
        ("RedRice ced_mini", 92.1, 80.5, 75.9),
        ("CP-JKU mn40_as (e1+l+all_se)", 90.3, 72.2, 77.6),
        ("CP-JKU mn04_as (e1+l)", 80.3, 60.0, 52.9),
    ],
)
def test_means_by_category_are_those_that_are_published(name, general, music, speech):
    found = means(normalised(model(name)))
    wanted = {"general": general, "music": music, "speech": speech}
    # 86.15 is published as 86.2.
    assert {key: 100 * found[key] for key in wanted} == pytest.approx(wanted, abs=0.06)


def test_every_number_of_the_published_table():
    published = facts("published/leaderboard")
    checked = 0
    for found in leaderboard():
        submitted, count, mean, _, *scores = published["rows"][found.name]
        assert (found.submitted, len(normalised(found))) == (submitted, int(count))
        assert f"{100 * means(normalised(found))['all']:.2f}" == mean
        wanted = {t: float(s) for t, s in zip(SHORT, scores, strict=True) if s != "\u2013"}
        values = {task: score.value for task, score in found.scores.items()}
        assert values == pytest.approx(wanted, abs=5.1e-5)
        checked += 1
    assert checked == 34
    divisors = pytest.approx(published["divisors"], abs=5.1e-5)
    assert [best_of_2021()[task] for task in SHORT] == divisors


def test_a_later_submission_is_not_a_divisor():
    assert model("RedRice ced_base").scores["ESC-50"].value > best_of_2021()["ESC-50"]
    assert normalised(model("RedRice ced_base"))["ESC-50"] > 1


def test_the_tasks_are_those_of_the_leaderboard():
    assert set(categories()) == {task for found in leaderboard() for task in found.scores}
    counts = [list(categories().values()).count(name) for name in ("general", "music", "speech")]
    assert counts == [7, 7, 5]
    assert len({(task.task, task.mode) for task in hear_tasks()}) == 19


# Folders as HEAR distributes them, https://hearbenchmark.com/hear-tasks.html.
FOLDERS = {
    "beehive_states_fold0-v2-full": "Beehive",
    "beehive_states_fold1-v2-full": "Beehive",
    "beijing_opera-v1.0-hear2021-full": "Beijing Opera",
    "tfds_crema_d-1.0.0-full": "CREMA-D",
    "dcase2016_task2-hear2021-full": "DCASE 2016",
    "esc50-v2.0.0-full": "ESC-50",
    "fsd50k-v1.0-full": "FSD50K",
    "tfds_gtzan-1.0.0-full": "GTZAN Genre",
    "tfds_gtzan_music_speech-1.0.0-full": "GTZAN Music/Speech",
    "gunshot_triangulation-v1.0-full": "Gunshot",
    "libricount-v1.0.0-hear2021-full": "Libricount",
    "maestro-v3.0.0-5h": "Maestro 5h",
    "mridangam_stroke-v1.5-full": "Mridangam Stroke",
    "mridangam_tonic-v1.5-full": "Mridangam Tonic",
    "nsynth_pitch-v2.2.3-50h": "NSynth Pitch 50h",
    "nsynth_pitch-v2.2.3-5h": "NSynth Pitch 5h",
    "speech_commands-v0.0.2-5h": "Speech commands 5h",
    "speech_commands-v0.0.2-full": "Speech commands full",
    "vocal_imitation-v1.1.3-full": "Vocal Imitation",
    "vox_lingua_top10-hear2021-full": "VoxLingua107 top 10",
}


def test_folders_of_hear_are_its_tasks():
    assert {folder: task_of(folder) for folder in FOLDERS} == FOLDERS


@pytest.mark.parametrize(
    "folder", ["esc10", "esc50", "esc50-v2.0.0-small", "nsynth_pitch-v2.2.3-full", "my-esc50-full"]
)
def test_other_folders_are_tasks_of_their_own(folder):
    assert task_of(folder) == folder


@given(st.dictionaries(st.sampled_from(SHORT), st.floats(0, 1), min_size=1))
def test_means_are_over_the_tasks_that_there_are(values):
    found = ScoredModel(
        "mine", {task: TaskScore(value) for task, value in values.items()} | {"x": TaskScore(9)}
    )
    shares = {task: value / best_of_2021()[task] for task, value in values.items()}
    wanted = {"all": sum(shares.values()) / len(shares)}
    for category in ("general", "music", "speech"):
        some = [share for task, share in shares.items() if categories()[task] == category]
        if some:
            wanted[category] = sum(some) / len(some)
    assert means(normalised(found)) == pytest.approx(wanted)
