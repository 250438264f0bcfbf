"""The names at the top of the package, and the installation of heareval."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hear_eval
from hear_eval import install


def test_every_exported_name_is_importable():
    assert sorted(hear_eval._MODULES) == sorted(hear_eval.__all__)
    for name in hear_eval.__all__:
        assert getattr(hear_eval, name).__name__ == name
    assert set(hear_eval.__all__) <= set(dir(hear_eval))
    with pytest.raises(AttributeError, match="no attribute 'evaluates'"):
        hear_eval.evaluates  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    heavy = ["torch", "numpy", "tensorflow", "heareval", "soundfile", "pandas", "matplotlib"]
    code = (
        "import sys, hear_eval; from hear_eval import evaluate, run_task, write_report;"
        f"print(*[m for m in {heavy[2:4]} + {heavy[5:]} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []
    code = f"import sys, hear_eval; print(*[m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--dry-run", 2), ("more", 2)])
def test_an_argument_installs_nothing(monkeypatch, capsys, argument, code):
    monkeypatch.setattr(install.subprocess, "run", lambda *given, **options: pytest.fail("ran pip"))
    with pytest.raises(SystemExit) as caught:
        install.main([argument])
    assert caught.value.code == code
    assert "python -m hear_eval.install" in "".join(capsys.readouterr())


def test_a_failure_of_pip_is_reported(monkeypatch):
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(install.subprocess, "run", lambda *given, **options: failed)
    with pytest.raises(SystemExit, match=r"pip could not install heareval==2021\.1\.3"):
        install.main([])
