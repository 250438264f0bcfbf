"""``hear detect``."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import soundfile

from hear_sed import Detector
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
        assert 0 <= event["start"] < event["end"] <= 11.0
        assert event["score"] >= level - 1e-6
    hear(*arguments, "--format", "dcase", "-o", tmp_path / "events.tsv")
    text = (tmp_path / "events.tsv").read_text()
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    assert list(rows[0]) == ["filename", "onset", "offset", "event_label"]
    assert [(float(row["onset"]), row["event_label"]) for row in rows] == [
        (round(event["start"], 3), event["label"]) for event in events
    ]
    assert len(hear(*arguments, "--format", "audacity").splitlines()) == len(events)


def test_only_some_classes_are_looked_for(clip, tmp_path):
    arguments = ["--only", "Speech,Music", "--threshold", 0, "--format", "json"]
    events = json.loads(hear("detect", clip, *QUICK, *arguments))
    assert [(e["label"], e["start"], e["end"]) for e in events] == [
        ("Speech", 0.0, 11.0),
        ("Music", 0.0, 11.0),
    ]


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
        (["--hop", 20], "leaves gaps", 2),
        (["--format", "mat"], "unknown format 'mat'", 2),
    ],
)
def test_errors(clip, arguments, message, code):
    assert message in hear("detect", clip, *QUICK, *arguments, code=code)
