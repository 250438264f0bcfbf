"""Detectors on recordings and on live sources, with stand-in weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_core.errors import AudioError, ConfigError
from hear_core.events.decoding import EventDecoding
from hear_core.plugins import timed_model
from hear_core.plugins.timed_model import join_scores
from hear_sed import DetectionStream, Detector, streaming
from hear_sed.detector import DEFAULT_DECODING
from tests import goldens
from tests.goldens import waveform

RATE = 16000
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return a file of stand-in weights whose signal stays alive."""
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.save(goldens.detector("fmn10"), path)
    return path


@pytest.fixture(scope="module")
def pieces(weights):
    return Detector("fmn10", model_file_path=weights, pieces=True)


@pytest.fixture(scope="module")
def small():
    return Detector("fmn04", pretrained=False, engine="torch", window=2.0, hop=1.0)


def noise(samples, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, samples).astype(np.float32)


def test_pieces_equal_the_original(pieces):
    audio = waveform(13.5, sample_rate=RATE)[0].numpy()
    found = pieces.frames(audio)
    golden = goldens.arrays("sed/inference_long")
    frames = len(found.scores)
    assert frames == 338  # the original continues to the end of the last piece
    expected = golden["probabilities"][0].T[: -(-frames // 5)]
    goldens.assert_close(found.scores[::5], expected, atol=1e-3)
    selected = found.scores[:, golden["selected_classes"]]
    goldens.assert_close(selected, golden["probabilities_selected"].T[:frames], atol=1e-3)


def test_events_equal_the_original(pieces):
    """But those beyond the end, which have no length, and the frames next to it.

    There the median of the original includes scores of the silence that it appends.
    """
    facts = goldens.facts("sed/metrics")["decode"]
    wanted = facts["events_0.5_selected"]
    labels = {label for label, _, _ in wanted}
    found = pieces.detect(waveform(13.5, sample_rate=RATE)[0].numpy())
    last = 13.5 - 4 * 0.04

    def settled(events):
        return {
            (label, round(onset, 2), round(min(offset, last), 2))
            for label, onset, offset in events
            if label in labels and onset < last
        }

    ours = settled((e.label, e.onset, e.offset) for e in found)
    theirs = settled(tuple(event) for event in wanted)
    # A score a rounding away from a half may fall on either side.
    assert len(ours ^ theirs) <= 0.02 * len(theirs)


def test_times_end_with_the_audio(small):
    found = small.frames(noise(RATE + 100))
    assert len(found.scores) == len(found.onset) == 26
    np.testing.assert_allclose(found.onset, 0.04 * np.arange(26))
    np.testing.assert_allclose(found.offset[:-1], found.onset[1:])
    assert found.offset[-1] == (RATE + 100) / RATE


def test_no_row_ends_after_a_resampled_recording(small):
    found = small.frames(np.zeros(48001, np.float32), sample_rate=48000)
    assert 0 <= 48001 / 48000 - found.offset.max() < 1 / 32000


@pytest.mark.parametrize("samples", [1, 100, 639, 640, 641, 32000, 32001, 100000])
def test_any_length(small, samples):
    found = small.frames(noise(samples))
    assert found.scores.shape == (-(-samples // 640), 447)
    assert np.isfinite(found.scores).all()


def whole(detector, audio):
    """Return the scores of audio that is processed at once, without a stream."""
    return detector.model.get_frames(torch.from_numpy(audio)[None])[0].sigmoid().numpy()


@settings(max_examples=20, deadline=None)
@given(
    samples=st.integers(0, 9 * RATE),
    sizes=st.lists(st.integers(16, 3 * RATE), min_size=1, max_size=5),
)
def test_a_stream_gives_the_scores_of_its_recording(small, samples, sizes):
    """Chunks of 1 ms to 3 s."""
    audio = noise(samples)
    stream, parts, start = DetectionStream(small), [], 0
    while start < samples:
        size = sizes[len(parts) % len(sizes)]
        parts.append(stream.feed(audio[start : start + size]))
        start += size
        kept = sum(map(len, stream._kept))
        assert kept <= 2 * 2.0 * RATE + max(sizes) + 640
    parts.append(stream.finish())
    found = join_scores(parts)
    if not samples:
        assert len(found.scores) == 0
        return
    expected = whole(small, audio)
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    np.testing.assert_allclose(small.frames(audio).scores, expected, atol=1e-5)
    np.testing.assert_allclose(found.onset, 0.04 * np.arange(len(expected)), atol=1e-9)
    assert found.offset[-1] == pytest.approx(samples / RATE)


def test_a_stream_is_at_most_a_window_late(small):
    stream = DetectionStream(small)
    found = [len(stream.feed(noise(640, seed=i)).scores) for i in range(75)]
    assert found == [0] * 50 + [1] * 25


def test_an_invalid_chunk_leaves_the_stream_unchanged(small):
    stream = DetectionStream(small)
    stream.feed(noise(1000))
    with pytest.raises(AudioError, match="a chunk must have the shape"):
        stream.feed(np.zeros((2, 100), np.float32))
    assert len(stream.finish().scores) == 2


def test_a_stream_in_pieces_is_its_recording():
    detector = Detector("fmn04", pretrained=False, pieces=True)
    audio = noise(23 * RATE + 100)
    stream = DetectionStream(detector)
    parts = [stream.feed(audio[i : i + 70000]) for i in range(0, len(audio), 70000)]
    assert [len(part.scores) for part in parts] == [0, 0, 250, 0, 250, 0]
    found = join_scores([*parts, stream.finish()]).scores
    padded = np.pad(audio, (0, -len(audio) % (10 * RATE)))
    expected = [whole(detector, piece) for piece in np.split(padded, 3)]
    np.testing.assert_allclose(found, np.concatenate(expected)[: len(found)], atol=1e-5)
    np.testing.assert_allclose(detector.frames(audio).scores, found, atol=1e-5)


def test_the_length_of_blocks_and_batches_makes_no_difference(small, monkeypatch):
    audio = noise(11 * RATE + 321)
    monkeypatch.setattr(timed_model, "_BLOCK", 1.7)
    monkeypatch.setattr(streaming, "_BATCH", 3)
    parts = [*small.iter_frames(audio)]
    assert len(parts) > 3
    np.testing.assert_allclose(join_scores(parts).scores, whole(small, audio), atol=1e-5)
    events = small.detect(audio, EventDecoding(threshold=0.5, median=9))
    assert events == small.frames(audio).events(EventDecoding(threshold=0.5, median=9))


def test_a_network_without_frame_wise_classes_is_refused():
    with pytest.raises(ConfigError, match=r"fmn04_weak was trained to tag clips"):
        Detector("fmn04_weak", pretrained=False)


def test_where_windows_begin_hardly_matters(weights):
    """Detect in 30 s, in windows that begin elsewhere.

    Squeeze-and-excitation looks at a window as a whole, so it leaves a trace. With these weights, a
    class varies by 0.09 over time, and moves by 0.018 at most; in pieces by 0.28.
    """
    audio = np.tile(waveform(3.0, sample_rate=RATE)[0].numpy(), 10)

    def moved(shift, **options):
        detector = Detector("fmn10", model_file_path=weights, **options)
        whole, later = detector.frames(audio).scores, detector.frames(audio[shift:]).scores
        inside = slice(250, 500)  # away from the ends, where only one of the two has audio
        return np.abs(whole[shift // 640 :][inside] - later[inside])

    for seconds in (1.28, 2.56):
        shift = round(seconds * RATE)
        faded, hard = moved(shift), moved(shift, pieces=True)
        assert faded.max() < 0.03
        assert faded.max() < hard.max() / 10
        assert faded.mean() < hard.mean() / 3


def test_an_event_across_a_border_is_one_event(weights):
    """Compare a tone from 8 s to 12 s with the tone alone."""
    time = np.arange(20 * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 1000 * time) * ((time > 8) & (time < 12))).astype(np.float32)
    audio = tone + noise(20 * RATE) * 1e-3
    detector = Detector("fmn10", model_file_path=weights)
    found = detector.frames(audio)
    inside, outside = found.scores[215:285], found.scores[100:190]
    tells = np.argmax(inside.mean(0) - outside.mean(0))
    level = float(inside[:, tells].mean() + outside[:, tells].mean()) / 2
    rule = EventDecoding(threshold=level, release=1.0, median=9, merge_gap=0.2)
    events = [e for e in detector.detect(audio, rule) if e.label == detector.labels[tells]]
    spanning = [e for e in events if e.onset < 9 and e.offset > 11]
    assert len(spanning) == 1


def test_the_rule_is_that_of_the_original():
    found = DEFAULT_DECODING
    assert (found.threshold, found.release, found.median) == (0.5, 1.0, 9)


def test_windows_with_gaps_are_refused():
    with pytest.raises(ConfigError, match=r"windows of 1.0 s every 2.0 s do not cover"):
        Detector("fmn04", pretrained=False, window=1.0, hop=2.0)
