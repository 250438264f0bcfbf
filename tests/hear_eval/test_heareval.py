"""The HEAR tools themselves, unmodified, on our plug-ins with real weights and real audio."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile

import pytest

from tests.goldens import MN04, SHARED, needs_mn04

ESC10 = SHARED / "data" / "esc10"
DIGITS = SHARED / "data" / "hear_tasks" / "hear-2021.0.6-spoken_digit-1.0.9-small-44100.tar.gz"
ENVIRONMENT = {
    **os.environ,
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "HEAR_CHECKPOINTS": str(MN04.parent),
}

pytestmark = [
    needs_mn04,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("heareval", "hearvalidator"))),
        reason="the HEAR tools are not installed: python -m hear_eval.install",
    ),
]


def run(*arguments, cwd=None):
    result = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("hear_mn.mn04_e1_l", ["--model", MN04]),
        ("hear_mn.mn04_all_b_mel_avgs", []),
        ("hear_mn.mn04_as_e1_l", []),
    ],
)
def test_hear_validator(module, options):
    assert "Looks good!" in run("hearvalidator.validate", module, *options)


@pytest.mark.slow
def test_heareval_embeds_and_scores(tmp_path):
    """ESC-10 made into a task, and a task as HEAR distributes it, brought to 32 kHz."""
    tasks = tmp_path / "tasks"
    table = tmp_path / "esc10.csv"
    table.write_text((ESC10 / "meta.csv").read_text())
    run("hear_cli", "tasks", "make", table, tasks, "--audio", ESC10 / "audio")
    with tarfile.open(DIGITS) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "hear-2021.0.6" / "tasks" / "spoken_digit-1.0.9-small").rename(tasks / "digits")
    run("hear_cli", "tasks", "resample", tasks / "digits", "--rate", 32000)

    run("heareval.embeddings.runner", "hear_mn.mn04_e1_l", "--tasks-dir", tasks, cwd=tmp_path)
    folders = sorted((tmp_path / "embeddings" / "hear_mn.mn04_e1_l").iterdir())
    run("heareval.predictions.runner", *folders, cwd=tmp_path)
    scores = {
        folder.name: json.loads((folder / "test.predicted-scores.json").read_text())
        for folder in folders
    }
    assert scores.keys() == {"esc10", "digits"}
    assert scores["esc10"]["aggregated_scores"]["test_top1_acc_mean"] >= 0.96
    assert 0 <= scores["digits"]["aggregated_scores"]["test_top1_acc_mean"] <= 1
