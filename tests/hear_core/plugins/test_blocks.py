"""Recordings that are read in blocks: the embeddings of the whole, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_core.errors import AudioError
from hear_core.runtime.engines import onnx_available

# The batches of windows are small, so that a recording of seconds has several.
WINDOWS = {"scene_window": 0.5, "scene_hop": 0.2, "megabytes": 4}


def load(name, engine="torch", **options):
    return import_module(name).load_model(engine=engine, **{**WINDOWS, **options})


MODELS = {
    "window": load("hear_mn.starter"),
    "frame": load("hear_sed.fmn04", pretrained=False),
}


def sound(samples, rate, seed=0):
    # Not stationary, so that a window in the wrong place is noticed.
    time = np.arange(samples) / rate
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, samples)
    return (noise * np.sin(time * (2 + time)) ** 2).astype(np.float32)


def split(waveform, size):
    return (waveform[start : start + size].copy() for start in range(0, len(waveform), size))


def check(model, samples, size, **tolerance):
    waveform = sound(samples, model.sample_rate)
    whole = torch.from_numpy(waveform)[None]
    scene = model.embed_scene_blocks(split(waveform, size))
    torch.testing.assert_close(scene, model.get_scene_embeddings(whole)[0], **tolerance)
    rows, times = zip(*model.embed_timestamp_blocks(split(waveform, size)), strict=True)
    expected, expected_times = model.get_timestamp_embeddings(whole)
    assert torch.cat(times).tolist() == expected_times[0].tolist()
    torch.testing.assert_close(torch.cat(rows), expected[0], **tolerance)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("change", [-1, 0, 1])
@pytest.mark.parametrize("seconds", [0, 0.04, 0.5, 0.6, 1.3])
def test_embeddings_of_blocks_are_those_of_the_whole(kind, seconds, change):
    model = MODELS[kind]
    samples = max(1, round(seconds * model.sample_rate) + change)
    for size in (999, 8000, samples):
        check(model, samples, size, atol=1e-6, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.integers(1, 60000), st.integers(500, 70000))
def test_embeddings_do_not_depend_on_the_blocks(kind, samples, size):
    check(MODELS[kind], samples, size, atol=1e-6, rtol=1e-5)


@pytest.mark.skipif(not onnx_available(), reason="ONNX Runtime is not installed")
@pytest.mark.parametrize("name", ["hear_mn.starter", "hear_sed.fmn04"])
def test_engines_take_blocks(name):
    options = {} if name == "hear_mn.starter" else {"pretrained": False}
    check(load(name, "onnx", **options), 50001, 9000, atol=1e-5, rtol=1e-4)


def test_windows_of_blocks_have_the_same_bits():
    """If the batches are the same, what is computed from them is added in the same order."""
    waveform = sound(60000, MODELS["window"].sample_rate)
    blocks = split(waveform, 7000)
    found = load("hear_mn.starter", megabytes=16).embed_scene_blocks(blocks)
    expected = load("hear_mn.starter", megabytes=4).get_scene_embeddings(
        torch.tensor(waveform[None])
    )
    torch.testing.assert_close(found, expected[0], atol=0, rtol=0)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("bad", [[], [np.zeros(0, np.float32)], [np.full(9, np.nan, np.float32)]])
def test_invalid_blocks_are_refused(kind, bad):
    with pytest.raises(AudioError):
        MODELS[kind].embed_scene_blocks(bad)
    with pytest.raises(AudioError):
        list(MODELS[kind].embed_timestamp_blocks(bad))


MEMORY = """
import sys, warnings
from importlib import import_module
from pathlib import Path
import numpy as np

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000

def blocks(minutes, marks):
    block = np.random.default_rng(0).uniform(-0.5, 0.5, model.sample_rate * 20).astype(np.float32)
    for i in range(3 * minutes):
        marks.append(peak())
        yield block.copy()

name, kind = sys.argv[1:]
options = {} if name == "hear_mn.starter" else {"pretrained": False}
model = import_module(name).load_model(engine="torch", megabytes=16, **options)
model.embed_scene_blocks(blocks(2, []))
for _ in model.embed_timestamp_blocks(blocks(1, [])):
    pass
marks = []
if kind == "scene":
    model.embed_scene_blocks(blocks(20, marks))
else:
    for _ in model.embed_timestamp_blocks(blocks(10, marks)):
        pass
print(peak() - marks[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("name", "kind"),
    [("hear_mn.starter", "scene"), ("hear_mn.starter", "timestamp"), ("hear_sed.fmn04", "scene")],
)
def test_memory_does_not_depend_on_the_length(name, kind):
    """Twenty minutes are 150 MB, and the timestamps of ten minutes more than 10 MB."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, name, kind], capture_output=True, text=True, check=True
    )
    assert float(run.stdout) < 40, run.stdout
