"""``hear tag``, ``hear listen`` and ``hear weights``."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import subprocess

import numpy as np
import pytest
import soundfile

from tests.goldens import facts, waveform
from tests.hear_cli.command import HEAR, ROOT, hear, script
from tests.shared import METRO, MN04, needs_metro, needs_mn04

REAL = {"HEAR_CHECKPOINTS": str(MN04.parent)}


@pytest.fixture
def clip(tmp_path):
    """A stereo file of another rate."""
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (44100, 2))
    soundfile.write(tmp_path / "clip.wav", samples, 22050)
    return tmp_path / "clip.wav"


@needs_mn04
@needs_metro
def test_the_metro_clip():
    wanted = facts("mn/metro")["top10"]["int16"]
    lines = script("tag", METRO, "-b", "mn04_as", **REAL).splitlines()[1:]
    rows = [re.split(r"  +", line, maxsplit=4) for line in lines]
    assert [row[4] for row in rows] == [w["label"] for w in wanted]
    found = [float(row[3]) for row in rows]
    np.testing.assert_allclose(found, [w["probability"] for w in wanted], atol=2e-3)


def test_events_as_an_audacity_track(tmp_path):
    soundfile.write(tmp_path / "clip.wav", waveform(10.0)[0].numpy(), 32000)
    output = hear(
        *("tag", tmp_path / "clip.wav", "-b", "mn01_starter", "--events", "--window", 2),
        *("--hop", 0.5, "--threshold", 0.112, "--only", "Sine wave,Music", "--merge-gap", 5),
        *("--format", "audacity"),
    )
    rows = [line.split("\t") for line in output.splitlines()]
    assert {row[2] for row in rows} <= {"Sine wave", "Music"}
    assert any(float(row[1]) - float(row[0]) > 1 for row in rows if row[2] == "Sine wave")


def test_formats_hold_the_same(clip, tmp_path):
    arguments = ["tag", clip, "-b", "mn01_as", "--random-weights", "--window", 1, "--top", 2]
    tags = json.loads(hear(*arguments, "--format", "json"))
    assert [(t["onset"], t["offset"]) for t in tags] == [(0, 1), (0, 1), (1, 2), (1, 2)]
    hear(*arguments, "--format", "csv", "-o", tmp_path / "tags.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tags.csv").read_text())))
    assert [{k: type(t[k])(r[k]) for k in r} for t, r in zip(tags, rows, strict=True)] == tags


def test_groups_and_thresholds(clip, tmp_path):
    (tmp_path / "groups.yaml").write_text("Voice: [Speech, Shout]\nRail: [Train]\n")
    (tmp_path / "thresholds.yaml").write_text("Voice: 0.01\nRail: 0.99\n")
    tags = hear(
        *("tag", clip, "-b", "mn01_as", "--random-weights", "--events", "--format", "json"),
        *("--groups", tmp_path / "groups.yaml", "--thresholds", tmp_path / "thresholds.yaml"),
    )
    assert {tag["label"] for tag in json.loads(tags)} == {"Voice"}


def test_unreadable_files_are_left_out(clip, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_text("no audio")
    command = ["tag", broken, clip, "-b", "mn01_as", "--random-weights", "--format", "csv"]
    result = subprocess.run(
        [HEAR, *map(str, command)], capture_output=True, text=True, env={**os.environ, **ROOT}
    )
    assert result.returncode == 1
    assert "hear: 1 of 2 files could not be processed:" in result.stderr
    assert f"{broken} cannot be read as audio" in result.stderr
    assert len(result.stdout.splitlines()) == 11


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--format", "xml"], "unknown format 'xml'", 2),
        (["--only", "Speach"], "did you mean 'Speech'", 1),
        (["-o", "out.txt"], "A table is for reading", 2),
        (["--window", 1, "--threshold", 0.5], "It applies to events; add --events.", 2),
        (["--whole", "--hop", 1], "either as a whole, or in windows", 2),
        (["-b", "mn11_as"], "unknown backbone 'mn11_as'", 1),
    ],
)
def test_errors(clip, options, message, code):
    defaults = [] if "-b" in options else ["-b", "mn01_as"]
    assert message in hear("tag", clip, *defaults, "--random-weights", *options, code=code)


@pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="no matplotlib")
def test_plot(clip, tmp_path):
    hear("tag", clip, "-b", "mn01_as", "--random-weights", "--plot", tmp_path / "plots")
    assert (tmp_path / "plots" / "clip.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("rate", [32000, 44100])
def test_listen(rate, tmp_path):
    """Standard input gives the events of the file with the same samples, whatever its rate."""
    rule = ["-b", "mn01_starter", "--window", 2, "--hop", 0.5, "--merge-gap", 1, "--smoothing", 2]
    rule += ["--threshold", 0.112]
    sound = (waveform(10.0, sample_rate=rate)[0].numpy() * 32768).astype("<i2")
    soundfile.write(tmp_path / "clip.wav", sound, rate)
    result = subprocess.run(
        [HEAR, "listen", *map(str, rule), "--json", "--sample-rate", str(rate)],
        input=sound.tobytes(),
        capture_output=True,
        env=ROOT,
    )
    assert result.returncode == 0, result.stderr.decode()
    live = [json.loads(line) for line in result.stdout.decode().splitlines()]
    whole = json.loads(hear("tag", tmp_path / "clip.wav", *rule, "--events", "--format", "json"))
    assert sorted((e["label"], e["onset"], e["offset"]) for e in live) == sorted(
        (e["label"], e["onset"], e["offset"]) for e in whole
    )
    assert live


@needs_mn04
def test_weights(tmp_path):
    environment = {**REAL, "HEAR_CACHE": str(tmp_path)}
    lines = script("weights", "mn04_*", "--verify", **environment).splitlines()[1:]
    assert lines[0].split() == ["mn04_as", "here", str(MN04), "(verified)"]
    assert lines[1].split()[:3] == ["mn04_im", "not", "here"]
    bad = tmp_path / MN04.name
    bad.write_bytes(MN04.read_bytes()[:-1])
    message = hear("weights", "mn04_as", "--verify", code=1, HEAR_CACHE=str(tmp_path))
    assert "is not the file that was released" in message
    assert "no backbone matches 'mn99'" in hear("weights", "mn99", code=1)


def test_weights_that_cannot_be_fetched(tmp_path):
    environment = {"HEAR_CACHE": str(tmp_path), "HEAR_MIRROR": "http://127.0.0.1:9/"}
    message = hear("weights", "mn01_as", "--fetch", code=1, **environment)
    assert "could not be downloaded" in message
