"""Distillation from beginning to end, on sounds of seconds."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from typer.testing import CliRunner

from hear_cli.main import app
from hear_core.errors import ConfigError
from hear_mn import ZOO
from hear_train.distill import Run
from hear_train.logs import read
from hear_train.losses import Weights
from hear_train.measure import logits, nearness
from hear_train.mixing import Mixer, Mixing
from hear_train.recipe import Recipe
from hear_train.schedule import Schedule
from hear_train.trainer import Plan, last_state

# One clip at a time and no variation: what is left to learn, six clips, is learned in seconds.
STEPS = 120
PLAIN = Mixing(seconds=0.5, sounds=(1.0,), synthetic=0, strength=0)
TINY = Recipe(
    student="mn01",
    teacher="mn01_starter",
    audio=(),
    batch=8,
    weights=Weights(logits=0.01),
    mixing=PLAIN,
    plan=Plan(
        epochs=STEPS // 10,
        steps=10,
        rate=3e-3,
        schedule=Schedule(0, 6, 6),
        log_every=20,
        save_every=STEPS,
    ),
)


def tiny(sounds, folder, **other):
    recipe = Recipe(**(vars(TINY) | {"audio": (sounds,)} | other))
    run = Run(recipe, folder, Accelerator(cpu=True))
    for module in run.student.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1  # else its statistics take hundreds of steps
    return run


@pytest.fixture(scope="module")
def crops(sounds):
    """Return crops of the clips, drawn with a seed that training does not use."""
    run = tiny(sounds, sounds.parent / "none")
    mixer = Mixer(run.trainer._lessons.mixer.clips, PLAIN, 99)
    return [mixer.draw(number).samples for number in range(24)]


def predict(network, crops):
    return logits(network, ZOO["mn01_as"].frontend(), crops)


@pytest.fixture(scope="module")
def figures(sounds, crops, tmp_path_factory):
    teacher = predict(ZOO.load("mn01_starter"), crops)
    found = {"random": nearness(predict(ZOO.random_init("mn01_as"), crops), teacher)}
    for name, other in {"student": {}, "shuffled": {"shuffled": True}}.items():
        run = tiny(sounds, tmp_path_factory.mktemp(name), **other)
        found[f"{name} at first"] = nearness(predict(run.student, crops), teacher)
        weights = run.run()
        found[name] = nearness(predict(run.student, crops), teacher)
        found[f"{name}, losses"] = [row["loss"] for row in read(run.folder / "log.csv")]
        found[f"{name}, saved"] = nearness(predict(ZOO.load("mn01_as", weights), crops), teacher)
    return found


# Rounding differs between processors and thread counts, and training amplifies it. The bounds leave
# room for that: over three seeds and one or two threads the largest ratios were 0.53 and 0.62 for
# the loss, and 0.59 and 0.41 for the divergence.


def test_the_loss_falls(figures):
    losses = figures["student, losses"]
    assert losses[-1] < 0.75 * losses[0]
    assert losses[-1] < 0.8 * figures["shuffled, losses"][-1]


def test_the_student_approaches_its_teacher(figures):
    """Compare it with its start, the teacher's mean, and with a student of shuffled targets."""
    first, last = figures["student at first"], figures["student"]
    assert last.kl < 0.85 * first.kl
    assert last.kl < 0.7 * figures["shuffled"].kl
    assert last.kl < 0.05 * figures["random"].kl


def test_saved_in_half_precision_it_is_the_same(figures):
    assert figures["student, saved"].kl == pytest.approx(figures["student"].kl, abs=0.03)


def test_without_a_start_at_the_mean_it_would_be_far(figures):
    assert figures["student at first"].kl < 0.1 * figures["random"].kl


def test_stored_predictions_with_labels_from_the_command(packed, tmp_path):
    """Of files as the originals have them: one clip is corrupt, one has no prediction."""
    path, _ = packed
    np.save(tmp_path / "ensemble.npy", np.random.default_rng(0).normal(-5, 1, (5, 527)))
    rows = {f"abcdefghij{number}": number for number in range(5)}
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    line = f"train distill {tmp_path / 'run'} --audio {path} --epochs 2 --steps 2 --batch 3"
    line += f" --predictions {tmp_path / 'ensemble.npy'} --mixup 0.3 --seconds 0.5 --workers 0"
    result = CliRunner().invoke(app, [*line.split(), "--cpu", "--log-every", "1"])
    assert result.exit_code == 0, result.output
    assert "after 4 steps; 2 clips skipped" in result.output
    rows = read(tmp_path / "run" / "log.csv")
    assert len(rows) == 4
    for row in rows:  # lambda is 0.1
        assert row["loss"] == pytest.approx(0.1 * row["labels"] + 0.9 * row["teacher"], rel=1e-4)
    ZOO.load("mn01_as", tmp_path / "run" / "student.safetensors")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])  # none, and none of a CPU
def test_a_precision_that_cannot_be_had_is_named(sounds, tmp_path, precision):
    line = f"train distill {tmp_path / 'run'} --audio {sounds} --precision {precision} --cpu"
    result = CliRunner().invoke(app, line.split())
    assert isinstance(result.exception, ConfigError)
    assert f"precision '{precision}' here" in str(result.exception)


def test_taps_are_matched_and_a_run_of_a_started_student(sounds, tmp_path):
    plan = Plan(epochs=1, steps=2, log_every=1)
    run = tiny(sounds, tmp_path, match=("e1",), weights=Weights(taps=1.0), plan=plan)
    run.run()
    assert all(row["e1"] > 0 for row in read(tmp_path / "log.csv"))
    weights = tmp_path / "student.safetensors"
    again = Run(
        Recipe(**(vars(TINY) | {"audio": (sounds,)})),
        tmp_path / "second",
        Accelerator(cpu=True),
        start=weights,
    )
    expected = ZOO.load("mn01_as", weights).state_dict()
    for key, value in again.student.state_dict().items():
        assert torch.equal(value, expected[key])


@pytest.mark.slow
def test_a_process_that_was_killed_goes_on_to_the_same_weights(sounds, tmp_path):
    def start(folder):
        line = f"train distill {folder} --teacher mn01_starter --audio {sounds} --cpu --batch 4"
        line += " --epochs 3 --steps 20 --save-every 5 --seconds 0.5 --dropout 0.2 --workers 1"
        words = [sys.executable, "-m", "hear_cli", *line.split()]
        return subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"})

    whole, killed = start(tmp_path / "whole"), start(tmp_path / "killed")
    while (state := last_state(tmp_path / "killed")) is None or state.name < "state-00000020":
        assert killed.poll() is None
        time.sleep(0.1)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "killed" / "student.safetensors").exists()
    assert start(tmp_path / "killed").wait() == whole.wait() == 0
    found, expected = (load_file(tmp_path / run / "student.safetensors") for run in RUNS)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


RUNS = ("killed", "whole")


def test_a_run_goes_on_with_the_same_weights_only(sounds, tmp_path):
    plan = Plan(epochs=1, steps=2)
    tiny(sounds, tmp_path, plan=plan).run()
    recipe = Recipe(**(vars(TINY) | {"audio": (sounds,), "plan": plan}))
    weights = tmp_path / "student.safetensors"
    with pytest.raises(ConfigError, match="has a run with start '', not '"):
        Run(recipe, tmp_path, Accelerator(cpu=True), start=weights)
    with pytest.raises(ConfigError, match="has a run with pretrained True, not False"):
        Run(recipe, tmp_path, Accelerator(cpu=True), pretrained=False)


def test_predictions_of_other_clips_are_refused(sounds, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((1, 527)))
    (tmp_path / "a.txt").write_text("zzz.wav")
    stored = {"teacher": "", "predictions": tmp_path / "a.npy"}
    with pytest.raises(ConfigError, match=r"none of 6 clips, such as 0-0\.wav, .* called like zzz"):
        tiny(sounds, tmp_path, **stored)
    for folder in ("yes", "no"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "zzz.wav").write_bytes((sounds / "0-0.wav").read_bytes())
    with pytest.raises(ConfigError, match="several clips are called zzz"):
        tiny(tmp_path, tmp_path, **stored)
    with pytest.raises(ConfigError, match="has no tap e1 to match"):
        tiny(sounds, tmp_path, match=("e1",), **stored)


def test_recipes_that_mean_nothing(sounds, tmp_path):
    with pytest.raises(ConfigError, match=r"0\.01 s are too short"):
        tiny(sounds, tmp_path, mixing=Mixing(seconds=0.01))
    with pytest.raises(ConfigError, match="a batch of 1"):
        tiny(sounds, tmp_path, batch=1)
    with pytest.raises(ConfigError, match="give one of the two"):
        tiny(sounds, tmp_path, teacher="")
    with pytest.raises(ConfigError, match="unknown backbone 'mn99_as'"):
        tiny(sounds, tmp_path, student="mn99")
    with pytest.raises(ConfigError, match="clips as they are"):
        tiny(sounds, tmp_path, mixing=Mixing(), teacher="", predictions=tmp_path / "a.npy")
    with pytest.raises(ConfigError, match="no tap e9"):
        tiny(sounds, tmp_path, match=("e9",))
