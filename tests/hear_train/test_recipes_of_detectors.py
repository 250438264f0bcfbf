"""The recipes of detectors, each trained for some steps on recordings that the test makes."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from accelerate import Accelerator
from typer.testing import CliRunner

from hear_cli.app import app
from hear_core.events.event import Event
from hear_core.zoo.metadata import read_metadata
from hear_sed import DetectionStream, Detector
from hear_train.loop.logs import read_log
from hear_train.recipes import build, load_recipe

DETECTION = {"detect"}
"""Recipes that are tested here."""

RATE = 16000
SECONDS = 1.6
TINY = (
    "model.backbone=fmn04",
    "model.pretrained=false",
    "model.weights=[]",
    "model.norm_momentum=0.3",
    f"data.seconds={SECONDS}",
    "data.batch_size=4",
    "trainer.epochs=4",
    "trainer.log_every=1",
    "trainer.validate_every=2",
    "trainer.optimiser.lr=4e-3",
    "trainer.optimiser.head_lr=2e-2",
    "trainer.optimiser.layer_decay=1",
    "trainer.schedule={name: constant}",
    "waveforms={}",
    "frames={mel_edges: false}",
)


def scene(number):
    """Return a recording of noise with two tones, low and high, and their events."""
    rng = np.random.default_rng(number)
    samples = 0.01 * rng.standard_normal(round(SECONDS * RATE))
    events = []
    for start, (label, pitch) in zip(
        (rng.uniform(0, 0.4), rng.uniform(0.8, 1.1)),
        (("low", 400), ("high", 2500)) if number % 2 else (("high", 2500), ("low", 400)),
        strict=True,
    ):
        begin, end = round(start * RATE), round((start + 0.4) * RATE)
        samples[begin:end] += 0.3 * np.sin(2 * np.pi * pitch * np.arange(end - begin) / RATE)
        events.append(Event(label, start, start + 0.4))
    return samples.astype(np.float32), events


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A folder of 20 recordings with a table of their events."""
    folder = tmp_path_factory.mktemp("scenes")
    rows = ["filename\tonset\toffset\tevent_label"]
    for number in range(20):
        samples, events = scene(number)
        soundfile.write(folder / f"scene{number:02}.wav", samples, RATE)
        rows += [f"scene{number:02}.wav\t{e.onset}\t{e.offset}\t{e.label}" for e in events]
    (folder / "events.tsv").write_text("\n".join(rows))
    return folder


def train(folder, run, *more, recipe="detect", data=None):
    loaded = load_recipe(recipe, [*TINY, f"data.labels={folder / 'events.tsv'}", *more])
    return build(loaded, data or [folder], run, Accelerator(cpu=True))


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """A detector of the tones, trained by the command."""
    run = tmp_path_factory.mktemp("runs") / "mine"
    line = ["train", "detect", run, "--data", scenes, "--labels", scenes / "events.tsv", "--cpu"]
    line += ["--workers", 0, *(word for value in TINY for word in ("--set", value))]
    line += ["--set", "trainer.epochs=8"]
    result = CliRunner().invoke(app, list(map(str, line)))
    assert result.exit_code == 0, result.output
    return run


def test_a_detector_of_own_events_learns_them(trained):
    losses = [row["loss"] for row in read_log(trained / "log.csv") if "loss" in row]
    assert losses[-1] < 0.5 * losses[0]
    metadata = read_metadata(trained / "best.safetensors")
    assert metadata.labels == ("high", "low")
    assert set(metadata.thresholds) == {"high", "low"}


def test_it_detects_in_a_new_recording_by_command_in_a_stream_and_exported(trained, tmp_path):
    samples, events = scene(99)
    soundfile.write(tmp_path / "new.wav", samples, RATE)
    weights = trained / "best.safetensors"
    line = ["detect", tmp_path / "new.wav", "--model", weights, "--format", "csv"]
    result = CliRunner().invoke(app, list(map(str, line)))
    assert result.exit_code == 0, result.output
    found = [row.split(",") for row in result.output.splitlines()[1:]]
    assert [row[3] for row in found] == [event.label for event in events]
    onsets = [float(row[1]) for row in found]
    assert onsets == pytest.approx([event.onset for event in events], abs=0.2)
    detector = Detector(weights, engine="torch", window=SECONDS, hop=SECONDS / 2)
    assert detector.labels == ("high", "low")
    whole = detector.frames(samples).scores
    stream = DetectionStream(detector)
    parts = [*stream.run(iter(np.array_split(samples, 7)))]
    np.testing.assert_allclose(np.concatenate([p.scores for p in parts]), whole, atol=1e-6)
    exported = tmp_path / "mine.onnx"
    line = ["export", weights, exported]
    result = CliRunner().invoke(app, list(map(str, line)))
    assert result.exit_code == 0, result.output
    assert exported.is_file()
