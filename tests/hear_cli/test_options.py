"""Options and outputs are checked before any work starts; one shared check for every command."""

from __future__ import annotations

import inspect
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, NamedTuple, get_type_hints

import numpy as np
import pytest
import soundfile
import typer

from hear_cli.app import DeferredCommand, app
from hear_cli.option_groups import with_groups
from hear_cli.options import EvaluationOptions
from hear_cli.outputs import names_of_recordings
from hear_cli.sounds import siren
from hear_mn import EATagger
from tests.hear_cli.command import HEAR, ROOT, hear

STARTER = ["-b", "mn01_starter"]


@pytest.fixture
def clip(tmp_path):
    soundfile.write(tmp_path / "clip.wav", siren(2.0, 32000).numpy(), 32000)
    return tmp_path / "clip.wav"


def options_of(command, path=()):
    """Yield path and parameter for every option of every command but those of training."""
    command = command.loaded() if isinstance(command, DeferredCommand) else command
    for name, below in getattr(command, "commands", {}).items():
        if name != "train":
            yield from options_of(below, (*path, name))
    yield from ((" ".join(path), parameter) for parameter in command.params)


COMMAND = typer.main.get_command(app)
FLOATS = {
    "tag": ["--window", "--hop", "--threshold", "--release", "--merge-gap", "--min-duration"],
    "detect": ["--window", "--hop", "--threshold", "--release", "--merge-gap", "--min-duration"],
    "listen": ["--window", "--hop", "--threshold", "--release", "--merge-gap", "--min-duration"],
    "clips": ["--padding", "--longest"],
    "complexity": ["--seconds"],
    "tasks make": ["--seconds", "--shares"],
    "tasks mix": ["--seconds", "--snr", "--longest"],
}
INTEGERS = {
    "tag": ["--top", "--median", "--smoothing", "--jobs"],
    "detect": ["--top", "--median", "--smoothing", "--jobs"],
    "clips": ["--top"],
    "similar": ["--top"],
    "listen": ["--sample-rate", "--median", "--smoothing"],
    "embed": ["--part-files"],
    "run": ["--batch-samples"],
    "evaluate": ["--grid-points", "--seed"],
    "mini": ["--grid-points", "--seed"],
    "search": ["--grid-points", "--seed", "--most"],
    "tasks make": ["--sample-rate", "--folds", "--seed"],
    "tasks mix": ["--sample-rate", "--scenes", "--events", "--polyphony", "--seed"],
    "tasks resample": ["--sample-rate"],
}
WORDS = {"--shares": 3, "--snr": 2, "--scenes": 3, "--events": 2}
NEEDED = {
    "clips": ["-o", "out"],
    "similar": ["there"],
    "embed": ["-o", "out"],
    "tasks make": ["tasks"],
    "tasks mix": ["tasks"],
    "listen": [],
}


def refused(command, option, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir(exist_ok=True)
    positional = [] if command == "listen" else ["there"]
    values = [value] * WORDS.get(option, 1)
    arguments = [*command.split(), *positional, *NEEDED.get(command, []), option, *values]
    said = hear(*arguments, code=2)
    assert f"Invalid value for '{option}'" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


@pytest.mark.parametrize(
    ("command", "option"), [(c, option) for c, options in FLOATS.items() for option in options]
)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1000", "1e12"])
def test_a_number_out_of_range_is_a_sentence(command, option, value, tmp_path, monkeypatch):
    refused(command, option, value, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("command", "option"), [(c, option) for c, options in INTEGERS.items() for option in options]
)
@pytest.mark.parametrize("value", ["nan", "-1", str(10**12), "9" * 401])
def test_a_count_out_of_range_is_a_sentence(command, option, value, tmp_path, monkeypatch):
    refused(command, option, value, tmp_path, monkeypatch)


@pytest.mark.parametrize("option", ["--window", "--hop", "--top"])
def test_zero_is_refused_where_nothing_can_be_done_with_it(option, tmp_path, monkeypatch):
    refused("tag", option, "0", tmp_path, monkeypatch)


def test_every_option_that_is_a_number_is_in_these_tables():
    found = {
        (path, parameter.opts[0])
        for path, parameter in options_of(COMMAND)
        if {type(value) for value in np.ravel([parameter.default]).tolist()} & {int, float}
    }
    assert len(found) > 40
    known = {(c, o) for table in (FLOATS, INTEGERS) for c, names in table.items() for o in names}
    assert found <= known


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("tag", ["--device", "cuda:99"], "Nothing can be computed on the device 'cuda:99' here"),
        ("tag", ["--device", "meta"], "Nothing can be computed on the device 'meta' here"),
        ("tag", ["-o", "s3://bucket/x.csv", "--format", "csv"], "only local files"),
        ("tag", ["-o", "clip.wav/x.csv", "--format", "csv"], "clip.wav is not a folder"),
        ("tag", ["-o", ".", "--format", "csv"], ". is a folder, and a file is needed"),
        ("tag", ["--plot", "clip.wav"], "clip.wav is a file, and a folder is needed"),
        ("tag", ["--model", "gone.safetensors"], "'gone.safetensors' does not exist"),
        ("detect", ["--thresholds", "gone.yaml"], "'gone.yaml' does not exist"),
    ],
)
def test_invalid_options_are_refused_at_once(clip, monkeypatch, command, arguments, message):
    monkeypatch.chdir(clip.parent)
    said = hear(command, clip, *arguments, code=2)
    assert message in " ".join(said.split())


def test_only_onnx_is_exported(tmp_path):
    said = hear("export", "mn01_as", tmp_path / "x.tflite", "--random-weights", code=2)
    assert "does not end in .onnx" in said


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused_at_once(clip, tmp_path):
    (tmp_path / "kept").mkdir(mode=0o500)
    output = tmp_path / "kept" / "x.csv"
    assert "no permission" in hear("tag", clip, "--format", "csv", "-o", output, code=2)


def test_a_missing_folder_is_made(clip, tmp_path):
    output = tmp_path / "a" / "b" / "tags.csv"
    hear("tag", clip, *STARTER, "--top", 1, "--format", "csv", "-o", output)
    assert len(output.read_text().splitlines()) == 2
    assert [path.name for path in output.parent.iterdir()] == ["tags.csv"]


def broken_files(folder):
    """Files that cannot be processed, each for a reason of its own."""
    (folder / "text.wav").write_text("no audio")
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "nan.wav", np.full(32000, math.nan, np.float32), 32000, "FLOAT")
    return [folder / name for name in ("text.wav", "nan.wav", "gone.wav", "empty.wav")]


@pytest.mark.parametrize(
    "command", [["tag", *STARTER], ["detect", "-d", "fmn04", "--random-weights"]]
)
def test_one_file_never_stops_the_others(clip, tmp_path, command):
    broken, output = broken_files(tmp_path), tmp_path / "out.json"
    options = ["--format", "json", "-o", output, *(["--threshold", 0] if "-d" in command else [])]
    said = hear(*command, *broken, clip, *options, code=1)
    assert "hear: 4 of 5 files could not be processed:" in said
    for file in broken:
        assert str(file) in said
    assert "Traceback" not in said
    assert {row["file"] for row in json.loads(output.read_text())} == {str(clip)}


def test_an_unexpected_failure_concerns_its_file_only(clip, tmp_path, monkeypatch):
    other = tmp_path / "other.wav"
    other.write_bytes(clip.read_bytes())
    tag = "hear_mn.tagger.EATagger.clip"
    whole = EATagger.clip

    def fail_once(self, waveform):
        monkeypatch.setattr(tag, whole)
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(tag, fail_once)
    said = hear("tag", clip, other, *STARTER, code=1)
    assert f"{clip}: unexpected ZeroDivisionError: odd" in said


def test_results_come_one_by_one_and_survive_an_interruption(clip, tmp_path, monkeypatch):
    other, output = tmp_path / "other.wav", tmp_path / "out.csv"
    other.write_bytes(clip.read_bytes())
    output.write_text("an older report")
    tag = "hear_mn.tagger.EATagger.clip"
    whole = EATagger.clip

    def then_stop(self, waveform):
        def stop(*_):
            assert len(part.read_text().splitlines()) == 2  # the first file is on disk already
            raise KeyboardInterrupt

        monkeypatch.setattr(tag, stop)
        return whole(self, waveform)

    part = tmp_path / "out.csv.part"
    monkeypatch.setattr(tag, then_stop)
    said = hear("tag", clip, other, *STARTER, "--top", 1, "--format", "csv", "-o", output, code=130)
    assert said == f"hear: the results so far are in {part}\n"
    assert output.read_text() == "an older report"


def test_recordings_of_the_same_name_have_separate_files(clip, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.wav").write_bytes(clip.read_bytes())
    files = [tmp_path / "a" / "clip.wav", tmp_path / "b" / "clip.wav"]
    hear("tag", *files, *STARTER, "--plot", tmp_path / "plots")
    assert len(list((tmp_path / "plots").rglob("*.png"))) == 2
    arguments = ["tag", *files, *STARTER, "--window", 1, "--format", "audacity"]
    (tmp_path / "file").write_text("")
    said = hear(*arguments, "-o", tmp_path / "file", code=2)
    assert "one file per recording, and there are 2: give a folder" in " ".join(said.split())
    hear(*arguments, "-o", tmp_path / "labels")
    assert sorted(p.relative_to(tmp_path / "labels") for p in tmp_path.glob("labels/**/*.txt")) == [
        Path("a/clip.wav.txt"),
        Path("b/clip.wav.txt"),
    ]
    assert len(hear(*arguments[:2], *arguments[3:]).splitlines()) == 20


def test_names_of_outputs_are_short_where_they_are_unique():
    files = [
        Path("x/a/1.wav"),
        Path("x/b/1.wav"),
        Path("x/a/2.wav"),
        Path("x/a/2.flac"),
        Path("x/3.wav"),
    ]
    found = names_of_recordings(files, ".png")
    assert [found[file].as_posix() for file in files] == [
        *("a/1.wav.png", "b/1.wav.png", "a/2.wav.png", "a/2.flac.png", "3.png")
    ]
    assert names_of_recordings([Path("A.wav"), Path("a.wav")], ".txt") == {
        Path("A.wav"): Path("A.wav.txt"),
        Path("a.wav"): Path("a.wav.txt"),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_names_that_are_not_utf8_are_kept(clip, tmp_path, format_):
    odd = tmp_path / os.fsdecode(b"r\xe9.wav")
    odd.write_bytes(clip.read_bytes())
    result = subprocess.run(
        [HEAR, "tag", odd, clip, *STARTER, "--top", "1", "--format", format_],
        capture_output=True,
        env={**os.environ, **ROOT},
    )
    said = result.stdout.decode() + result.stderr.decode()
    assert "clip.wav" in said
    assert r"r\udce9.wav" in said


@pytest.mark.parametrize("start", [b"RIFF", b"fLaC", b"OggS", b"ID3\4"])
def test_listen_refuses_a_file_with_a_header(start):
    result = subprocess.run(
        [HEAR, "listen", *STARTER],
        input=start + bytes(64000),
        capture_output=True,
        env={**os.environ, **ROOT},
    )
    assert result.returncode == 1
    assert b"raw samples are needed" in result.stderr
    assert result.stdout == b""


class Size(NamedTuple):
    width: Annotated[int, typer.Option(help="Width.")] = 1
    height: Annotated[int, typer.Option(help="Height.")] = 2


SIZE = Size(height=3)


def test_a_group_of_options_is_declared_once():
    got = []

    @with_groups
    def command(name: Annotated[str, typer.Argument()], size: Size = SIZE) -> None:
        """Do it."""
        got.append((name, size))

    parameters = inspect.signature(command).parameters
    assert {p.name: p.default for p in parameters.values()} == {
        "name": inspect.Parameter.empty,
        "width": 1,
        "height": 3,
    }
    assert get_type_hints(command)["width"] is int
    command(name="a", width=5, height=6)
    assert got == [("a", Size(5, 6))]
    assert command.__doc__ == "Do it."


def test_a_grid_for_trying_things_out_comes_with_a_warning(capsys):
    assert EvaluationOptions(grid="faster").settings().grid == "faster"
    assert "--grid faster may be at chance" in capsys.readouterr().err
    EvaluationOptions().settings()
    assert not capsys.readouterr().err
