"""The recipe distill from beginning to end, on sounds of seconds."""

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

from hear_cli.app import app
from hear_core.errors import ConfigError
from hear_mn import ZOO
from hear_train.agreement import agreement, predict_logits
from hear_train.data.mixtures import MixtureConfig, MixtureDrawer
from hear_train.loop.logs import read_log
from hear_train.loop.states import last_state
from hear_train.recipes import load_recipe
from hear_train.runs import build

# One clip at a time and no variation: what is left to learn, six clips, is learned in seconds.
STEPS = 120
PLAIN = MixtureConfig(seconds=0.5, sounds=(1.0,), synthetic=0, strength=0)
TINY = (
    "teacher.networks=mn01_starter",
    "data.batch_size=8",
    "objective.distillation.logits=0.01",
    "mixtures.seconds=0.5",
    "mixtures.sounds=[1.0]",
    "mixtures.synthetic=0",
    "mixtures.strength=0",
    f"trainer.epochs={STEPS // 10}",
    "trainer.steps_per_epoch=10",
    "trainer.optimiser.lr=3e-3",
    "trainer.schedule.warm_up=0",
    "trainer.schedule.down_start=6",
    "trainer.schedule.down_length=6",
    "trainer.log_every=20",
    f"trainer.save_every={STEPS}",
)


def tiny(sounds, folder, *other, **options):
    recipe = load_recipe("distill", [*TINY, *other])
    run = build(recipe, [sounds], folder, Accelerator(cpu=True), **options)
    for module in run.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1  # else its statistics take hundreds of steps
    return run


@pytest.fixture(scope="module")
def crops(sounds):
    """Return crops of the clips, drawn with a seed that training does not use."""
    run = tiny(sounds, sounds.parent / "none")
    drawer = MixtureDrawer(run.trainer._source.drawer.clips, PLAIN, 99)
    return [drawer.draw(number).samples for number in range(24)]


def predict(network, crops):
    return predict_logits(network, ZOO["mn01_as"].frontend(), crops)


@pytest.fixture(scope="module")
def figures(sounds, crops, tmp_path_factory):
    teacher = predict(ZOO.load("mn01_starter"), crops)
    found = {"random": agreement(predict(ZOO.random_init("mn01_as"), crops), teacher)}
    for name, other in {"student": (), "shuffled": ("teacher.shuffle=true",)}.items():
        run = tiny(sounds, tmp_path_factory.mktemp(name), *other)
        found[f"{name} at first"] = agreement(predict(run.network, crops), teacher)
        weights = run.run()
        found[name] = agreement(predict(run.network, crops), teacher)
        found[f"{name}, losses"] = [row["loss"] for row in read_log(run.trainer.folder / "log.csv")]
        found[f"{name}, saved"] = agreement(predict(ZOO.load("mn01_as", weights), crops), teacher)
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
    """Train on files in the format of the originals: one clip is corrupt, one lacks predictions."""
    path, _ = packed
    np.save(tmp_path / "ensemble.npy", np.random.default_rng(0).normal(-5, 1, (5, 527)))
    rows = {f"abcdefghij{number}": number for number in range(5)}
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    line = ["train", "distill", str(tmp_path / "run"), "--data", str(path), "--cpu"]
    values = {
        "teacher": f"{{predictions: {tmp_path / 'ensemble.npy'}}}",
        "mixtures": "{seconds: 0.5, synthetic: 0, strength: 0, sounds: [1]}",
        "spectrograms.mixup": 0.3,
        "data.batch_size": 3,
        "trainer.epochs": 2,
        "trainer.steps_per_epoch": 2,
        "trainer.log_every": 1,
    }
    for name, value in values.items():
        line += ["--set", f"{name}={value}"]
    result = CliRunner().invoke(app, [*line, "--workers", "0"])
    assert result.exit_code == 0, result.output
    assert "after 4 steps; 2 clips skipped" in result.output
    rows = read_log(tmp_path / "run" / "log.csv")
    assert len(rows) == 4
    for row in rows:  # lambda is 0.1
        assert row["loss"] == pytest.approx(0.1 * row["labels"] + 0.9 * row["teacher"], rel=1e-4)
    ZOO.load("mn01_as", tmp_path / "run" / "last.safetensors")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])  # fp16 does not work on a CPU
def test_an_unknown_precision_is_named(sounds, tmp_path, precision):
    line = f"train distill {tmp_path / 'run'} --data {sounds} --precision {precision} --cpu"
    result = CliRunner().invoke(app, line.split())
    assert isinstance(result.exception, ConfigError)
    assert f"precision '{precision}' does not work here" in str(result.exception)


def test_taps_are_matched_and_training_continues_from_a_checkpoint(sounds, tmp_path):
    short = ("trainer.epochs=1", "trainer.steps_per_epoch=2", "trainer.log_every=1")
    weights = tiny(sounds, tmp_path / "first", "teacher.match=e1", *short).run()
    assert all(row["e1"] > 0 for row in read_log(tmp_path / "first" / "log.csv"))
    again = tiny(sounds, tmp_path / "second", start=weights)
    expected = ZOO.load("mn01_as", weights).state_dict()
    for key, value in again.network.state_dict().items():
        assert torch.equal(value, expected[key])


@pytest.mark.slow
def test_a_process_that_was_killed_resumes_to_the_same_weights(sounds, tmp_path):
    values = "teacher.networks=mn01_starter data.batch_size=4 trainer.epochs=3 mixtures.seconds=0.5"
    values += " trainer.steps_per_epoch=20 trainer.save_every=5 model.dropout=0.2"

    def start(folder):
        line = ["train", "distill", folder, "--data", sounds, "--cpu", "--workers", "1"]
        line += [word for value in values.split() for word in ("--set", value)]
        words = [sys.executable, "-m", "hear_cli", *map(str, line)]
        return subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"})

    whole, killed = start(tmp_path / "whole"), start(tmp_path / "killed")
    while (state := last_state(tmp_path / "killed")) is None or state.name < "state-00000020":
        assert killed.poll() is None
        time.sleep(0.1)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "killed" / "last.safetensors").exists()
    assert start(tmp_path / "killed").wait() == whole.wait() == 0
    found, expected = (load_file(tmp_path / run / "last.safetensors") for run in RUNS)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


RUNS = ("killed", "whole")


def test_a_run_resumes_with_the_same_weights_only(sounds, tmp_path):
    short = ("trainer.epochs=1", "trainer.steps_per_epoch=2")
    weights = tiny(sounds, tmp_path, *short).run()
    with pytest.raises(ConfigError, match='start is "" there and "'):
        tiny(sounds, tmp_path, *short, start=weights)
    with pytest.raises(ConfigError, match=r"teacher is .*true.* there and .*false"):
        tiny(sounds, tmp_path, *short, "teacher.pretrained=false")


def test_predictions_of_other_clips_are_refused(sounds, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((1, 527)))
    (tmp_path / "a.txt").write_text("zzz.wav")
    stored = f"teacher={{predictions: {tmp_path / 'a.npy'}}}"
    with pytest.raises(ConfigError, match=r"none of the 6 clips, such as 0-0\.wav, .* as 'zzz'"):
        tiny(sounds, tmp_path, stored)
    for folder in ("yes", "no"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "zzz.wav").write_bytes((sounds / "0-0.wav").read_bytes())
    with pytest.raises(ConfigError, match="several clips share the name zzz"):
        tiny(tmp_path, tmp_path, stored)
    with pytest.raises(ConfigError, match="does not have the tap e1 to match"):
        tiny(sounds, tmp_path, stored, "teacher.match=e1")


WRONG = {
    "mixtures.seconds=0.01": r"0\.01 s are too short",
    "data.batch_size=1": "data.batch_size is 1",
    "teacher.networks=[]": "give one of the two",
    "model.backbone=mn99": "unknown backbone 'mn99_as'",
    "teacher={predictions: a.npy}": "unchanged clips",
    "teacher.match=e9": "does not have the tap e9",
}


@pytest.mark.parametrize("value", WRONG)
def test_wrong_values_of_a_recipe(sounds, tmp_path, value):
    more = ("mixtures.strength=1",) if "predictions" in value else ()
    with pytest.raises(ConfigError, match=WRONG[value]):
        tiny(sounds, tmp_path, value, *more)
