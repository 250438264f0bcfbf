"""``hear detect``."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import soundfile

from hear_core.events.decoding import EventDecoding
from hear_core.events.timed_scores import events_in
from hear_core.zoo.metadata import save_checkpoint
from hear_sed import Detector
from hear_sed.zoo import ZOO
from tests.hear_cli.command import hear, script

QUICK = ["--detector", "fmn04", "--random-weights"]


@pytest.fixture
def clip(tmp_path):
    """Eleven seconds of a stereo file of another rate."""
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (11 * 22050, 2))
    soundfile.write(tmp_path / "clip.wav", samples, 22050)
    return tmp_path / "clip.wav"


@pytest.fixture
def level(clip):
    """A threshold that the scores of some class cross."""
    scores = Detector("fmn04", pretrained=False).frames(clip).scores
    return float(np.median(scores[:, scores.std(0).argmax()]))


def test_formats_hold_the_same(clip, level, tmp_path):
    arguments = ["detect", clip, *QUICK, "--threshold", level, "--merge-gap", 0.1]
    events = json.loads(script(*arguments, "--format", "json"))
    assert events
    for event in events:
        assert event["file"] == str(clip)
        assert 0 <= event["onset"] < event["offset"] <= 11.0
        assert event["score"] >= level - 1e-6
    hear(*arguments, "--format", "dcase", "-o", tmp_path / "events.tsv")
    text = (tmp_path / "events.tsv").read_text()
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    assert list(rows[0]) == ["filename", "onset", "offset", "event_label"]
    assert [(float(row["onset"]), row["event_label"]) for row in rows] == [
        (round(event["onset"], 3), event["label"]) for event in events
    ]
    assert len(hear(*arguments, "--format", "audacity").splitlines()) == len(events)


def test_a_detector_that_was_not_released_is_composed_by_its_name(clip):
    arguments = ["detect", clip, "-d", "fmn04+tcn:32", "--random-weights", "--threshold", 0.999]
    assert hear(*arguments, "--format", "csv").splitlines()[0].startswith("file,")


def test_only_some_classes_are_looked_for(clip, tmp_path):
    arguments = ["--only", "Speech,Music", "--threshold", 0, "--format", "json"]
    events = json.loads(hear("detect", clip, *QUICK, *arguments))
    assert [(e["label"], e["onset"], e["offset"]) for e in events] == [
        ("Speech", 0.0, 11.0),
        ("Music", 0.0, 11.0),
    ]


def test_change_points_give_events_that_a_threshold_only_selects(clip, level):
    arguments = ["detect", clip, *QUICK, "--smoothing", "sebbs", "--format", "json"]
    more, less = (
        {
            (e["label"], e["onset"], e["offset"])
            for e in json.loads(hear(*arguments, "--threshold", t))
        }
        for t in (level - 0.05, level)
    )
    assert less < more


@pytest.fixture
def tuned(tmp_path):
    """A checkpoint of a tiny detector with thresholds and a decoding."""
    record = ZOO["fmn04+tcn:32"].with_labels(["hiss", "hum"])
    decoding = EventDecoding(threshold=0.0, release=1.0, median=25)
    metadata = record.describe(thresholds={"hum": 1.0}, decoding=decoding.entries())
    save_checkpoint(tmp_path / "tuned.safetensors", record.build(), metadata)
    return tmp_path / "tuned.safetensors"


@pytest.mark.parametrize(
    ("arguments", "labels", "median"),
    [
        ([], {"hiss"}, 25),
        (["--threshold", 0], {"hiss", "hum"}, 25),
        (["--median", 1], {"hiss"}, 1),
    ],
)
def test_the_decoding_of_the_checkpoint_is_used_unless_options_replace_it(
    clip, tuned, monkeypatch, arguments, labels, median
):
    used = []
    monkeypatch.setattr(
        "hear_cli.detect.events_in",
        lambda parts, classes, rule: used.append(rule) or events_in(parts, classes, rule),
    )
    found = json.loads(hear("detect", clip, "--model", tuned, *arguments, "--format", "json"))
    assert {event["label"] for event in found} == labels
    assert (used[0].median, used[0].release) == (median, 1.0)


def test_plot(clip, tmp_path):
    pytest.importorskip("matplotlib")
    hear("detect", clip, *QUICK, "--plot", tmp_path / "pictures")
    assert (tmp_path / "pictures" / "clip.png").stat().st_size > 10_000


def test_a_file_that_cannot_be_read_does_not_stop_the_others(clip, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    error = hear("detect", tmp_path / "text.wav", clip, *QUICK, code=1)
    assert "1 of 2 files could not be processed" in error


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--detector", "fmn99"], "unknown backbone 'fmn99'", 1),
        (["--median", 4], "4 is not an odd number", 2),
        (["--smoothing", 0], "'0' is neither a whole number from 1 to 9999 nor 'sebbs'", 2),
        (["--hop", 20], "leaves gaps", 2),
        (["--format", "mat"], "unknown format 'mat'", 2),
    ],
)
def test_errors(clip, arguments, message, code):
    assert message in hear("detect", clip, *QUICK, *arguments, code=code)
