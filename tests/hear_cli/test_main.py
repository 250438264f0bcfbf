"""The ``hear`` command as a whole: its groups, its version, and how it fails."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

import hear_core
from hear_cli import complexity, info
from hear_cli.app import GROUPS, app
from hear_cli.failures import describe_failure
from hear_cli.sounds import siren
from hear_core.errors import ConfigError
from tests.hear_cli.command import HEAR, ROOT, hear, script

FULL = Path("/dev/full")
STARTER = ["-b", "mn01_starter"]


def test_version():
    assert script("--version") == f"hear {hear_core.__version__}\n"


def test_commands_are_grouped():
    output = CliRunner().invoke(app, ["--help"]).output
    for group, commands in GROUPS.items():
        assert f"─ {group} ─" in output
        assert all(f"│ {name} " in output for name in commands)


@pytest.mark.parametrize("name", [name for entries in GROUPS.values() for name in entries])
def test_the_list_has_the_first_sentence_of_each_help(name):
    entry = next(entries[name] for entries in GROUPS.values() if name in entries)
    command = entry.load(name)
    assert command.name == name
    assert command.help.split("\n\n")[0].replace("\n", " ") == entry.summary


@pytest.mark.parametrize("words", [["--help"], ["train", "--list"]])
def test_what_needs_no_network_starts_without_torch(words):
    code = f"import sys; from hear_cli.app import run_app; sys.argv[1:] = {words}\ntry: run_app()\n"
    code += "finally: print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **ROOT},
        check=True,
    )
    assert done.stdout
    assert done.stderr.splitlines()[-1] == "False"


def test_shell_completion_knows_the_commands():
    environment = {"_HEAR_COMPLETE": "complete_bash", "COMP_WORDS": "hear comp", "COMP_CWORD": "1"}
    assert script(**environment).split() == ["complexity"]


def fails(error):
    def call(*_):
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConfigError("no such thing"), "hear: no such thing\n"),
        (OSError(errno.ENOSPC, "x", "out.csv"), "hear: out.csv: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "o"), "hear: o: Permission denied\n"),
        (MemoryError(), "hear: out of memory"),
        (ModuleNotFoundError("x", name="onnx"), "pip install 'efficient-hear[onnx]'"),
        (ModuleNotFoundError("x", name="h5py.h5"), "pip install 'efficient-hear[train]'"),
        (KeyError("odd"), "hear: unexpected KeyError: 'odd'\nThis is a fault of efficient-hear."),
    ],
)
def test_a_failure_is_a_sentence_and_a_traceback_only_on_request(monkeypatch, error, message):
    monkeypatch.setattr(info, "find_plugin", fails(error))
    said = hear("info", "mn10_as", code=1)
    assert message in said
    assert "Traceback" not in said
    for said in (hear("--debug", "info", "x", code=1), hear("info", "x", code=1, HEAR_DEBUG="1")):
        assert "Traceback" in said
        assert message in said


def test_an_interrupted_command_is_quiet(monkeypatch):
    monkeypatch.setattr(complexity, "find_plugin", fails(KeyboardInterrupt()))
    assert hear("complexity", "mn10_as", code=130) == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_ctrl_c_ends_a_listener_without_a_traceback():
    with subprocess.Popen(
        [HEAR, "listen", *STARTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **ROOT},
    ) as process:
        process.stdin.write(bytes(2 * 32000 * 8))  # more than a pipe holds: some has been read
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == b""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no head")
def test_a_closed_pipe_is_quiet():
    command = f"{HEAR} list --markdown | head -n 1"
    result = subprocess.run(
        command, shell=True, capture_output=True, text=True, env={**os.environ, **ROOT}
    )
    assert result.stderr == ""
    assert result.stdout.startswith("| module")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_a_sentence():
    with FULL.open("w") as full:
        result = subprocess.run(
            [HEAR, "complexity", "mn01_as", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert result.returncode == 1
    assert result.stderr.startswith("hear: the disk is full")
    assert "Exception ignored" not in result.stderr


def test_a_console_without_unicode_loses_nothing(tmp_path):
    file = tmp_path / "雨.wav"
    soundfile.write(file, siren(1.0, 32000).numpy(), 32000)
    environment = {"PYTHONIOENCODING": "cp1252"}
    said = script("tag", file, *STARTER, "--top", 1, **environment)
    assert r"\u96e8.wav" in said


def test_describe_keeps_an_unexpected_message_on_one_line():
    assert describe_failure(ValueError("two\nlines")).startswith(
        "unexpected ValueError: two lines\n"
    )


def _run_main(preparation, *arguments):
    code = f"import sys\n{preparation}\nfrom hear_cli.main import main\nmain()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **ROOT}, check=False
    )


def test_the_version_needs_no_torch():
    result = _run_main("sys.modules['torch'] = None", "--version")
    assert (result.returncode, result.stdout) == (0, f"hear {hear_core.__version__}\n")


def test_an_interrupt_during_the_imports_is_quiet():
    interrupting = """
class Finder:
    def find_spec(self, name, *_):
        if name == "torch":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())"""
    result = _run_main(interrupting, "list")
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")
