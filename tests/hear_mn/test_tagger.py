"""Taggers on recordings and on live sources, with real and with stand-in weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_core.audio.reading import read_audio, resample
from hear_core.errors import AudioError, CheckpointError, ConfigError
from hear_core.plugins import timed_model
from hear_core.plugins.timed_model import join_scores
from hear_core.zoo.labels import audioset_labels
from hear_mn import ZOO, EATagger, TagStream
from tests import goldens
from tests.shared import METRO, MN04, needs_metro, needs_mn04


@pytest.fixture(scope="module")
def real():
    return EATagger("mn04_as", model_file_path=MN04)


@pytest.fixture(scope="module")
def starter():
    return EATagger("mn01_starter")


@pytest.fixture(scope="module")
def stand_in():
    return EATagger("mn01_as", pretrained=False)


def noise(seconds, rate=32000, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


@needs_mn04
@needs_metro
def test_the_top_ten_of_the_metro_clip(real):
    scores, features = real.tag(METRO)
    wanted = goldens.facts("mn/metro")["top10"]["int16"]
    assert [real.labels[i] for i in np.argsort(-scores)[:10]] == [w["label"] for w in wanted]
    found = [scores[w["index"]] for w in wanted]
    np.testing.assert_allclose(found, [w["probability"] for w in wanted], atol=1e-3)
    assert features.shape == (384,)


def test_an_ensemble_of_one_model_with_itself_is_that_model(starter):
    twice, audio = EATagger(["mn01_starter", "mn01_starter"]), goldens.waveform(5.0)[0].numpy()
    scores, features = twice.tag_audio_window(audio)
    alone, alone_features = starter.tag_audio_window(audio)
    np.testing.assert_allclose(scores, alone, atol=1e-6)
    np.testing.assert_allclose(features, np.tile(alone_features, 2), atol=1e-5)


def test_an_ensemble_equals_the_original(tmp_path, monkeypatch):
    monkeypatch.setenv("HEAR_CHECKPOINTS", str(tmp_path))
    for name in ("mn04", "mn10", "dymn04"):
        torch.save(goldens.mobilenet(name), tmp_path / f"{name}_im.pt")
    tagger = EATagger(["mn04_im", "mn10_im", "dymn04_im"])
    scores, _ = tagger.run(goldens.waveform(2.0, batch=2).numpy())
    golden = goldens.arrays("mn/networks")["ensemble_mn04_mn10_dymn04.calib.logits"]
    goldens.assert_close(scores, torch.from_numpy(golden).sigmoid(), atol=2e-4)
    # The original's clips differ by more than ten times as much.
    assert np.abs(scores[0] - scores[1]).max() > 2e-3


def test_an_ensemble_is_the_mean_of_logits():
    """Compare networks with different front-ends with plain torch, without windows."""
    names = ["mn01_as", "mn10_as_hop_15", "mn10_as_mels_40"]
    tagger = EATagger(names, pretrained=False, engine="torch")
    clip = noise(2.0)
    logits = []
    for name in names:
        single = EATagger(name, pretrained=False, engine="torch")
        scores = torch.from_numpy(single.tag(clip)[0].astype(np.float64))
        logits.append(scores.logit())
    expected = torch.stack(logits).mean(0).sigmoid()
    np.testing.assert_allclose(tagger.tag(clip)[0], expected, atol=1e-5)
    assert tagger.tag(clip)[1].shape == (96 + 960 + 960,)


@pytest.mark.parametrize(
    ("samples", "window", "hop", "starts"),
    [
        (32000, 1.0, 1.0, [0]),
        (32001, 1.0, 1.0, [0, 1]),
        (64000, 1.0, 0.5, [0, 0.5, 1]),
        (1, 1.0, 1.0, [0]),
        (80000, 0.5, 2.0, [0, 2]),
        (70000, 1.0, 3.0, [0]),
        (320000, 10.0, 10.0, [0]),
    ],
)
def test_windows(stand_in, samples, window, hop, starts):
    audio = noise(samples / 32000)
    tags = stand_in.windows(audio, window, hop)
    np.testing.assert_array_equal(tags.start, starts)
    np.testing.assert_array_equal(tags.end, np.minimum(np.add(starts, window), samples / 32000))
    assert tags.scores.shape == (len(starts), 527)
    assert (tags.onset[0], tags.start[0]) == (0, 0)
    if hop <= window:
        np.testing.assert_allclose(tags.onset[1:], tags.offset[:-1], atol=1e-4)
    tuples = stand_in.tag_audio_window(audio, window, hop)
    for start, scores, features in zip(tags.start, *tuples, strict=True):
        alone = audio[round(start * 32000) :][: round(window * 32000)]
        padded = np.pad(alone, (0, round(window * 32000) - len(alone)))
        expected = stand_in.tag(padded)
        np.testing.assert_allclose(scores, expected[0], atol=1e-5)
        np.testing.assert_allclose(features, expected[1], atol=1e-4)


def test_a_file_a_waveform_and_another_rate_are_the_same(starter, tmp_path):
    file, samples = tmp_path / "clip.wav", goldens.waveform(3.0, sample_rate=44100)[0].numpy()
    soundfile.write(file, samples, 44100, "FLOAT")
    from_file, _ = starter.tag(file)
    np.testing.assert_array_equal(starter.tag(read_audio(file, 32000))[0], from_file)
    np.testing.assert_array_equal(starter.tag(samples, sample_rate=44100)[0], from_file)
    np.testing.assert_array_equal(resample(samples, 44100, 32000), read_audio(file, 32000))


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(32, 96000), min_size=1, max_size=20),
    window=st.sampled_from([0.3, 1.0, 2.0]),
    hop=st.sampled_from([0.25, 1.0, 1.7]),
)
def test_a_stream_is_its_recording(starter, sizes, window, hop):
    """Chunks of 1 ms to 3 s."""
    audio = goldens.waveform(4.7)[0].numpy()
    stream, parts, done = TagStream(starter, window, hop), [], 0
    while done < len(audio):
        size = sizes[len(parts) % len(sizes)]
        parts.append(stream.feed(audio[done : done + size]))
        done += size
    parts.append(stream.finish())
    whole = starter.windows(audio, window, hop)
    for name in ("scores", "features", "start", "end", "onset", "offset"):
        found = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(found, getattr(whole, name), atol=1e-5, err_msg=name)


def test_a_stream_of_single_milliseconds_keeps_no_more_than_a_window(stand_in):
    stream = TagStream(stand_in, 0.5, 0.25)
    audio = noise(3.0)
    parts = [stream.feed(audio[i : i + 32]) for i in range(0, len(audio), 32)]
    assert sum(len(chunk) for chunk in stream._chunks) <= 16000
    scores = np.concatenate([part.scores for part in [*parts, stream.finish()]])
    whole = stand_in.windows(audio, 0.5, 0.25)
    np.testing.assert_allclose(scores, whole.scores, atol=1e-5)


def test_a_stream_of_nothing(stand_in):
    stream = TagStream(stand_in)
    assert stream.feed(np.zeros(0, np.float32)).scores.shape == (0, 527)
    assert stream.finish().features.shape == (0, 96)


def test_a_bad_chunk_leaves_the_stream_as_it_was(stand_in):
    stream, audio = TagStream(stand_in), noise(1.0)
    stream.feed(audio[:20000])
    for bad in (np.zeros(10, np.int16), np.zeros((1, 10), np.float32), np.full(9, np.nan)):
        with pytest.raises(AudioError, match="chunk"):
            stream.feed(bad)
    expected = stand_in.windows(audio).scores
    np.testing.assert_allclose(stream.feed(audio[20000:]).scores, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model_name": "mn11_as"}, ConfigError, "did you mean"),
        ({"model_name": []}, ConfigError, "at least one"),
        (
            {"model_name": ["mn01_as", "mn02_as"], "model_file_path": "a.pt"},
            ConfigError,
            "for one model, not for 2",
        ),
        ({"model_name": "mn01_as", "model_file_path": "no.pt"}, CheckpointError, "no.pt"),
    ],
)
def test_taggers_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        EATagger(**arguments)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((2, 100), np.float32), r"\(samples,\)"),
        (np.zeros(0, np.float32), r"\(0,\)"),
        (np.zeros(100, np.int16), "int16"),
        (np.full(1000, np.nan, np.float32), "NaN"),
        ("nowhere.wav", "nowhere.wav does not exist"),
    ],
)
def test_invalid_audio(stand_in, audio, message):
    with pytest.raises(AudioError, match=message):
        stand_in.tag_audio_window(audio)


def test_a_window_of_nothing(stand_in):
    with pytest.raises(ConfigError, match="hop_length must be longer than a sample, not 0"):
        stand_in.tag_audio_window(noise(1.0), hop_length=0)


@pytest.mark.parametrize("window", [math.nan, math.inf, -1.0, 60.1, 1e12])
def test_windows_that_cannot_be(stand_in, window):
    with pytest.raises(ConfigError, match="window_size must be"):
        stand_in.windows(noise(1.0), window)


def in_one_piece(audio):
    """Return the logits of the stand-in network for a clip, without any of our windows."""
    network, frontend = ZOO.random_init("mn01_as").eval(), ZOO["mn01_as"].frontend()
    with torch.inference_mode():
        return network(frontend(torch.from_numpy(audio)[None]))["logits"][0]


def test_a_long_window_is_processed_in_one_piece(stand_in):
    audio = noise(25.0) * np.linspace(0, 1, 800000, dtype=np.float32)
    expected = in_one_piece(audio[320000:]).sigmoid()
    np.testing.assert_allclose(stand_in.windows(audio, 15, 10).scores[1], expected, atol=1e-5)
    np.testing.assert_allclose(stand_in.tag(audio)[0], in_one_piece(audio).sigmoid(), atol=1e-5)


def test_a_clip_longer_than_the_limit_is_the_mean_of_windows_that_cover_it(stand_in):
    audio = noise(64.0) * np.linspace(0, 1, 64 * 32000, dtype=np.float32)
    starts = [0, 10, 20, 30, 40, 50, 54]
    logits = [in_one_piece(audio[32000 * s :][:320000]) for s in starts]
    expected = torch.stack(logits).mean(0).sigmoid()
    np.testing.assert_allclose(stand_in.tag(audio)[0], expected, atol=1e-5)


def test_a_clip_too_short_for_reliable_scores_is_reported(stand_in, caplog):
    stand_in.tag(noise(0.03))
    assert "a clip of 0.030 s is too short" in caplog.text


def test_the_length_of_blocks_makes_no_difference(stand_in, monkeypatch):
    audio, expected = noise(5.3), stand_in.windows(noise(5.3), 1.0, 0.4)
    monkeypatch.setattr(timed_model, "_BLOCK", 0.7)
    parts = [*stand_in.iter_windows(audio, 1.0, 0.4)]
    assert len(parts) > 3
    np.testing.assert_allclose(join_scores(parts).scores, expected.scores, atol=1e-5)


def test_labels(stand_in):
    assert stand_in.labels == audioset_labels()


def test_an_ensemble_of_networks_at_different_rates():
    """Each processes the clip at its own sample rate before the logits are averaged."""
    clip, logits = noise(1.0), []
    for name, rate in (("mn01_as", 32000), ("cnn14_16k", 16000)):
        single = EATagger(name, pretrained=False, engine="torch")
        assert single.sample_rate == rate
        scores = single.tag(clip, sample_rate=32000)[0]
        logits.append(torch.from_numpy(scores.astype(np.float64)).logit())
    both = EATagger(["cnn14_16k", "mn01_as"], pretrained=False, engine="torch")
    assert both.sample_rate == 32000
    scores, features = both.tag(clip)
    np.testing.assert_allclose(scores, torch.stack(logits).mean(0).sigmoid(), atol=1e-5)
    assert features.shape == (2048 + 96,)


@pytest.mark.parametrize("samples", [48001, 48002, 12 * 48000 + 1])
def test_no_row_ends_after_a_resampled_recording(stand_in, samples):
    audio = np.zeros(samples, np.float32)
    windows = stand_in.windows(audio, 1.0, 0.5, sample_rate=48000)
    last = max(windows.offset.max(), windows.end.max())
    assert 0 <= samples / 48000 - last < 1 / 32000
    assert stand_in.clip(audio, 48000).end[0] == samples / 48000


@pytest.mark.parametrize(
    ("audio", "rate"),
    [
        (torch.zeros(999).to_sparse(), None),
        (torch.zeros(999, device="meta"), None),
        (torch.quantize_per_tensor(torch.zeros(999), 0.1, 0, torch.qint8), None),
        (torch.zeros(999).to_mkldnn(), None),
        (np.full(999, 1e38, np.float32), None),
        (np.zeros(999, np.float32), "8000"),
        (np.zeros(999, np.float32), float("nan")),
        (None, None),
    ],
)
def test_arrays_that_are_not_audio(stand_in, audio, rate):
    with pytest.raises(AudioError):
        stand_in.windows(audio, sample_rate=rate)


@pytest.mark.parametrize(
    "change",
    [torch.Tensor.bfloat16, torch.Tensor.requires_grad_, torch._neg_view, torch.Tensor.double],
)
def test_tensors_of_any_kind_are_taken(stand_in, change):
    audio = torch.from_numpy(noise(0.2))
    expected = stand_in.windows(-audio if change is torch._neg_view else audio)
    found = stand_in.windows(change(audio.clone()))
    np.testing.assert_allclose(found.scores, expected.scores, atol=0.02)
