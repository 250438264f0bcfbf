"""``hear tasks``."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import soundfile

from hear_eval.report.leaderboard import leaderboard
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
    said = hear("tasks", "make", table, tmp_path / "tasks", "--seconds", 0.5, "--sample-rate", 8000)
    folds = ", ".join(f"2 fold{fold:02}" for fold in range(1, 6))
    assert said.strip() == f"{tmp_path / 'tasks' / 'meta'}: 10 clips, multiclass: {folds}"
    metadata = json.loads((tmp_path / "tasks" / "meta" / "task_metadata.json").read_text())
    assert metadata["splits"] == [f"fold{fold:02}" for fold in range(1, 6)]


def test_make_chooses_splits(table, tmp_path):
    lines = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("".join(f"{name},{category}\n" for name, _, category in lines))
    options = [
        "--shares",
        60,
        20,
        20,
        "--group",
        r"\d",
        "--sample-rate",
        8000,
        "--sample-rate",
        4000,
    ]
    options += ["--metric", "mAP", "--name", "two"]
    said = hear("tasks", "make", table, tmp_path / "tasks", *options)
    assert said.strip().endswith("two: 10 clips, multiclass: 2 test, 6 train, 2 valid")
    labels = json.loads((tmp_path / "tasks" / "two" / "test.json").read_text())
    assert len({file[4] for file in labels}) == 1  # both clips of one recording
    assert len(list((tmp_path / "tasks" / "two" / "4000").glob("*/*.wav"))) == 10


@pytest.mark.parametrize(
    ("category", "options", "kind"),
    [
        ("hiss;buzz", ["--separator", ";"], "multilabel"),
        ("hiss;buzz", [], "multiclass"),
        ("", [], "multilabel"),
        ("hiss", ["--kind", "multilabel"], "multilabel"),
    ],
)
def test_make_tells_the_kind(table, tmp_path, category, options, kind):
    table.write_text(table.read_text().replace("1,hiss", f"1,{category}"))
    said = hear("tasks", "make", table, tmp_path / "tasks", "--sample-rate", 8000, *options)
    assert f"10 clips, {kind}: " in said


def test_make_events(table, tmp_path):
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    lines = [f"{name},{fold},{category},0.1,0.2" for name, fold, category in rows]
    table.write_text("\n".join(["filename,fold,event_label,onset,offset", *lines]))
    assert "10 clips, events: " in hear(
        "tasks", "make", table, tmp_path / "tasks", "--sample-rate", 8000
    )


def test_make_of_folders(table, tmp_path):
    for path in tmp_path.glob("*.wav"):
        target = tmp_path / "sounds" / path.stem[:4] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    output = tmp_path / "tasks"
    said = hear("tasks", "make", tmp_path / "sounds", output, "--folds", 3, "--sample-rate", 8000)
    assert said.startswith(f"{output / 'sounds'}: 10 clips, multiclass: ")
    wrong = hear("tasks", "make", tmp_path / "sounds", output, "--separator", ",", code=1)
    assert "need a table" in wrong


def test_resample_and_check(table, tmp_path):
    hear("tasks", "make", table, tmp_path / "tasks", "--seconds", 0.5, "--sample-rate", 8000)
    task = tmp_path / "tasks" / "meta"
    said = hear("tasks", "resample", tmp_path / "tasks", "--sample-rate", 4000)
    assert said == f"{task}: 10 files written at 4000 Hz\n"
    said = hear("tasks", "check", tmp_path / "tasks")
    assert said == f"{task}: 10 clips in 5 splits, at 4000, 8000 Hz: nothing wrong\n"
    broken = task / "8000" / "fold01" / "hiss1.wav"
    broken.write_bytes(broken.read_bytes()[:-4])
    (task / "4000" / "fold02" / "hiss2.wav").write_bytes(b"")
    said = hear("tasks", "resample", task, "--sample-rate", 4000)
    assert said == f"{task}: 1 files written at 4000 Hz, 9 were there\n"
    (task / "4000" / "fold02" / "hiss2.wav").unlink()
    found = checked(task)
    assert f"{broken} is truncated" in found
    assert "hiss2.wav is missing" in found
    assert "2 wrong" in found
    broken.write_bytes(b"no sound")
    assert "hiss1.wav cannot be read as audio" in hear(
        *("tasks", "resample", task, "--sample-rate", 2000), code=1
    )
    assert len(list((task / "2000").glob("*/*.wav"))) == 9


def test_check_of_no_task(tmp_path):
    assert "has no task_metadata.json" in checked(tmp_path)
    assert "there is no HEAR task in" in hear("tasks", "resample", tmp_path, code=1)


def checked(folder):
    """Return the problems found, which are results on stdout and not errors of the command."""
    with pytest.raises(AssertionError) as caught:
        hear("tasks", "check", folder)
    return str(caught.value)


def test_list():
    said = hear("tasks", "list")
    lines = said.splitlines()
    assert len(lines) == 1 + 20  # Beehive has two folders
    assert "esc50-v2.0.0-full" in said
    columns = {task for model in leaderboard() for task in model.scores}
    assert {line[:21].strip() for line in lines[1:]} - {""} == columns


def test_mix(table, tmp_path):
    options = ["--valid", "4", "--test", "5,3", "--scenes", 3, 1, 1, "--seconds", 2]
    options += ["--sample-rate", 8000, "--events", 1, 2, "--snr", -3, 12, "--name", "noises"]
    said = script("tasks", "mix", table, tmp_path / "tasks", *options)
    task = tmp_path / "tasks" / "noises"
    assert said.strip() == f"{task}: scenes of 2 s: 3 train, 1 valid, 1 test"
    assert len(list((task / "8000" / "train").iterdir())) == 3
    mixture = json.loads((task / "task_metadata.json").read_text())["mixture"]
    assert mixture["events"] == [1, 2]
    assert mixture["snr"] == [-3, 12]
    again = hear("tasks", "mix", table, tmp_path / "tasks", *options, code=1)
    assert again.startswith(f"hear: {task} exists already")


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
        (["--valid", "4", "--test", "4,5"], "fold 4 cannot be both for validation and for testing"),
    ],
)
def test_what_cannot_be_mixed(table, tmp_path, options, message):
    assert message in hear("tasks", "mix", table, tmp_path / "tasks", *options, code=1)
    assert not (tmp_path / "tasks").exists()


def test_a_table_without_its_columns(table, tmp_path):
    table.write_text("file,label\n")
    said = hear("tasks", "mix", table, tmp_path / "tasks", code=1)
    assert "must have rows, and a column filename or file or fname or path, and category or" in said


def test_mix_reads_the_tables_that_make_reads(table, tmp_path):
    """Use other column names, a byte order mark as written by spreadsheets, and folds like 05."""
    text = table.read_text().replace("filename,fold,category", "file,fold,label")
    table.write_text(text.replace(",5,", ",05,"), encoding="utf-8-sig")
    options = ["--valid", 4, "--test", 5, "--scenes", 1, 1, 1, "--seconds", 1]
    said = hear("tasks", "mix", table, tmp_path / "tasks", *options)
    assert "1 train, 1 valid, 1 test" in said
    table.write_bytes("file,fold,label\na.wav,1,l\xe4rm\n".encode("latin-1"))
    assert "is not UTF-8" in hear("tasks", "mix", table, tmp_path / "tasks", *options, code=1)
