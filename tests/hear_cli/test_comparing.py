"""``hear mini`` and ``hear search``: the way from sounds to what embeddings are worth."""

from __future__ import annotations

import csv
import json

import pytest

from hear_eval import mini
from tests.hear_cli.command import hear
from tests.hear_cli.test_run import write_sounds
from tests.hear_eval.test_mini import sounds

QUICK = ["--grid", "faster", "--grid-points", 1]


def test_mini(tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "SCENES", {"train": 2, "valid": 1, "test": 1})
    table = sounds(tmp_path, mini.CLASSES)
    random = ["--model-options", json.dumps({"pretrained": False, "engine": "torch"})]
    given = ["mini", "mn01_all_b_mel_avgs", "-o", tmp_path / "mini", *random, *QUICK]
    said = hear(*given, "--sounds", table).splitlines()
    assert said[0].split() == ["module", "dimensions", "esc10", "esc10_events", "mean"]
    name, size, esc10, events, mean = said[1].split()
    assert (name, size) == ("hear_mn.mn01_all_b_mel_avgs", "184")
    assert float(mean) == pytest.approx((float(esc10) + float(events)) / 2, abs=1e-4)
    folder = next((tmp_path / "mini" / "embeddings").iterdir()) / "esc10"
    scores = json.loads((folder / "test.predicted-scores.json").read_text())
    assert f"{scores['aggregated_scores']['test_score_mean']:.4f}" == esc10
    assert hear(*given).splitlines() == said  # the sounds are not needed twice


def test_mini_needs_sounds_once(tmp_path):
    assert "give --sounds to make them" in hear("mini", "mn01_e1_l", "-o", tmp_path, code=1)


def test_search(tmp_path):
    table = write_sounds(tmp_path / "sounds", 12, 0.5)
    hear("tasks", "make", table, tmp_path / "tasks", "--folds", 3, "--name", "ab")
    given = ["search", "mn01_as", "--tasks-dir", tmp_path / "tasks", "-o", tmp_path / "out"]
    given += ["--tap", "mel_avgs", "--tap", "b5", "--random-weights", *QUICK]
    said = hear(*given).splitlines()
    assert said[0].split() == ["taps", "dimensions", "mean", "ab"]
    assert said[-1] == f"3 combinations of mn01_as: {tmp_path / 'out' / 'mn01_as.csv'}"
    with (tmp_path / "out" / "mn01_as.csv").open(newline="") as file:
        rows = {row["taps"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"mel_avgs", "b5", "mel_avgs b5"}
    assert [rows[taps]["dimensions"] for taps in ("mel_avgs", "b5", "mel_avgs b5")] == [
        *("128", "8", "136")
    ]
    best = {taps for taps, row in rows.items() if row["best of its size"] == "1"}
    assert best == {line.split("  ")[0] for line in said[1:-1]}
    assert hear(*given).splitlines() == said


def test_a_tap_that_a_backbone_lacks_is_named(tmp_path):
    table = write_sounds(tmp_path / "sounds", 12, 0.5)
    hear("tasks", "make", table, tmp_path / "tasks", "--folds", 3, "--name", "ab")
    given = ["search", "mn01_as", "--tasks-dir", tmp_path / "tasks", "-o", tmp_path / "out"]
    assert "unknown tap 'b99'" in hear(*given, "--tap", "b99", code=1)
