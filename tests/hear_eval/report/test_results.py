"""Scores on disk."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_eval.downstream.result_files import SCORES
from hear_eval.report.leaderboard import TaskScore
from hear_eval.report.results import ScoreError, read_results
from tests.scores import write_scores

ESC50 = "esc50-v2.0.0-full"


@pytest.fixture
def embeddings(tmp_path):
    """Two modules, one of them in two tasks, and a folder without scores."""
    folder = tmp_path / "embeddings"
    write_scores(folder / "hear_mn.a" / ESC50, 0.9, 0.8, 1.0)
    write_scores(folder / "hear_mn.a" / "esc10", 0.5)
    write_scores(folder / "hear_mn.b" / ESC50, 0.7, 0.7)
    waiting = folder / "hear_mn.b" / "esc10"
    waiting.mkdir()
    (waiting / "task_metadata.json").write_text("{}")
    (folder / "hear_mn.a" / ESC50 / "fold00").mkdir()
    (folder / "notes.txt").write_text("not a folder")
    return folder


def test_folders_may_be_of_models_of_all_models_and_of_tasks(embeddings, monkeypatch):
    wanted = read_results([embeddings])
    assert [model.name for model in wanted.models] == ["hear_mn.a", "hear_mn.b"]
    assert {name: set(model.scores) for name, model in zip("ab", wanted.models, strict=True)} == {
        "a": {"ESC-50", "esc10"},
        "b": {"ESC-50"},
    }
    assert wanted.waiting == (embeddings / "hear_mn.b" / "esc10",)
    assert not wanted.problems
    assert read_results(sorted(embeddings.iterdir())) == wanted
    assert read_results(sorted(embeddings.glob("*/*"))) == wanted
    assert read_results([embeddings, embeddings / "hear_mn.a"]) == wanted
    monkeypatch.chdir(embeddings / "hear_mn.a")
    assert read_results([Path()]).models == wanted.models[:1]
    assert read_results([Path(ESC50), Path("esc10")]).models[0].name == "hear_mn.a"


def test_one_split_has_no_deviation(embeddings):
    model = read_results([embeddings / "hear_mn.a"]).models[0]
    assert model.scores["esc10"] == TaskScore(0.5, None, "top1_acc", False)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=10))
def test_folds_are_aggregated_as_in_heareval(tmp_path_factory, folds):
    predictions = pytest.importorskip("heareval.predictions.task_predictions")
    wanted = predictions.aggregate_test_results(
        {f"fold{i}": {"test_score": score} for i, score in enumerate(folds)}
    )
    folder = write_scores(tmp_path_factory.mktemp("a") / "model" / ESC50, *folds)
    score = read_results([folder]).models[0].scores["ESC-50"]
    assert score.value == pytest.approx(wanted["test_score_mean"], abs=1e-12)
    assert score.std == pytest.approx(wanted["test_score_std"], abs=1e-9)


def test_the_two_folders_of_beehive_are_one_task(tmp_path):
    for fold, score in ((0, 0.5), (1, 0.7)):
        write_scores(tmp_path / "m" / f"beehive_states_fold{fold}-v2-full", score, metric="aucroc")
    score = read_results([tmp_path]).models[0].scores["Beehive"]
    assert score.value == pytest.approx(0.6)
    assert score.metric == "aucroc"


def test_an_undefined_f_measure_is_zero_and_noted(tmp_path):
    folder = tmp_path / "m" / "maestro-v3.0.0-5h"
    write_scores(folder, 0.4, math.nan, metric="event_onset_50ms_fms")
    found = read_results([tmp_path])
    assert found.models[0].scores["Maestro 5h"].value == pytest.approx(0.2)
    (note,) = found.notes
    assert note.startswith("m in Maestro 5h: event_onset_50ms_fms is undefined in 1 of 2 folds")
    assert note.endswith("counts as 0 there")


def test_an_error_rate_is_better_when_low(tmp_path):
    write_scores(tmp_path / "m" / "noises", 0.4, metric="segment_1s_er", mode="min")
    assert read_results([tmp_path]).models[0].scores["noises"].lower_is_better


def test_the_mode_of_a_loss_is_not_that_of_the_score(tmp_path):
    """Heareval writes the mode of the loss where a task does not validate by its score."""
    write_scores(tmp_path / "m" / "notes", 0.4, metric="event_onset_50ms_fms", mode="min")
    assert not read_results([tmp_path]).models[0].scores["notes"].lower_is_better


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "must hold a JSON object, but holds a list"),
        ('{"score_mode": "max"}', "has no test_score"),
        ('{"aggregated_scores": {"test_score": 1}}', "has no test_score"),
        (
            '{"test": {"test_score": "0.5"}}',
            "of test is '0.5', which is not a score",
        ),
        ('{"test": {"test_score": true}}', "is True, which is not a score"),
        ('{"test": {"test_score": NaN, "test_segment_1s_er": NaN}}', "is undefined in 1 of 1"),
        ('{"test": {"test_score": Infinity, "test_a_fms": 1}}', "is inf, which is not a score"),
        (f'{{"test": {{"test_score": 1{"0" * 400}}}}}', "which is not a score"),
        (b"\xff", "cannot be read as JSON"),
    ],
)
def test_damage_is_named_and_left_out(embeddings, content, message):
    path = embeddings / "hear_mn.a" / ESC50 / SCORES
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_results([embeddings])
    (problem,) = found.problems
    assert str(path) in problem
    assert message in problem
    assert [set(model.scores) for model in found.models] == [{"esc10"}, {"ESC-50"}]


@pytest.mark.parametrize("inner", ["", "embeddings"])
def test_models_of_one_name_are_distinguished_by_their_folders(tmp_path, inner):
    for place, score in (("first", 0.5), ("second", 0.9)):
        write_scores(tmp_path / place / inner / "m" / ESC50, score)
        write_scores(tmp_path / place / inner / "m" / "maestro-v3.0.0-5h", math.nan)
        write_scores(tmp_path / place / inner / "other" / place, score)
    found = read_results([tmp_path / "first" / inner, tmp_path / "second" / inner])
    names = [str(Path(place, inner, "m")) for place in ("first", "second")]
    assert {model.name: model.scores["ESC-50"].value for model in found.models[:2]} == dict(
        zip(names, (0.5, 0.9), strict=True)
    )
    assert not found.problems
    assert [note.split(" in ")[0] for note in found.notes] == names
    # If only one of them is read, its name need not be longer.
    (model, _) = read_results([tmp_path / "first" / inner]).models
    assert model.name == "m"


def test_a_model_may_be_in_several_places(tmp_path):
    for fold, place in enumerate(("first", "second")):
        write_scores(tmp_path / place / "m" / f"beehive_states_fold{fold}-v2-full", fold)
    write_scores(tmp_path / "second" / "m" / ESC50, 0.9)
    found = read_results([tmp_path / "first", tmp_path / "second"])
    (model,) = found.models
    assert (model.name, model.scores.keys()) == ("m", {"Beehive", "ESC-50"})
    assert model.scores["Beehive"].value == 0.5
    assert not found.notes


def test_scores_of_an_interrupted_evaluation_are_noted(tmp_path):
    for name in (ESC50, "esc10", "whole"):
        folder = write_scores(tmp_path / "m" / name, 0.5)
        if name != "whole":
            (folder / "prediction-done.json").unlink()
    found = read_results([tmp_path])
    assert len(found.models[0].scores) == 3
    (note,) = found.notes
    assert note.startswith("m in esc10, ESC-50: there is no prediction-done.json beside the scores")
    assert not found.problems


def test_two_versions_of_a_task_are_not_its_folds(tmp_path):
    for version, score in (("1", 0.5), ("2", 0.9)):
        write_scores(tmp_path / "m" / f"esc50-v{version}-full", score)
    found = read_results([tmp_path])
    assert found.models[0].scores["ESC-50"] == TaskScore(0.5, None, "top1_acc")
    assert len(found.problems) == 1


def test_a_name_that_is_not_text_can_be_written(tmp_path):
    write_scores(tmp_path / os.fsdecode(b"m\xff") / "esc10", 0.5)
    (model,) = read_results([tmp_path]).models
    assert model.name == "m\N{REPLACEMENT CHARACTER}"


def test_folders_without_scores_are_refused(tmp_path):
    with pytest.raises(ScoreError, match="no scores in"):
        read_results([tmp_path])


def test_what_heareval_wrote_is_read(tmp_path):
    """Written by heareval 2021.1: two folds, their aggregates, and all other fields of the file."""
    fold = {"test_loss": 0.1, "test_score": 0.9, "test_mAP": 0.9, "test_top1_acc": 0.8}
    more = {"validation_score": 1.0, "epoch": 41, "time_in_min": 0.05}
    content = {
        "fold00": fold | more,
        "fold01": fold | more | {"test_score": 0.7},
        "aggregated_scores": {"test_score_mean": 0.8, "test_score_std": 0.1414213562373095},
        "hparams": {"lr": 0.001},
        "postprocessing": [["median_filter_ms", 250]],
        "score_mode": "max",
        "embedding_path": "embeddings/m/vocal_imitation-v1.1.3-full",
    }
    folder = tmp_path / "m" / "vocal_imitation-v1.1.3-full"
    folder.mkdir(parents=True)
    (folder / SCORES).write_text(json.dumps(content))
    score = read_results([folder]).models[0].scores["Vocal Imitation"]
    assert score == TaskScore(pytest.approx(0.8), pytest.approx(0.1414213562), "mAP", False)
