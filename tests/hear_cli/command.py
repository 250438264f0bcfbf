"""The ``hear`` command for tests: in this process, which is quick, or as its console script."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from hear_cli.main import main

HEAR = Path(sys.executable).with_name("hear")
ROOT = {"PYTHONPATH": str(Path(__file__).parents[2])}  # these sources, whatever is installed


def hear(*arguments, code=0, **environment):
    """Return what the command prints, on stderr if it is to fail."""
    out, err, found = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in {"COLUMNS": "200", **environment}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["hear", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            found = end.code or 0
    if isinstance(found, str):  # what the interpreter would print
        err.write(f"{found}\n")
        found = 1
    return _checked(found, out.getvalue(), err.getvalue(), code)


def script(*arguments, code=0, **environment):
    """Do the same with the console script, in a process of its own."""
    result = subprocess.run(
        [HEAR, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**ROOT, "PATH": "", "COLUMNS": "200", **environment},
    )
    return _checked(result.returncode, result.stdout, result.stderr, code)


def _checked(found, out, err, code):
    assert found == code, out + err
    return err if code else out
