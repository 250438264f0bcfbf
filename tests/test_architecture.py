"""The arrows between the packages: imports only go down."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "embeddings_configs": set(),
    "training_configs": set(),
    "hear_core": set(),
    "hear_mn": {"hear_core"},
    "hear_sed": {"hear_core"},
    "hear_eval": {"hear_core"},
    "hear_train": {"hear_core", "hear_mn", "hear_sed"},
    "hear_cli": {"hear_core", "hear_mn", "hear_sed", "hear_eval", "hear_train"},
}

# Folders of a package, from the bottom up; a folder imports only those before it.
FOLDERS = {
    "hear_core": [
        "io", "audio", "events", "metrics", "frontends", "networks", "zoo", "analysis", "runtime",
        "plugins", "export",
    ],
    "hear_sed": ["sequence", "backbones"],
    "hear_train": ["augment", "data", "objectives", "loop", "classify"],
    "hear_eval": ["tasks", "embeddings", "downstream", "report"],
}  # fmt: skip


def imported(file):
    """Yield the full names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_package_has_its_place():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"tests", "benchmarks"} == set(MAY_IMPORT)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_only_go_down(package):
    for file in (ROOT / package).rglob("*.py"):
        ours = {name.split(".")[0] for name in imported(file)} & set(MAY_IMPORT) - {package}
        assert ours <= MAY_IMPORT[package], file


@pytest.mark.parametrize("package", FOLDERS)
def test_imports_between_folders_only_go_down(package):
    folders = FOLDERS[package]
    assert set(folders) == {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    for number, folder in enumerate(folders):
        above = {f"{package}.{name}" for name in folders[number + 1 :]}
        for file in (ROOT / package / folder).rglob("*.py"):
            up = {".".join(name.split(".")[:2]) for name in imported(file)} & above
            assert not up, f"{file} imports {up}"


def test_a_plugin_imports_nothing_heavy_but_torch():
    heavy = ["torchaudio", "tensorflow", "pandas", "scipy", "sklearn", "librosa", "matplotlib"]
    heavy += ["onnx", "onnxruntime", "typer", "soundfile", "torch._dynamo"]
    code = f"import sys, hear_mn.mn04_e1_l; print(*[m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def test_the_command_imports_what_trains_only_when_it_trains():
    for file in (ROOT / "hear_cli").glob("*.py"):
        first = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ImportFrom)]
        assert not [n for n in first if n.module.split(".")[0] in ("hear_train", "accelerate")]


def test_no_library_code_prints():
    for package in set(MAY_IMPORT) - {"hear_cli"}:
        for file in (ROOT / package).rglob("*.py"):
            calls = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Call)]
            assert not [c for c in calls if getattr(c.func, "id", None) == "print"], file
