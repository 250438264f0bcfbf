"""``hear run`` through its command, killed and broken."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time

import numpy as np
import pytest
import soundfile

from tests.hear_cli.command import HEAR, ROOT, hear
from tests.hear_eval.embeddings.test_tasks import contents

MODULE = "mn01_all_b_mel_avgs"
OPTIONS = {"pretrained": False, "engine": "torch"}
FOLDER = "hear_mn.mn01_all_b_mel_avgs-pretrained=false-engine=torch"


def write_sounds(folder, clips, seconds):
    """Noise of two classes at 32 kHz, and its table."""
    folder.mkdir()
    lines = ["filename,category"]
    for i in range(clips):
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, int(seconds * 32000))
        soundfile.write(folder / f"{i}.wav", noise, 32000)
        lines.append(f"{i}.wav,{'ab'[i % 2]}")
    (folder / "meta.csv").write_text("\n".join(lines))
    return folder / "meta.csv"


@pytest.fixture
def tasks(tmp_path):
    table = write_sounds(tmp_path / "sounds", 12, 0.5)
    for name in ("one", "two"):
        hear("tasks", "make", table, tmp_path / "tasks", "--folds", 3, "--name", name)
    return tmp_path / "tasks"


def arguments(tasks, *more):
    folders = ["--tasks-dir", tasks, "--embeddings-dir", tasks.parent / "out"]
    return ["run", MODULE, *folders, "--model-options", json.dumps(OPTIONS), *more]


def test_run(tasks):
    out = tasks.parent / "out" / FOLDER
    said = hear(*arguments(tasks, "--task", "two")).splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"{out / 'two'}: 12 clips, 6 s in ")
    said = hear(*arguments(tasks, "--device", "cpu")).splitlines()
    assert [line.partition(": ")[0] for line in said] == [f"{out / 'one'}", f"{out / 'two'}"]
    assert said[1].endswith(": done before")
    rows, size = json.loads((out / "one" / "fold00.embedding-dimensions.json").read_text())
    assert (rows, size) == (4, 184)
    assert (out / "one" / "fold00.embeddings.npy").stat().st_size == 4 * rows * size


def test_a_folder_may_have_a_name_of_its_own(tasks):
    said = hear(*arguments(tasks, "--name", "mine", "--task", "one"))
    assert said.startswith(f"{tasks.parent / 'out' / 'mine' / 'one'}: 12 clips")
    said = hear(*arguments(tasks, "mn04_e1_l", "--name", "mine"), code=2)
    assert "mine is for one module, and there are 2" in said
    for name in ("", "a/b", "..", "a/"):
        assert "is not the name of a folder" in hear(*arguments(tasks, "--name", name), code=2)


def test_a_task_that_is_broken_stops_no_other(tasks):
    (tasks / "one" / "32000" / "fold00").rename(tasks / "one" / "32000" / "elsewhere")
    said = hear(*arguments(tasks), code=1)
    assert "hear: one with hear_mn.mn01_all_b_mel_avgs: " in said
    assert "fold00 lacks " in said
    assert "1 of 2 failed; fix the errors above" in said
    assert (tasks.parent / "out" / FOLDER / "two" / ".done.embeddings").exists()


def test_a_module_that_cannot_be_loaded_stops_no_other(tasks, monkeypatch):
    monkeypatch.syspath_prepend(tasks)
    (tasks / "empty_module.py").touch()
    said = hear(*arguments(tasks, "empty_module", "--task", "one"), code=1)
    assert "hear: empty_module is not a HEAR plug-in: it has no function load_model" in said
    assert "1 of 2 failed; fix the errors above" in said
    assert (tasks.parent / "out" / FOLDER / "one" / ".done.embeddings").exists()


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("broken_import", "raise OSError('no ffmpeg')", "OSError: no ffmpeg"),
        ("broken_load", "def load_model(**_): raise RuntimeError('gone')", "RuntimeError: gone"),
    ],
)
def test_a_module_that_raises_stops_no_other(tasks, monkeypatch, name, code, message):
    monkeypatch.syspath_prepend(tasks)
    (tasks / f"{name}.py").write_text(code)
    command, *others = arguments(tasks, "--task", "one")
    said = hear(command, name, *others, code=1)
    assert f"hear: {name} cannot be loaded: {message}" in said
    assert "1 of 2 failed; fix the errors above" in said
    assert (tasks.parent / "out" / FOLDER / "one" / ".done.embeddings").exists()


@pytest.mark.parametrize(
    ("more", "message", "code"),
    [
        (["--task", "three"], "unknown task 'three'", 1),
        (["--device", "nowhere"], "Nothing can be computed on the device 'nowhere' here", 2),
        (["no_such_module"], "unknown module 'no_such_module'", 1),
    ],
)
def test_an_unknown_name_is_an_error(tasks, more, message, code):
    assert message in hear(*arguments(tasks, *more), code=code)


def test_a_module_of_the_working_directory_is_found(tasks):
    (tasks / "loudness_here.py").write_text(
        "import torch\n"
        "class Model:\n    sample_rate = 32000\n"
        "def load_model(model_file_path=''):\n    return Model()\n"
        "def get_scene_embeddings(audio, model):\n    return audio.std(1, keepdim=True)\n"
    )
    result = subprocess.run(
        [HEAR, "run", "loudness_here", "--tasks-dir", "."],
        cwd=tasks,
        env={**os.environ, **ROOT},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (tasks / "embeddings" / "loudness_here" / "one" / "fold00.embeddings.npy").is_file()


@pytest.mark.slow
def test_killed_at_random_it_ends_with_the_same_files(tmp_path):
    """Run separate processes, which are killed without warning."""
    table = write_sounds(tmp_path / "sounds", 60, 8)
    hear("tasks", "make", table, tmp_path / "tasks", "--folds", 3, "--name", "noise")
    command = [HEAR, *map(str, arguments(tmp_path / "tasks", "--batch-samples", 2 * 8 * 32000))]
    environment = {**os.environ, **ROOT, "OMP_NUM_THREADS": "1"}
    out = tmp_path / "out" / FOLDER / "noise"
    kills, rng = 0, random.Random(0)
    while not (out / ".done.embeddings").exists():
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = sum(path.stat().st_size for path in out.glob("*journal*"))
        while process.poll() is None:
            if sum(path.stat().st_size for path in out.glob(".*.journal")) != before:
                time.sleep(rng.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
            time.sleep(0.01)
        assert process.returncode in (0, -signal.SIGKILL)
    assert kills >= 2
    found = contents(out)
    out.rename(tmp_path / "killed")
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert contents(out) == found
