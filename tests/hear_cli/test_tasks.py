"""``hear tasks``."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import soundfile

from tests.hear_cli.command import hear, script


@pytest.fixture
def table(tmp_path):
    """Clips of two classes in five folds, beside their table."""
    rng = np.random.default_rng(0)
    with (tmp_path / "meta.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "fold", "category"])
        for fold in range(1, 6):
            for category in ("hiss", "buzz"):
                name = f"{category}{fold}.wav"
                soundfile.write(tmp_path / name, 0.1 * rng.standard_normal(4000), 8000)
                rows.writerow([name, fold, category])
    return tmp_path / "meta.csv"


def test_make(table, tmp_path):
    said = script("tasks", "make", table, tmp_path / "tasks", "--seconds", 0.5, "--rate", 8000)
    assert said.strip() == f"{tmp_path / 'tasks' / 'meta'}: 10 clips"
    metadata = json.loads((tmp_path / "tasks" / "meta" / "task_metadata.json").read_text())
    assert metadata["splits"] == [f"fold{fold:02}" for fold in range(1, 6)]


def test_mix(table, tmp_path):
    options = ["--valid", "4", "--test", "5,3", "--scenes", 3, 1, 1, "--seconds", 2]
    options += ["--rate", 8000, "--events", 1, 2, "--snr", -3, 12, "--name", "noises"]
    said = script("tasks", "mix", table, tmp_path / "tasks", *options)
    task = tmp_path / "tasks" / "noises"
    assert said.strip() == f"{task}: scenes of 2 s: 3 train, 1 valid, 1 test"
    assert len(list((task / "8000" / "train").iterdir())) == 3
    mixture = json.loads((task / "task_metadata.json").read_text())["mixture"]
    assert mixture["events"] == [1, 2]
    assert mixture["snr"] == [-3, 12]
    again = hear("tasks", "mix", table, tmp_path / "tasks", *options, code=1)
    assert again.startswith(f"hear: there is a {task} already")


def test_folds_that_are_called_like_splits_need_no_options(table, tmp_path):
    text = table.read_text()
    for fold, split in zip("12345", ["train"] * 3 + ["valid", "test"], strict=True):
        text = text.replace(f",{fold},", f",{split},")
    table.write_text(text)
    said = hear("tasks", "mix", table, tmp_path / "tasks", "--scenes", 1, 1, 1, "--seconds", 1)
    assert "1 train, 1 valid, 1 test" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "has no fold test, valid to validate or test on"),
        (["--valid", "4", "--test", "6"], "has no fold 6 to validate or test on"),
        (["--valid", "4", "--test", "4,5"], "fold 4 cannot be both to validate and to test on"),
        (["--valid", "4", "--test", "5", "--polyphony", "0"], "polyphony must be at least 1"),
    ],
)
def test_what_cannot_be_mixed(table, tmp_path, options, message):
    assert message in hear("tasks", "mix", table, tmp_path / "tasks", *options, code=1)
    assert not (tmp_path / "tasks").exists()


def test_a_table_without_its_columns(table, tmp_path):
    table.write_text("file,label\n")
    said = hear("tasks", "mix", table, tmp_path / "tasks", code=1)
    assert "must have rows, and the columns filename, category and fold" in said
