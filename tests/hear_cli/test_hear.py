"""The ``hear`` command, in this process and as its console script."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from hear_cli.app import app
from hear_cli.tables import short
from hear_core.export.onnx_file import PRECISIONS, Tolerance
from hear_mn.mobilenet import MobileNet
from tests.hear_cli.command import hear, script


def commands(command, *path):
    """Yield the paths of a command and all below it."""
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *path, name)


@pytest.mark.parametrize("path", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_help(path):
    result = CliRunner().invoke(app, [*path, "--help"], prog_name="hear")
    assert result.exit_code == 0
    assert " ".join(["Usage: hear", *path]) in result.output


def test_list():
    lines = script("list", "mn10_all_b_mel*").splitlines()
    assert lines[0].split() == [
        *("module", "size", "backbone", "published", "parameters", "MACs", "taps", "pooling")
    ]
    assert lines[1].split() == [
        *("hear_mn.mn10_all_b_mel_avgs", "600", "mn10_as", "mAP", "0.471", "4.88M", "541M"),
        *("mel_avgs", "all_b", "avg"),
    ]


def test_list_as_markdown():
    assert "| hear_mn.mn04_e1_l | 911 | mn04_as | mAP 0.432 | 984k | 111M |" in hear(
        "list", "mn04*", "--markdown"
    )


def test_a_list_counts_once(tmp_path):
    cache = {"HEAR_CACHE": str(tmp_path)}
    first = script("list", "mn04_e1_l", **cache)
    (kept,) = tmp_path.rglob("mn04_as.json")
    kept.write_text(kept.read_text().replace("110646167", "110646167000"))
    assert script("list", "mn04_e1_l", **cache) == first.replace("111M", "111G")
    kept.write_text("{")
    assert script("list", "mn04_e1_l", **cache) == first


def test_complexity():
    # A backbone may be named by a module of it, but is one line.
    output = script("complexity", "mn04_as", "hear_mn.mn10_all_b", "mn10_as")
    head, *lines = [re.split(r"  +", line.strip()) for line in output.splitlines()]
    assert head[:5] == ["backbone", "parameters", "MACs", "peak memory", "in parts"]
    assert lines == [
        ["mn04_as", "984k", "111M", "2048 kB", "1008 kB", "595 x 595", "5.96"],
        ["mn10_as", "4.88M", "541M", "5120 kB", "2048 kB", "595 x 595", "5.96"],
    ]


def test_complexity_as_json():
    (found,) = json.loads(hear("complexity", "mn10_as_mels_64", "--json", "--seconds", 5))
    assert found["backbone"] == "mn10_as_mels_64"
    assert (found["n_mels"], found["frames"]) == (64, 500)
    assert found["parameters"] == 4876831
    assert found["receptive_field_seconds"] == (594 * 320 + 800) / 32000


@pytest.mark.parametrize("command", ["complexity", "info"])
def test_an_unknown_name_is_answered_with_the_nearest(command):
    message = hear(command, "mn40_az", code=1)
    assert message.startswith("hear: unknown module or backbone 'mn40_az'; did you mean 'mn40_as'")


def test_info_on_a_module(tmp_path):
    lines = [line.split() for line in script("info", "mn10_all_b_mel_avgs").splitlines()]
    for line in [
        "module hear_mn.mn10_all_b_mel_avgs",
        "embedding size 600",
        "mel_avgs columns 0 to 127",
        "b15 columns 440 to 599",
        "sample rate 32000 Hz",
        "backbone mn10_as",
        "checkpoint mn10_as_mAP_471.pt",
        "licence MIT",
        "published mAP 0.471",
        "parameters 4.88M (4876831)",
        "MACs on 10 s 541M (541085095)",
    ]:
        assert line.split() in lines


def test_info_shows_where_the_weights_are(tmp_path):
    folders = {"HEAR_CHECKPOINTS": str(tmp_path), "HEAR_CACHE": str(tmp_path / "cache")}
    assert "no; it will be downloaded" in hear("info", "mn04_as", **folders)
    (tmp_path / "mn04_as_mAP_432.pt").touch()
    output = hear("info", "hear_mn.mn04_as", **folders)
    assert str(tmp_path / "mn04_as_mAP_432.pt") in output
    assert ["clf", "512", "channels"] in [line.split() for line in output.splitlines()]


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (983599, "984k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (9_994_999, "9.99M"),
        (9_995_001, "10.0M"),
        (8_027_637_831, "8.03G"),
        (999, "999"),
    ],
)
def test_numbers_have_three_digits(number, written):
    assert short(number) == written


def test_demo_tags_and_embeds_offline_and_names_the_weights(tmp_path):
    nowhere = {"HEAR_MIRROR": "http://127.0.0.1:9", "HEAR_CHECKPOINTS": ""}
    output = script("demo", HEAR_CACHE=str(tmp_path), **nowhere)
    assert "mn01_starter.safetensors" in output
    tags = next(line for line in output.splitlines() if line.startswith("tags "))
    assert any(name in tags for name in ("Siren", "Sine wave", "Music", "Synthesizer"))
    assert "(1, 184)" in output
    assert "(1, 201, 184)" in output
    assert "0, 50, 100, 150 … 10000 ms" in output


def test_tasks(tmp_path):
    rows = ["filename,category,fold"]
    for fold in (1, 2, 3):
        for label in ("cat", "dog"):
            name = f"{label}{fold}.wav"
            soundfile.write(tmp_path / name, np.random.default_rng(0).uniform(-1, 1, 800), 8000)
            rows.append(f"{name},{label},{fold}")
    (tmp_path / "pets.csv").write_text("\n".join(rows))
    output = script("tasks", "make", tmp_path / "pets.csv", tmp_path / "tasks", "--seconds", 0.1)
    assert "pets: 6 clips" in output
    assert soundfile.info(tmp_path / "tasks/pets/32000/fold02/dog2.wav").frames == 3200
    output = script("tasks", "resample", tmp_path / "tasks", "--sample-rate", 16000)
    assert "6 files written at 16000 Hz" in output


def test_errors_are_one_message_and_an_exit_code(tmp_path):
    message = hear("tasks", "resample", tmp_path, code=1)
    assert message.startswith(f"hear: there is no HEAR task in {tmp_path}: ")
    assert "does not exist" in hear("tasks", "make", tmp_path / "gone.csv", tmp_path, code=2)


def test_export_checks_what_it_writes(tmp_path):
    output = script(
        "export", "mn01_as", tmp_path / "out.onnx", "--random-weights", "--taps", "e1,b3"
    )
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


def test_complexity_of_an_architecture_without_a_checkpoint():
    """The tiny network of EfficientAT, whose arguments are those of its training script."""
    tiny = ("model.width_mult=0.1", "model.head=fully_convolutional", "model.se_dims=f")
    line = [word for value in tiny for word in ("--set", value)]
    (found,) = json.loads(hear("complexity", "mn10_as", "--json", *line))
    network = MobileNet(0.1, head="fully_convolutional", se_dims="f")
    assert found["parameters"] == sum(p.numel() for p in network.parameters())
    front = ("--set", "model.frontend.sample_rate=16000", "--set", "model.hop=160")
    (coarse,) = json.loads(hear("complexity", "mn10_as", "--json", *line, *front))
    assert coarse["frames"] == found["frames"] == 1000
    assert coarse["receptive_field_seconds"] == (594 * 160 + 800) / 16000
    shown = hear("info", "mn10_as", *line)
    assert re.search(rf"^parameters .*\({found['parameters']}\)", shown, re.MULTILINE)
    assert "checkpoint" not in shown


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("model.width=2", "unknown key 'width'; did you mean 'width_mult'"),
        ("model.width_mult=-1", "cannot have width_mult -1: sizes and temperature must be above 0"),
        ("model.frontend.sample_rte=1", "did you mean 'sample_rate'"),
        ("model.frontend.n_fft=1", "window must be at most n_fft, 1 samples, not 800"),
        ("model.arguments.strides=3", "mn10_as cannot be built with"),
        ("data.fold=1", "'data' does not describe a network"),
    ],
)
def test_architectures_that_cannot_be_built(value, message):
    assert message in hear("complexity", "mn10_as", "--set", value, code=1)
