"""``hear mini`` and ``hear search``: from sounds to scores of embeddings."""

from __future__ import annotations

import csv
import hashlib
import json

import pytest

from hear_cli import mini as mini_command
from hear_eval import mini
from hear_eval.small_tasks import SMALL_TASKS
from tests.hear_cli.command import hear
from tests.hear_cli.test_run import write_sounds
from tests.hear_eval.test_mini import sounds
from tests.hear_eval.test_small_tasks import package

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
    said = hear("mini", "mn04_e1_l", "-o", tmp_path, code=1)
    assert "give --sounds or --more to make them" in said


def test_mini_makes_more_tasks_as_far_as_there_are_sounds(tmp_path, monkeypatch):
    package(tmp_path, "letters", [f"{name}/alpha/{x}.ogg" for name in LANGUAGES for x in "ab"])
    monkeypatch.setattr(
        mini_command, "available_tasks", lambda roots: {"letters": letters_in(*roots)}
    )
    given = ["mini", "starter", "-o", tmp_path / "mini", *QUICK, "--more", "--packages", tmp_path]
    said = hear(*given)
    assert ["module", "dimensions", "letters", "mean"] in [
        line.split() for line in said.splitlines()
    ]
    assert "give --more too" in hear("mini", "starter", "--packages", tmp_path, code=2)


LANGUAGES = ("de", "en", "es", "it", "nl")


def letters_in(root):
    return root / SMALL_TASKS["letters"].sounds


PLUGIN = """
import torch

class Model:
    sample_rate = 32000

def load_model(model_file_path=""):
    return Model()

def get_scene_embeddings(audio, model):
    return torch.stack([audio.std(1), audio.abs().mean(1), audio.amax(1)], 1)
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two small tasks in the place of mini-HEAR's, a plug-in that says no size, and no plug-in."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "loudness.py").write_text(PLUGIN)
    (tmp_path / "no_plugin.py").touch()
    table = write_sounds(tmp_path / "sounds", 12, 0.5)
    for name in ("one", "two"):
        hear("tasks", "make", table, tmp_path / "mini" / "tasks", "--folds", 3, "--name", name)
    return tmp_path


def mini_of(small, *more, code=0):
    given = ["mini", "loudness", "-o", small / "mini", *QUICK, "--device", "cpu", *more]
    return hear(*given, code=code)


def scores_of(said):
    return [line.split() for line in said.splitlines()]


def test_mini_evaluates_again_for_other_options(small):
    done = small / "mini" / "embeddings" / "loudness" / "one" / "prediction-done.json"
    first = mini_of(small)
    assert scores_of(first)[0] == ["module", "dimensions", "one", "two", "mean"]
    assert len(scores_of(first)[1]) == 4  # without a size
    for seed in (1, 42):
        last = mini_of(small, "--seed", seed, "--precision", "float32")
        found = json.loads(done.read_text())
        assert (found["seed"], found["precision"], found["device"]) == (seed, "float32", "cpu")
    before = done.stat().st_mtime_ns
    assert mini_of(small) == last
    assert done.stat().st_mtime_ns == before


def test_checkpoints_of_a_module_are_compared_by_their_names(small):
    for name in ("first", "second"):
        (small / name).write_text(name)
        said = scores_of(mini_of(small, "--model", small / name, "--name", f"{name}-run"))
        assert said[1][0] == f"{name}-run"
        made = small / "mini" / "embeddings" / f"{name}-run" / "one" / "embedding.json"
        weights = hashlib.sha256(name.encode()).hexdigest()
        assert json.loads(made.read_text())["weights"] == weights
    for option, value in (("--model", small / "first"), ("--name", "both")):
        said = mini_of(small, "no_plugin", option, value, code=2)
        assert "is for one module, and there are 2: loudness, no_plugin" in " ".join(said.split())


def test_one_that_fails_does_not_keep_mini_from_others(small, monkeypatch):
    tasks = small / "mini" / "tasks"
    clip = next((tasks / "one" / "32000" / "fold01").iterdir())
    clip.write_bytes(b"no sound")
    tables = []
    monkeypatch.setattr(mini_command, "print_table", lambda *table: tables.append(table))
    err = mini_of(small, "no_plugin", code=1)
    assert "hear: no_plugin is not a HEAR plug-in" in err
    assert f"1 clips could not be resampled: {clip}" in err
    assert "hear: one with loudness: " in err
    assert "hear: 3 of 4 failed" in err
    ((head, (row,)),) = tables
    assert head == ["module", "dimensions", "one", "two", "mean"]
    assert row[:3] == ["loudness", "", ""]
    assert 0 <= float(row[3]) <= 1
    assert row[4] == ""


def test_options_of_mini_are_not_ignored(small):
    said = mini_of(small, "--audio", small / "sounds", code=2)
    assert "give --sounds too" in said
    hear("tasks", "make", small / "sounds" / "meta.csv", small, "--folds", 3, "--name", "digits")
    said = scores_of(mini_of(small, "--digits", small / "digits"))
    assert said[0] == ["module", "dimensions", "digits", "one", "two", "mean"]


def test_search(tmp_path):
    table = write_sounds(tmp_path / "sounds", 12, 0.5)
    hear("tasks", "make", table, tmp_path / "tasks", "--folds", 3, "--name", "ab")
    given = ["search", "mn01_as", "--tasks-dir", tmp_path / "tasks", "-o", tmp_path / "out"]
    given += ["--tap", "mel_avgs", "--tap", "b5", "--random-weights", *QUICK, "--device", "cpu"]
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
    assert "unknown precision 'float8'" in hear(*given, "--precision", "float8", code=1)
    message = "Nothing can be computed on the device 'nowhere' here"
    assert message in hear(*given, "--device", "nowhere", code=2)


def test_a_tap_that_a_backbone_lacks_is_named(tmp_path):
    table = write_sounds(tmp_path / "sounds", 12, 0.5)
    hear("tasks", "make", table, tmp_path / "tasks", "--folds", 3, "--name", "ab")
    given = ["search", "mn01_as", "--tasks-dir", tmp_path / "tasks", "-o", tmp_path / "out"]
    assert "unknown tap 'b99'" in hear(*given, "--tap", "b99", code=1)
