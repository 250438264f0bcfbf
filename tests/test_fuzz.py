"""Mutated input through every door: a result that is right, or an error of the project."""

from __future__ import annotations

import random
import sys
from contextlib import suppress

import pytest
import torch

from benchmarks.fuzz import fuzz_door
from benchmarks.fuzz_doors import DOORS
from hear_core.errors import HearError

INPUTS = 12


@pytest.fixture(autouse=True)
def _as_before(monkeypatch, tmp_path):
    """Leave the number of threads, the caches and the plug-ins as they were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    torch.set_num_threads(threads)
    sys.modules.pop("statistics_plugin", None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(set(DOORS) - {"options"}))
def test_every_door_refuses_or_is_right(tmp_path, name):
    """A few inputs in this process; `test_fuzz` also sees files outside, code and memory."""
    for part in ("valid", "work"):
        (tmp_path / part).mkdir()
    valid = DOORS[name].prepare(tmp_path / "valid")
    for index in range(round(INPUTS * min(1, DOORS[name].weight))):
        work = tmp_path / "work" / str(index)
        work.mkdir()
        with suppress(HearError):
            DOORS[name].attempt(valid, work, random.Random(index), tmp_path / "canary")
    assert not (tmp_path / "canary").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory and files are watched by Linux")
@pytest.mark.parametrize("name", DOORS)
def test_fuzz(name):
    report = fuzz_door(name, 100, seed=1)
    assert report.details == []
    assert report.results > 0
