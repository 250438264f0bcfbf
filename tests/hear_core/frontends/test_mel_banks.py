import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hear_core.frontends.mel_banks import MelFilters, kaldi_mel_bank, slaney_mel_bank
from tests import goldens


@pytest.mark.parametrize(
    ("n_mels", "n_fft", "rate", "fmin", "fmax"),
    [
        (128, 1024, 32000, 0.0, 15000.0),
        (40, 1024, 32000, 0.0, 15000.0),
        (256, 1024, 32000, 0.0, 15000.0),
        (128, 512, 16000, 0.0, 7000.0),
        (64, 2048, 44100, 50.0, 14000.0),
    ],
)
def test_equals_torchaudio_to_the_bit(n_mels, n_fft, rate, fmin, fmax):
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    theirs, _ = kaldi.get_mel_banks(n_mels, n_fft, rate, fmin, fmax, 100.0, -500.0, 1.0)
    ours = kaldi_mel_bank(n_mels, n_fft, rate, fmin, fmax)
    assert torch.equal(ours[:, :-1], theirs)
    assert not ours[:, -1].any()


@pytest.mark.parametrize("n_mels", [40, 64, 128, 256])
def test_equals_the_original(n_mels):
    ours = kaldi_mel_bank(n_mels, 1024, 32000, 0.0, 15000.0)[:, :-1]
    # Which logarithm a processor has moves a triangle of the 256 narrow ones by up to 4e-5.
    goldens.assert_close(ours, goldens.arrays("mn/melbanks")[f"bank{n_mels}"], atol=5e-5)


@given(
    n_mels=st.integers(1, 200),
    n_fft=st.sampled_from([256, 512, 1024]),
    rate=st.sampled_from([16000, 32000, 44100]),
)
def test_equals_triangles_drawn_by_interpolation(n_mels, n_fft, rate):
    fmax = rate / 2 * 0.9
    mel = lambda f: 1127 * np.log1p(np.asarray(f) / 700)  # noqa: E731
    edges = np.linspace(0, mel(fmax), n_mels + 2)
    bins = mel(np.arange(n_fft // 2) * rate / n_fft)
    expected = [np.interp(bins, edges[i : i + 3], [0, 1, 0]) for i in range(n_mels)]
    ours = kaldi_mel_bank(n_mels, n_fft, rate, 0.0, fmax)[:, :-1]
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("n_mels", "n_fft", "rate", "fmin", "fmax"),
    [
        (64, 1024, 32000, 50.0, 14000.0),
        (64, 512, 16000, 50.0, 8000.0),
        (80, 400, 16000, 50.0, 8000.0),
        (10, 512, 16000, 1500.0, 4000.0),
        (5, 2048, 44100, 0.0, 900.0),
    ],
)
def test_slaney_equals_torchaudio(n_mels, n_fft, rate, fmin, fmax):
    functional = pytest.importorskip("torchaudio.functional")
    bins = n_fft // 2 + 1
    theirs = functional.melscale_fbanks(bins, fmin, fmax, n_mels, rate, "slaney", "slaney")
    ours = slaney_mel_bank(n_mels, n_fft, rate, fmin, fmax)
    # Theirs is computed in float32, and its triangles are that uncertain.
    torch.testing.assert_close(ours, theirs.T, atol=2e-7, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "n_fft", "rate", "fmax"),
    [("Cnn14", 1024, 32000, 14000.0), ("Cnn14_16k", 512, 16000, 8000.0)],
)
def test_slaney_equals_the_original(name, n_fft, rate, fmax):
    ours = slaney_mel_bank(64, n_fft, rate, 50.0, fmax)
    theirs = goldens.arrays("sed/panns")[f"{name}.melW"].T
    goldens.assert_close(ours, theirs, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("n_mels", [1, 2, 40, 128, 256])
def test_filters_are_a_product_with_the_bank(n_mels):
    bank = kaldi_mel_bank(n_mels, 1024, 32000, 0.0, 15000.0)
    power = torch.rand(2, 7, 513, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(MelFilters(bank)(power), power @ bank.T)
