"""The README and the pages: code runs, commands exist, tables are up to date."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from typer.main import get_command
from typer.testing import CliRunner

from hear_cli.app import DeferredCommand, app
from hear_cli.sounds import siren
from hear_core.plugins import loading
from hear_core.plugins.configs import embedding_configs
from tests.shared import MN04, needs_mn04

README = Path(__file__).parents[1] / "README.md"
PAGES = {
    page: page.read_text("utf-8")
    for page in [README, README.parent / "CONTRIBUTING.md", *(README.parent / "docs").glob("*.md")]
}
TEXT = PAGES[README]


def blocks(language):
    found = (re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) for text in PAGES.values())
    return [block for blocks in found for block in blocks]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Ten seconds of a siren, which the pages call a recording."""
    path = tmp_path_factory.mktemp("audio") / "recording.wav"
    soundfile.write(path, siren(10.0, 32000).numpy(), 32000)
    return path


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, marks=[needs_mn04] if "mn04_as" in code else [])
        for code in blocks("python")
    ],
)
def test_the_code_prints_what_its_comments_say(code, recording):
    result = subprocess.run(
        [sys.executable, "-c", f"recording = {str(recording)!r}\n{code}"],
        env={"HEAR_CHECKPOINTS": str(MN04.parent), "PYTHONPATH": str(README.parent)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    expected = re.findall(r"print\(.*\)  # (.*)", code)
    assert expected
    assert result.stdout.splitlines() == expected


def test_the_first_example_is_short_and_runs_offline(recording, monkeypatch):
    assert len(TEXT.splitlines()) < 250
    monkeypatch.setenv("HEAR_MIRROR", "http://127.0.0.1:9")
    first = next(command for command in COMMANDS if command[1] == "tag")
    words = [str(recording) if word == "recording.wav" else word for word in first[1:]]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 4


COMMANDS = [
    shlex.split(command, comments=True)
    for block in blocks("sh")
    for line in block.replace("\\\n", "").splitlines()
    for command in line.split(" | ")
    if command.startswith("hear ")
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_exist_with_their_options(words):
    command = get_command(app)
    words = words[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
        if isinstance(command, DeferredCommand):
            command = command.loaded()
    if default := getattr(command, "default_command", ""):
        command = command.commands[default]
    assert not hasattr(command, "commands"), f"no such command: {words}"
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


def test_commands_were_found():
    assert len(COMMANDS) >= 12


def test_the_options_of_load_model_are_those_of_the_table():
    names = set(loading.load_plugin.__annotations__) - {
        "zoo",
        "config",
        "model_file_path",
        "overrides",
    }
    names -= {"return"}
    overrides = set(embedding_configs("hear_mn")["mn04_e1_l"].__dataclass_fields__) - {"note"}
    page = (README.parent / "docs" / "embeddings.md").read_text("utf-8")
    (table,) = re.findall(r"\| option \| default.*?\n\n", page, re.DOTALL)
    cells = [line.split("|")[1] for line in table.strip().splitlines()[2:]]
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == names | overrides


def test_the_yaml_is_an_embedding(tmp_path, monkeypatch):
    (text,) = (block for block in blocks("yaml") if block.startswith("mine:"))
    (tmp_path / "hear_mn.yaml").write_text(text)
    monkeypatch.setenv("HEAR_CONFIGS", str(tmp_path))
    assert embedding_configs("hear_mn")["mine"].timestamp_hop == 0.02


def test_the_modules_are_those_of_the_list():
    page = (README.parent / "docs" / "modules.md").read_text("utf-8")
    (table,) = re.findall(r"<!-- hear list --markdown -->\n(.*?)<!-- end -->", page, re.DOTALL)
    result = CliRunner().invoke(app, ["list", "--markdown"])
    assert table == result.stdout


@pytest.mark.parametrize(
    ("page", "target"),
    [(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\(([^)#]+)\)", text)],
)
def test_links_into_the_project_lead_somewhere(page, target):
    assert target.startswith("https://") or (page.parent / target).is_file()
