import numpy as np
import pytest
import torch

from hear_core.frontends.log_frequency import (
    LogFrequency,
    log_frequency_bank,
    log_frequency_centres,
)


def plain(waveform, sample_rate, n_fft):
    """The spectrum by NumPy, frame by frame and bin by bin, in double precision."""
    padded = np.pad(waveform.astype(float), n_fft // 2)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    frames = [
        np.abs(np.fft.rfft(padded[start : start + n_fft] * window)) ** 2
        for start in range(0, len(waveform) + 1, n_fft // 2)
    ]
    step, resolution = 2 ** (1 / 36), sample_rate / n_fft
    rows = []
    for index in range(len(log_frequency_centres(sample_rate))):
        centre = 65.41 * step**index
        width = max(centre * (step - 1), resolution)
        weights = np.maximum(0, 1 - np.abs(np.arange(n_fft // 2 + 1) * resolution - centre) / width)
        rows.append([(np.log(frame @ weights + 1e-5) + 4.5) / 5 for frame in frames])
    return np.array(rows)


@pytest.mark.parametrize(("sample_rate", "n_fft"), [(32000, 8192), (16000, 4096)])
@pytest.mark.parametrize("samples", [1, 4000, 12288])
def test_equals_a_plain_computation(sample_rate, n_fft, samples):
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
    frontend = LogFrequency(sample_rate)
    expected = plain(waveform, sample_rate, n_fft)
    for each in (frontend, frontend.exportable()):
        found = each(torch.from_numpy(waveform)[None])[0]
        np.testing.assert_allclose(found, expected, atol=2e-4)
        assert found.shape == (frontend.n_mels, frontend.frames(samples))


@pytest.mark.parametrize("semitones", [0, 12, 37, 60])
def test_a_note_is_at_its_place(semitones):
    hertz = 65.41 * 2 ** (semitones / 12)
    time = torch.arange(32000) / 32000
    spectrum = LogFrequency(32000)(torch.sin(2 * torch.pi * hertz * time)[None])
    assert abs(int(spectrum[0].mean(1).argmax()) - 3 * semitones) <= 1


def test_bins_end_below_half_the_sample_rate():
    for sample_rate in (8000, 16000, 32000):
        assert log_frequency_centres(sample_rate)[-1] < sample_rate / 2
        bank = log_frequency_bank(4096, sample_rate)
        assert bank.any(1).all()
        assert len(bank) == LogFrequency(sample_rate).n_mels
