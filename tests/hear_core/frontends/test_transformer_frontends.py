"""Front-ends of audio transformers against the textbook and against torchaudio."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_core.frontends.bounded_decibel_mel import BoundedDecibelMel
from hear_core.frontends.kaldi_filter_bank import KaldiFilterBank
from hear_core.frontends.log_mel import LogMel
from hear_core.frontends.mel_banks import htk_mel_bank, slaney_mel_bank
from hear_core.frontends.spectrum import MatrixPowerSpectrum, PowerSpectrum
from hear_core.frontends.standardised_log_mel import StandardisedLogMel

FRONTENDS = {
    "kaldi_povey": KaldiFilterBank,
    "kaldi_hann": lambda: KaldiFilterBank(window_type="hann", gain=1.0),
    "decibels": BoundedDecibelMel,
    "standardised": StandardisedLogMel,
    "periodic": lambda: LogMel(
        16000, hop=160, window=400, n_fft=512, fmax=7000.0, floor=1e-7, periodic=True
    ),
}


@cache
def build(name):
    return FRONTENDS[name]()


every = pytest.mark.parametrize("name", FRONTENDS)


def noise(samples, clips=1):
    generator = torch.Generator().manual_seed(samples)
    return torch.rand(clips, samples, generator=generator) - 0.5


@every
@pytest.mark.parametrize("samples", [700, 801, 4000])
def test_the_exportable_front_end_gives_the_same(name, samples):
    frontend, audio = build(name), noise(samples, 2)
    log_mel = frontend(audio)
    assert log_mel.shape == (2, frontend.n_mels, frontend.frames(samples))
    torch.testing.assert_close(frontend.exportable()(audio), log_mel, atol=2e-3, rtol=0)


@every
def test_a_batch_gives_what_its_rows_give(name):
    frontend = build(name)
    audio = torch.cat([noise(4000), 1e-3 * noise(4000), torch.zeros(1, 4000)])
    rows = torch.cat([frontend(row[None]) for row in audio])
    torch.testing.assert_close(frontend(audio), rows, atol=1e-5, rtol=0)


@every
@pytest.mark.parametrize("frames", [1, 4, 17])
def test_knows_how_many_samples_its_frames_take(name, frames):
    frontend = build(name)
    samples = frontend.samples_for(frames)
    assert frontend(noise(samples)).shape[2] == frontend.frames(samples) >= frames
    if samples > frontend.min_samples:
        assert frontend.frames(samples - 1) == frames - 1
    else:
        with pytest.raises(RuntimeError):
            frontend(noise(samples - 1))


@every
def test_is_constant_and_finite_in_silence(name):
    frontend = build(name)
    assert not frontend.state_dict()
    silence = frontend(torch.zeros(1, 2000))
    assert silence.isfinite().all()
    assert silence.unique().numel() == 1


@pytest.mark.parametrize(("window_type", "gain"), [("povey", 32768.0), ("hann", 1.0)])
@pytest.mark.parametrize("samples", [400, 559, 560, 16000])
def test_the_kaldi_filter_bank_equals_torchaudio(window_type, gain, samples):
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    audio = noise(samples) * gain
    theirs = kaldi.fbank(
        audio,
        num_mel_bins=128,
        sample_frequency=16000,
        window_type={"povey": "povey", "hann": "hanning"}[window_type],
        dither=0.0,
    )
    ours = KaldiFilterBank(window_type=window_type, gain=gain, mean=1.0, scale=2.0)(audio / gain)
    torch.testing.assert_close(2 * ours[0].T + 1, theirs, atol=5e-3, rtol=0)
    assert (2 * ours[0].T + 1 - theirs).abs().mean() < 5e-5


def test_a_constant_added_to_a_clip_is_removed():
    frontend, audio = KaldiFilterBank(gain=1.0), noise(4000)
    torch.testing.assert_close(frontend(audio + 0.25), frontend(audio), atol=1e-2, rtol=0)


def test_an_unknown_window_is_explained():
    with pytest.raises(ConfigError, match="unknown window type 'hanning'; did you mean 'hann'"):
        KaldiFilterBank(window_type="hanning")


def power(audio, n_fft):
    window = torch.hann_window(n_fft, dtype=torch.float64)
    x = audio.double()
    return torch.stft(x, n_fft, 160, window=window, return_complex=True).abs().square()


def test_decibels_equal_the_textbook():
    audio = noise(8000)
    decibels = 10 * (htk_mel_bank(64, 1024, 16000, 60.0, 7800.0).double() @ power(audio, 1024))
    decibels = 10 * (decibels / 10).clamp(min=1e-10).log10()
    expected = 2 * (decibels.clamp(-50, 80) + 79.6482) / (50.6842 + 79.6482) - 1
    torch.testing.assert_close(BoundedDecibelMel()(audio), expected.float(), atol=1e-4, rtol=0)


def test_the_floor_is_that_of_the_clip_or_of_the_batch():
    quiet = 1e-3 * noise(4000)
    batch = torch.cat([noise(4000), quiet])
    options = {"dynamic_range": 40.0, "bounds": (-200.0, 80.0)}
    alone = BoundedDecibelMel(**options)(quiet)
    torch.testing.assert_close(BoundedDecibelMel(**options)(batch)[1:], alone)
    shared = BoundedDecibelMel(**options, floor_by_batch=True)
    torch.testing.assert_close(shared(quiet), alone)
    loudest = shared(batch)[:1].amax()
    floor = loudest - 40.0 * 2 / (50.6842 + 79.6482)
    torch.testing.assert_close(shared(batch)[1:], alone.clamp(min=floor))


def test_standardised_log_mels_equal_the_textbook():
    audio = noise(8000)
    mel = slaney_mel_bank(80, 400, 16000, 50.0, 8000.0).double() @ power(audio, 400)
    expected = ((mel + torch.finfo(torch.float32).eps).log() + 7.1) / 4.2
    torch.testing.assert_close(StandardisedLogMel()(audio), expected.float(), atol=1e-3, rtol=0)
    silence = StandardisedLogMel()(torch.zeros(1, 400))
    assert silence.max().item() == pytest.approx((math.log(2**-23) + 7.1) / 4.2, abs=1e-5)


def test_the_htk_bank_equals_torchaudio():
    functional = pytest.importorskip("torchaudio.functional")
    theirs = functional.melscale_fbanks(513, 60.0, 7800.0, 64, 16000, None, "htk")
    ours = htk_mel_bank(64, 1024, 16000, 60.0, 7800.0)
    # Theirs is computed in float32.
    torch.testing.assert_close(ours, theirs.T, atol=2e-4, rtol=0)


@pytest.mark.parametrize("n_fft", [400, 360, 512, 401])
def test_a_transform_of_any_length_can_be_a_matrix_product(n_fft):
    window, audio = torch.hann_window(360), noise(3000, 2)
    fast = PowerSpectrum(window, 120, n_fft)(audio)
    matrix = MatrixPowerSpectrum(window, 120, n_fft, n_fft // 2)
    assert set(matrix.bins.tolist()) == set(range(n_fft // 2 + 1))
    # The frames at the end may reach beyond the window that they are padded to.
    found = matrix(audio)[:, : fast.shape[1]]
    np.testing.assert_allclose(found, fast[:, : found.shape[1], matrix.bins], atol=1e-3)
