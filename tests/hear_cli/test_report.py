"""``hear report``."""

from __future__ import annotations

import csv

import pytest

from tests.hear_cli.command import hear
from tests.scores import write_scores


@pytest.fixture
def embeddings(tmp_path):
    folder = tmp_path / "embeddings"
    write_scores(folder / "hear_mn.a" / "esc50-v2.0.0-full", 0.9, 0.8)
    write_scores(folder / "hear_mn.a" / "esc10", 0.5)
    write_scores(folder / "hear_mn.b" / "esc50-v2.0.0-full", 0.9475)
    return folder


def test_report(embeddings, tmp_path):
    output = tmp_path / "out"
    said = hear("report", *sorted(embeddings.iterdir()), "-o", output)
    lines = [line.split() for line in said.splitlines()]
    assert lines[:3] == [
        ["model", "tasks", "common", "all", "general", "esc10"],
        ["hear_mn.b", "1", "100.0", "100.0", "100.0"],
        ["hear_mn.a", "2", "89.7", "89.7", "89.7", "50.0"],
    ]
    assert lines[3][:2] == [f"{output}:", "report.md,"]
    assert {"report.md", "report.csv", "report.html", "categories.svg", "tasks.png"} <= {
        file.name for file in output.iterdir()
    }
    with (output / "report.csv").open(newline="") as file:
        assert len({row["model"] for row in csv.DictReader(file)}) == 36


def test_against_nothing_and_without_pictures(embeddings, tmp_path):
    hear("report", embeddings, "-o", tmp_path / "o", "--against", "none", "--no-pictures")
    assert sorted(file.name for file in (tmp_path / "o").iterdir()) == [
        "report.csv",
        "report.html",
        "report.md",
    ]
    assert "leaderboard," not in (tmp_path / "o" / "report.csv").read_text()


def test_damaged_and_unfinished_folders_are_named(embeddings, tmp_path):
    (embeddings / "hear_mn.b" / "esc50-v2.0.0-full" / "test.predicted-scores.json").write_text("{")
    waiting = embeddings / "hear_mn.b" / "esc10"
    waiting.mkdir()
    (waiting / "task_metadata.json").write_text("{}")
    arguments = ["report", embeddings, "-o", tmp_path / "o", "--no-pictures"]
    said = hear(*arguments, code=1)
    assert f"1 folders are not evaluated yet:\n  {waiting}\n" in said
    assert "1 scores are left out:" in said
    assert "test.predicted-scores.json cannot be read as JSON" in said
    assert "**hear_mn.a**" in (tmp_path / "o" / "report.md").read_text()


def test_nothing_to_report(tmp_path):
    said = hear("report", tmp_path, "-o", tmp_path / "o", code=1)
    assert said.startswith("hear: there are no scores in")
    assert not (tmp_path / "o").exists()
