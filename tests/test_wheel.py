"""The wheel, installed with its base dependencies and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
import soundfile
from packaging.requirements import Requirement

from tests.goldens import waveform

ROOT = Path(__file__).parents[1]
NOT_IN_SOURCES = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "tests")


def run(*command, **options):
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def required(name, extras=()):
    """Yield the names of a distribution and of what it needs on this machine, again and again."""
    yield name
    for line in distribution(name).requires or []:
        requirement = Requirement(line)
        wanted = [{"extra": extra} for extra in ("", *extras)]
        if not requirement.marker or any(map(requirement.marker.evaluate, wanted)):
            yield from required(requirement.name, requirement.extras)


def link(name, site):
    """Make an installed distribution importable from another folder too."""
    for file in distribution(name).files:
        target = site / file.parts[0]
        if file.parts[0] != ".." and not target.exists():
            target.symlink_to(distribution(name).locate_file(file.parts[0]))


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return the folder of the scripts of an environment with the wheel and its dependencies.

    The dependencies are those of the running environment, so that nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "sources", ignore=NOT_IN_SOURCES)
    build = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"
    run(sys.executable, "-c", build, folder, cwd=folder / "sources")
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=os.name != "nt")
    paths = {"base": str(folder / "env"), "platbase": str(folder / "env")}
    scripts, site = (Path(sysconfig.get_path(key, "venv", paths)) for key in ("scripts", "purelib"))
    # With the sources on its path, pip would take the project for installed.
    run(
        *(sys.executable, "-m", "pip", "--python", scripts / Path(sys.executable).name),
        *("install", "--quiet", "--no-index", "--no-deps", wheel),
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    (info,) = site.glob("efficient_hear-*.dist-info")
    for line in (info / "METADATA").read_text("utf-8").splitlines():
        if line.startswith("Requires-Dist:") and "extra ==" not in line:
            for name in set(required(Requirement(line.partition(": ")[2]).name)):
                link(name, site)
    return scripts


def isolated(scripts, *command):
    """Run a command of the environment, which sees neither the sources nor what a user has set."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HEAR_"))}
    return run(scripts / command[0], *command[1:], env=clean, cwd=scripts)


def test_packages_are_imported_without_extras(environment):
    code = "import sys, hear_mn, hear_sed, hear_eval, hear_train; print(*sys.modules)"
    modules = isolated(environment, "python", "-c", code).split()
    extras = {"accelerate", "h5py", "onnxruntime", "pandas", "pyarrow", "ray", "sklearn"}
    assert not extras & set(modules)


def test_the_command_tells_its_version(environment):
    code = "from importlib.metadata import version; print(version('efficient-hear'))"
    version = isolated(environment, "python", "-c", code).strip()
    assert version in isolated(environment, "hear", "--version")


def test_the_packaged_network_tags_a_file(environment, tmp_path):
    soundfile.write(tmp_path / "clip.wav", waveform(2.0)[0].numpy(), 32000)
    said = isolated(environment, "hear", "tag", tmp_path / "clip.wav", "-b", "mn01_starter")
    assert any(name in said for name in ("Sine wave", "Chirp tone", "Music"))


def test_type_hints_and_data_are_shipped(environment):
    code = "import hear_core; print(hear_core.__file__)"
    package = Path(isolated(environment, "python", "-c", code).strip()).parent
    assert environment.parent in package.parents
    assert (package / "py.typed").is_file()
