"""``hear evaluate``."""

from __future__ import annotations

import json
import math

import pytest

from hear_eval.report.results import read_results
from tests.hear_cli.command import hear
from tests.hear_eval.embedding_folders import write_events, write_scenes
from tests.scores import write_scores

GRID = {"hidden_layers": [0], "max_epochs": [6]}
QUICK = ("--grid-points", 2, "--device", "cpu")


@pytest.fixture
def folders(tmp_path):
    write_scenes(tmp_path / "scenes", grid=GRID)
    write_events(tmp_path / "events", grid=GRID)
    return tmp_path


def test_evaluate(folders):
    said = hear("evaluate", folders, *QUICK)
    scores = {
        name: json.loads((folders / name / "test.predicted-scores.json").read_text())
        for name in ("scenes", "events")
    }
    rows = [line.split() for line in said.splitlines()]
    mean = scores["scenes"]["aggregated_scores"]["test_top1_acc_mean"]
    model = folders.name
    assert [model, "scenes", "top1_acc", f"{mean:.4f}"] in [row[:4] for row in rows]
    recall = scores["events"]["test"]["test_event_onset_200ms_fms_recall"]
    assert [model, "events", "event_onset_200ms_fms_recall", f"{recall:.4f}"] in rows

    again = hear("evaluate", folders / "scenes", *QUICK)
    assert "was done before; --again evaluates it again" in again
    assert [line.split() for line in again.splitlines()][-1] in rows
    assert "before" not in hear("evaluate", folders / "scenes", *QUICK, "--again")

    error = hear("evaluate", folders, *QUICK, "--seed", 1, code=1)
    for name in ("scenes", "events"):
        found = f"{folders / name} was evaluated with other settings: seed is 42 there and 1 here"
        assert found in error
    hear("evaluate", folders / "events", *QUICK, "--seed", 1, "--again")
    assert "seed is 1 there and 42 here" in hear("evaluate", folders, *QUICK, code=1)


def test_one_folder_that_is_wrong_does_not_keep_others_from_being_evaluated(folders):
    (folders / "events" / "valid.embeddings.npy").unlink()
    error = hear("evaluate", folders, *QUICK, code=1)
    assert "has no valid.embeddings.npy" in error
    assert not (folders / "events" / "prediction-done.json").exists()
    assert (folders / "scenes" / "prediction-done.json").exists()


def test_what_is_undefined_is_named_and_counts_as_in_a_report(tmp_path):
    folder = write_scores(tmp_path / "m" / "barks", 0.5, math.nan, metric="event_onset_50ms_fms")
    (folder / "task_metadata.json").write_text("{}")
    said = hear("evaluate", tmp_path)
    remark = "event_onset_50ms_fms is undefined in 1 of 2 folds, and counts as 0 there"
    assert f"{folder}: {remark}" in said
    assert said.splitlines()[-1].split() == [
        *("m", "barks", "event_onset_50ms_fms", "0.2500", "±", "0.3536", "(2)")
    ]
    score = read_results([tmp_path]).models[0].scores["barks"]
    assert (score.value, score.std) == (0.25, pytest.approx(0.3536, abs=1e-4))


def test_evaluate_refuses_a_folder_without_embeddings(tmp_path):
    assert "no embeddings in" in hear("evaluate", tmp_path, code=1)


def test_folders_inside_the_folder_of_a_task_are_ignored(folders):
    hear("evaluate", folders / "events", *QUICK)
    write_scenes(folders / "events" / "test" / "inner", grid=GRID)
    assert "inner" not in hear("evaluate", folders / "events", folders / "events" / ".", *QUICK)


def test_evaluate_refuses_an_unknown_grid(folders):
    assert "unknown grid 'slow'" in hear("evaluate", folders, "--grid", "slow", code=1)
