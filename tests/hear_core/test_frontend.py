import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hear_core.frontend import LogMel
from hear_core.melbanks import kaldi_mel_bank
from tests.goldens import arrays, needs_goldens, waveform

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


@needs_goldens
@pytest.mark.parametrize("exportable", [False, True])
@pytest.mark.parametrize("name", RESOLUTIONS)
def test_equals_the_original(name, exportable):
    frontend = LogMel(**RESOLUTIONS[name])
    ours = (frontend.exportable() if exportable else frontend)(waveform(2.0, batch=2))
    np.testing.assert_allclose(ours, arrays("spectrograms.npz")[name], atol=2e-4)


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


def test_is_constant():
    frontend = LogMel()
    assert not list(frontend.parameters())
    assert not frontend.state_dict()
