"""``hear embed`` through its console script, killed and broken."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from hear_core.plugins.names import load_model
from hear_core.zoo.download import sha256_of
from hear_core.zoo.metadata import save_checkpoint
from hear_eval.embeddings.index import index_path, journal_path
from hear_eval.embeddings.plugin import Plugin
from hear_eval.embeddings.tasks import folder_name
from hear_mn import ZOO
from tests.goldens import waveform
from tests.hear_cli.command import HEAR, ROOT, hear
from tests.shared import ESC10, MN04, needs_esc10, needs_mn04

ENVIRONMENT = {
    **os.environ,
    **ROOT,
    "HEAR_CHECKPOINTS": str(MN04.parent),
    "OMP_NUM_THREADS": "1",
}
RANDOM = ["mn01_all_b_mel_avgs", "--random-weights", "--model-options", '{"engine": "torch"}']


def start(*arguments):
    return subprocess.Popen(
        [HEAR, "embed", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "COLUMNS": "200"},
    )


def embed(*arguments, code=0):
    process = start(*arguments)
    out, err = process.communicate()
    assert process.returncode == code, out + err
    return err if code else out


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def sounds(tmp_path):
    for i in range(12):
        path = tmp_path / "sounds" / f"{i % 2}" / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, 44100 * 8)
        soundfile.write(path, noise, 44100)
    return tmp_path / "sounds"


def kill_when(ready, *arguments):
    """Start a run, kill it once a condition holds; return whether it was killed before its end."""
    process = start(*arguments)
    while process.poll() is None and not ready():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("format_", ["npy", pytest.param("npz", marks=pytest.mark.slow)])
def test_a_killed_run_resumes_to_the_same_bytes(sounds, tmp_path, format_):
    out = tmp_path / "out"
    arguments = [*RANDOM, sounds, "--timestamps", "--format", format_]
    embed(*arguments, "-o", tmp_path / "whole")
    written = lambda: len(list(out.glob(f"*/*.wav.{format_}")))  # noqa: E731
    assert kill_when(lambda: written() >= 3, *arguments, "-o", out)
    assert 3 <= written() < 12
    assert not (out / "index.jsonl").exists()
    output = embed(*arguments, "-o", out)
    assert "files were done before" in output
    assert "\n12 files" not in output
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.slow
@needs_mn04
@needs_esc10
@pytest.mark.parametrize("format_", ["npy", "parquet"])
def test_esc10_killed_at_random_moments(tmp_path, format_):
    out, moments = tmp_path / "out", random.Random(0)
    arguments = ["mn04_e1_l", ESC10, "--format", format_, "--part-files", 20]
    assert "400 files, 2003 s of audio" in embed(*arguments, "-o", tmp_path / "whole")
    journal = journal_path(index_path(out, format_))
    # By the work that is done and not by time, so that it does not depend on the processor.
    lines = lambda: journal.read_bytes().count(b"\n") if journal.exists() else 0  # noqa: E731
    kills = 0
    for _ in range(5):
        enough = lines() + moments.randint(1, 60)
        kills += kill_when(lambda enough=enough: lines() >= enough, *arguments, "-o", out)
    assert kills >= 2
    embed(*arguments, "-o", out)
    assert contents(out) == contents(tmp_path / "whole")


def test_exit_codes(sounds, tmp_path):
    out = tmp_path / "out"
    (sounds / "notes.txt").touch()
    output = embed(*RANDOM, sounds, "-o", out)
    assert "1 files without the suffix of an audio format are ignored: 1 .txt" in output
    assert "12 files, 96 s of audio in" in output
    assert "s of audio per second" in output

    (sounds / "text.wav").write_text("no sound at all")
    for more in ([], ["--retry"]):
        message = embed(*RANDOM, sounds, "-o", out, *more, code=1)
        assert f"1 files could not be embedded; {out / 'index.jsonl'} holds the reasons" in message
        assert "'text.wav': " in message
        assert "cannot be read as audio" in message
    lines = map(json.loads, (out / "index.jsonl").read_text().splitlines())
    assert [line["file"] for line in lines if line["reason"]] == ["text.wav"]

    assert "made with other settings" in embed(*RANDOM, sounds, "-o", out, "--timestamps", code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mn4_e1_l", "."], "unknown module 'mn4_e1_l'; did you mean"),
        (["mn04_e1_l", "gone"], "'gone' does not exist"),
        (["sounds", ".", "--model", __file__], "takes the place of the module"),
        (["mn04_e1_l", ".", "--shard", "3/2"], "'3/2' is not a share I/N"),
        (["mn04_e1_l", ".", "--model-options", "[1]"], "'[1]' is not a JSON object"),
        (["mn04_e1_l", ".", "--model-options", "{"], "'{' is not JSON"),
        (["mn04_e1_l", ".", "--format", "mat"], "unknown format 'mat'"),
    ],
)
def test_usage_errors(tmp_path, arguments, message):
    assert message in hear("embed", *arguments, "-o", tmp_path / "out", code=2)
    assert not (tmp_path / "out").exists()


def test_options_reach_load_model(sounds, tmp_path):
    options = '{"engine": "torch", "taps": ["logits"]}'
    arguments = ["hear_mn.mn01_all_b_mel_avgs", "--random-weights", "--model-options", options]
    embed(*arguments, sounds / "0" / "0.wav", "-o", tmp_path / "out")
    assert np.load(tmp_path / "out" / "0.wav.npy").shape == (527,)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "mine" / "best.safetensors"
    path.parent.mkdir()
    described = replace(ZOO["mn01_as"].describe(), taps=("e1", "logits"))
    save_checkpoint(path, ZOO.random_init("mn01_as"), described)
    return path


def test_a_checkpoint_that_identifies_its_network_is_a_plug_in(checkpoint, tmp_path):
    plugin = Plugin(str(checkpoint), options={"engine": "torch"})
    assert plugin.name == plugin.settings["module"] == "best.safetensors"
    assert plugin.settings["weights"] == sha256_of(checkpoint)
    assert plugin.settings["config"]["taps"] == ("e1", "logits")
    assert folder_name(str(checkpoint), {}) == "mine-best"
    audio = waveform(1.0, batch=2, sample_rate=32000)
    found, _ = plugin.embed(audio, timestamps=False)
    model = load_model(str(checkpoint), engine="torch")
    np.testing.assert_array_equal(found, model.get_scene_embeddings(audio).numpy())
    moved = checkpoint.rename(tmp_path / checkpoint.name)
    assert Plugin(str(moved), options={"engine": "torch"}).settings == plugin.settings


def test_embeddings_of_a_checkpoint_are_refused_when_its_weights_change(checkpoint, tmp_path):
    soundfile.write(tmp_path / "noise.wav", waveform(1.0, sample_rate=32000)[0].numpy(), 32000)
    arguments = [checkpoint, tmp_path / "noise.wav", "-o", tmp_path / "out"]
    assert "1 files, 1 s of audio" in hear("embed", *arguments)
    described = replace(ZOO["mn01_as"].describe(), taps=("e1", "logits"))
    save_checkpoint(checkpoint, ZOO.random_init("mn01_as", seed=1), described)
    assert "made with other settings" in hear("embed", *arguments, code=2)
    checkpoint.unlink()
    assert "best.safetensors" in hear("embed", *arguments, code=2)
