import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import ConfigError
from hear_core.frontends.log_mel import DecibelMel, LogMel
from hear_core.frontends.mel_banks import kaldi_mel_bank, slaney_mel_bank
from tests import goldens
from tests.goldens import waveform

RESOLUTIONS = {
    "default": {},
    "hop5": {"hop": 160},
    "hop15": {"hop": 480},
    "hop20": {"hop": 640},
    "hop25": {"hop": 800},
    "mels40": {"n_mels": 40},
    "mels64": {"n_mels": 64},
    "mels256": {"n_mels": 256},
}
PANNS = {
    "Cnn14": {},
    "Cnn14_16k": {"sample_rate": 16000, "hop": 160, "window": 512, "fmax": 8000.0},
}


@pytest.mark.parametrize("exportable", [False, True])
@pytest.mark.parametrize("name", RESOLUTIONS)
def test_equals_the_original(name, exportable):
    frontend = LogMel(**RESOLUTIONS[name])
    ours = (frontend.exportable() if exportable else frontend)(waveform(2.0, batch=2))
    goldens.assert_close(ours, goldens.arrays("mn/spectrograms")[name], atol=2e-4)


@given(samples=st.integers(514, 4000), hop=st.sampled_from([160, 320, 500]))
def test_equals_the_textbook(samples, hop):
    """The same log-mel, by the short-time Fourier transform of torch in float64."""
    x = torch.rand(
        1, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(samples)
    )
    x = 2 * x - 1
    emphasised = torch.nn.functional.conv1d(x[:, None], torch.tensor([[[-0.97, 1.0]]]).double())[
        :, 0
    ]
    window = torch.hann_window(800, periodic=False, dtype=torch.float64)
    spectrum = torch.stft(
        emphasised, 1024, hop, 800, window, center=True, pad_mode="reflect", return_complex=True
    )
    mel = kaldi_mel_bank(128, 1024, 32000, 0.0, 15000.0).double() @ spectrum.abs() ** 2
    expected = ((mel + 1e-5).log() + 4.5) / 5
    ours = LogMel(hop=hop)(x.float())
    assert ours.shape == (1, 128, 1 + (samples - 1) // hop)
    torch.testing.assert_close(ours, expected.float(), atol=2e-4, rtol=0)


def test_silence_is_the_floor():
    silence = LogMel()(torch.zeros(1, 2000))
    torch.testing.assert_close(silence, torch.full_like(silence, (math.log(1e-5) + 4.5) / 5))


def test_takes_its_shortest_clip():
    frontend = LogMel()
    assert frontend(torch.rand(1, frontend.min_samples)).shape == (1, 128, 2)
    with pytest.raises(RuntimeError):
        frontend(torch.rand(1, frontend.min_samples - 1))


@pytest.mark.parametrize("exportable", [False, True])
@pytest.mark.parametrize("name", PANNS)
def test_decibels_equal_the_original(name, exportable):
    frontend = DecibelMel(**PANNS[name])
    audio = waveform(2.0, batch=2, sample_rate=frontend.sample_rate)
    ours = (frontend.exportable() if exportable else frontend)(audio)
    theirs = goldens.arrays("sed/panns")[f"{name}.logmel"].squeeze(1).swapaxes(1, 2)
    # Bands at -80 dB see little but rounding.
    goldens.assert_close(ours, theirs, atol=0.02)
    assert np.abs(ours.numpy() - theirs).mean() < 1e-4


@given(samples=st.integers(513, 4000), name=st.sampled_from([*PANNS]))
def test_decibels_equal_the_textbook(samples, name):
    """The same, by the short-time Fourier transform of torch in float64."""
    frontend = DecibelMel(**PANNS[name])
    length, rate = frontend.window, frontend.sample_rate
    generator = torch.Generator().manual_seed(samples)
    x = 2 * torch.rand(1, samples, dtype=torch.float64, generator=generator) - 1
    window = torch.hann_window(length, dtype=torch.float64)
    spectrum = torch.stft(
        x, length, frontend.hop, window=window, pad_mode="reflect", return_complex=True
    )
    bank = slaney_mel_bank(64, length, rate, 50.0, 14000.0 if rate == 32000 else 8000.0)
    expected = 10 * (bank.double() @ spectrum.abs() ** 2).log10()
    ours = frontend(x.float())
    assert ours.shape == (1, 64, 1 + samples // frontend.hop)
    torch.testing.assert_close(ours, expected.float(), atol=1e-3, rtol=0)


def test_decibels_of_silence_are_the_floor():
    silence = DecibelMel()(torch.zeros(1, 2000))
    torch.testing.assert_close(silence, torch.full_like(silence, -100.0))


@given(frames=st.integers(1, 50), hop=st.sampled_from([160, 320, 700]))
@pytest.mark.parametrize("make", [LogMel, DecibelMel])
def test_knows_how_many_samples_its_frames_take(make, frames, hop):
    frontend = make(hop=hop)
    samples = frontend.samples_for(frames)
    assert frontend(torch.rand(1, samples)).shape[2] >= frames
    if samples > frontend.min_samples:
        assert frontend(torch.rand(1, samples - 1)).shape[2] == frames - 1
    else:
        with pytest.raises(RuntimeError):
            frontend(torch.rand(1, samples - 1))


@pytest.mark.parametrize("make", [LogMel, DecibelMel])
def test_is_constant(make):
    frontend = make()
    assert not list(frontend.parameters())
    assert not frontend.state_dict()


def test_edges_of_one_call_are_those_of_another_front_end():
    frontend, other = LogMel(), LogMel(fmin=7.0, fmax=14500.0)
    audio = torch.rand(2, 8000, generator=torch.Generator().manual_seed(0)) - 0.5
    before = frontend(audio)
    torch.testing.assert_close(frontend(audio, edges=(7.0, 14500.0)), other(audio))
    assert not torch.equal(before, other(audio))
    assert torch.equal(frontend(audio), before)


def test_an_exportable_front_end_refuses_other_edges():
    with pytest.raises(ConfigError, match="an exportable front-end has one mel bank"):
        LogMel().exportable()(torch.zeros(1, 8000), edges=(0.0, 14000.0))
