"""The ``hear`` command, through its console script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from hear_cli.main import app
from hear_core.export import PRECISIONS, Tolerance

HEAR = Path(sys.executable).with_name("hear")


def hear(*arguments, code=0, **environment):
    result = subprocess.run(
        [HEAR, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PATH": "", "COLUMNS": "100", **environment},
    )
    assert result.returncode == code, result.stdout + result.stderr
    return result.stderr if code else result.stdout


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["list"],
        ["tag"],
        ["listen"],
        ["weights"],
        ["demo"],
        ["export"],
        ["tasks"],
        ["tasks", "make"],
    ],
)
def test_help(command):
    assert "Usage: hear" in hear(*command, "--help")


def test_list():
    lines = hear("list", "mn10_all_b_mel*").splitlines()
    assert lines[0].split() == ["module", "size", "backbone", "mAP", "taps", "pooling"]
    assert lines[1].split() == [
        *("hear_mn.mn10_all_b_mel_avgs", "600", "mn10_as", "0.471"),
        *("mel_avgs", "all_b", "avg"),
    ]


def test_list_as_markdown():
    assert "| hear_mn.mn04_e1_l | 911 | mn04_as | 0.432 |" in hear("list", "mn04*", "--markdown")


def test_demo_says_that_its_weights_are_random(tmp_path):
    output = hear("demo", HEAR_CACHE=str(tmp_path))
    assert "RANDOM" in output
    assert "(1, 911)" in output
    assert "(1, 201, 911)" in output
    assert "0, 50, 100, 150 … 10000 ms" in output


def test_tasks(tmp_path):
    rows = ["filename,category,fold"]
    for fold in (1, 2, 3):
        for label in ("cat", "dog"):
            name = f"{label}{fold}.wav"
            soundfile.write(tmp_path / name, np.random.default_rng(0).uniform(-1, 1, 800), 8000)
            rows.append(f"{name},{label},{fold}")
    (tmp_path / "pets.csv").write_text("\n".join(rows))
    output = hear("tasks", "make", tmp_path / "pets.csv", tmp_path / "tasks", "--seconds", 0.1)
    assert "pets: 6 clips" in output
    assert soundfile.info(tmp_path / "tasks/pets/32000/fold02/dog2.wav").frames == 3200
    output = hear("tasks", "resample", tmp_path / "tasks", "--rate", 16000)
    assert "6 files written at 16000 Hz" in output


def test_errors_are_one_message_and_an_exit_code(tmp_path):
    message = hear("tasks", "resample", tmp_path, code=1)
    assert message == f"hear: no HEAR task in {tmp_path}: nothing in it has a task_metadata.json\n"
    assert "does not exist" in hear("tasks", "make", tmp_path / "gone.csv", tmp_path, code=2)


def test_export_checks_what_it_writes(tmp_path):
    output = hear("export", "mn01_as", tmp_path / "out.onnx", "--random-weights", "--taps", "e1,b3")
    assert "onnxruntime     1.00      1" in output
    assert "e1, b3 -> 104" in output
    assert (tmp_path / "out.onnx").is_file()
    report = json.loads((tmp_path / "out.parity.json").read_text())
    assert all(comparison["passed"] for comparison in report["comparisons"])


def test_export_of_a_module_takes_other_taps(tmp_path):
    arguments = ["export", "mn01_all_b_mel_avgs", str(tmp_path / "out.onnx"), "--random-weights"]
    assert "mel_avgs, b5, b11, b13, b15 -> 184" in CliRunner().invoke(app, arguments).stdout
    arguments += ["--taps", "logits"]
    assert "mn01_as: logits -> 527" in CliRunner().invoke(app, arguments).stdout


def test_export_fails_when_its_check_does(tmp_path, monkeypatch):
    monkeypatch.setitem(PRECISIONS, "float32", Tolerance(relative=1e-9, cosine=1.0))
    arguments = ["export", "mn01_as", str(tmp_path / "out.onnx"), "--random-weights"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert not json.loads((tmp_path / "out.parity.json").read_text())["comparisons"][0]["passed"]


def test_export_of_an_unknown_name(tmp_path):
    message = hear("export", "mn4_e1_l", tmp_path / "out.onnx", code=1)
    assert "unknown module or backbone 'mn4_e1_l'; did you mean" in message
    assert "'mn04_e1_l'" in message
