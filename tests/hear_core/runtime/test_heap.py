"""Keeping of freed memory, counted in pages requested from the system."""

import json
import platform
import subprocess
import sys

import pytest

from hear_core.runtime import heap as memory

COUNT = """
import json, resource
import numpy as np
from hear_core.runtime.heap import keep_freed_memory

def pages(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        arrays = [np.ones(20 << 20, np.uint8) for _ in range(4)]
        del arrays
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / rounds

found = {"before": (pages(3), pages(20))[1]}
with keep_freed_memory():
    found["within"] = (pages(3), pages(20))[1]
found["after"] = (pages(3), pages(20))[1]
print(json.dumps(found))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_pages_are_requested_once():
    result = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, check=True)
    found = json.loads(result.stdout)
    assert found["within"] < 50  # of the 20,480 pages of four arrays
    assert found["before"] > 1000
    assert found["after"] > 1000


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with memory.keep_freed_memory():
        pass


def test_a_missing_c_library_is_tolerated(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(memory.ctypes, "CDLL", missing)
    assert memory._glibc() is None
