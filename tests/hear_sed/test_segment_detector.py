"""The detectors of PANNs: segments as in the original, as events and as a plug-in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_core.zoo.metadata import save_checkpoint
from hear_sed import ZOO, Detector
from hear_sed.segment_detector import SegmentDetector
from tests import goldens
from tests.goldens import waveform

HOP = 16 * 320  # samples of a segment of the small network


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A detector with a small body, whose segments have 16 frames, in a file that describes it."""
    record = replace(ZOO["cnn14_att"], arguments={"body": "cnn6", "decision": "att"})
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "own.safetensors"
    save_checkpoint(file, record.build(), record.describe(), half=False)
    return Detector(file, engine="torch")


@pytest.mark.slow
@pytest.mark.parametrize("decision", ["max", "avg", "att"])
def test_the_frames_are_those_of_the_original(decision):
    """It repeats every segment for its 32 frames, and the last one up to the end."""
    name = f"Cnn14_DecisionLevel{decision.title()}"
    record = ZOO[f"cnn14_{decision}"]
    network = record.build().eval()
    state = {k: v for k, v in goldens.panns(name).items() if k not in record.constants}
    network.load_state_dict(state)
    golden = goldens.arrays("sed/panns")[f"{name}.framewise_output"]
    with torch.inference_mode():
        log_mel = record.frontend()(torch.as_tensor(waveform(2.0, batch=2, sample_rate=32000)))
        segments = network(log_mel)["logits"].sigmoid().squeeze(2).transpose(1, 2)
    frames = segments.repeat_interleave(32, dim=1)
    frames = torch.cat([frames, frames[:, -1:].expand(-1, 201 - 192, -1)], dim=1)
    goldens.assert_close(frames[:, :: -(-201 // golden.shape[1])], golden, atol=1e-5, rtol=1e-4)


def test_the_frames_are_the_segments_of_the_network(detector):
    audio = torch.as_tensor(waveform(1.0, sample_rate=32000))[:, : 5 * HOP]
    network, frontend = detector.model.extractor.backbone, detector.model.extractor.frontend
    taps = ("weak", "logits", "sequence", "b1")
    with torch.inference_mode():
        values = network(frontend(audio), taps)
    found = detector.model.get_frames(audio)
    goldens.assert_close(found, values["logits"].squeeze(2).transpose(1, 2), atol=1e-5, rtol=1e-5)
    for tap in taps:
        channels, bands = network.tap_shapes[tap]
        assert values[tap].shape[1:3] == ((channels,) if bands is None else (channels, bands))
    _, timestamps = detector.model.get_timestamp_embeddings(audio)
    assert timestamps[0].tolist() == [75.0 + 160 * i for i in range(5)]  # means of 16 frames


def test_events_last_whole_segments(detector):
    audio = np.asarray(waveform(2.0, sample_rate=32000))[0]
    scores = detector.frames(audio)
    assert scores.onset.tolist() == pytest.approx([0.16 * i for i in range(13)])
    assert scores.offset[-1] == pytest.approx(2.0)
    assert (detector.decoding.median, detector.frame_hop, len(detector.labels)) == (1, 0.16, 527)
    level = float(np.median(scores.scores.max(0)))
    events = detector.detect(audio, replace(detector.decoding, threshold=level))
    assert len(events) >= (scores.scores >= level).any(0).sum() > 0
    assert all(abs(event.onset / 0.16 - round(event.onset / 0.16)) < 1e-6 for event in events)


def test_a_decision_for_the_clip_is_not_a_detector():
    with pytest.raises(ConfigError, match=r"decides for segments \(max, avg, att\)"):
        SegmentDetector(decision="clip")
