import numpy as np
import pytest
import torch

from hear_core.frontends.spectrum import MatrixPowerSpectrum, PowerSpectrum

SHAPES = [(800, 320, 1024), (800, 800, 1024), (400, 160, 512), (1024, 320, 1024), (790, 100, 1024)]


def expected(x, window, hop, n_fft):
    """Power of every frame by numpy, in double precision."""
    count = (x.shape[1] - len(window)) // hop + 1
    frames = np.stack([x[:, i * hop : i * hop + len(window)] for i in range(count)], axis=1)
    return np.abs(np.fft.rfft(frames * window, n_fft)) ** 2


@pytest.mark.parametrize(("length", "hop", "n_fft"), SHAPES)
def test_power(length, hop, n_fft):
    x = torch.rand(3, 5000, generator=torch.Generator().manual_seed(0)) - 0.5
    window = torch.hann_window(length)
    power = expected(x.double().numpy(), window.double().numpy(), hop, n_fft)
    found = PowerSpectrum(window, hop, n_fft)(x)
    np.testing.assert_allclose(found, power, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("highest", [100, 200, 256])
@pytest.mark.parametrize(("length", "hop", "n_fft"), SHAPES)
def test_power_by_matrices(length, hop, n_fft, highest):
    x = torch.rand(3, 5000, generator=torch.Generator().manual_seed(0)) - 0.5
    window = torch.hann_window(length)
    power = expected(x.double().numpy(), window.double().numpy(), hop, n_fft)
    spectrum = MatrixPowerSpectrum(window, hop, n_fft, highest)
    np.testing.assert_allclose(spectrum(x), power[..., spectrum.bins], atol=1e-3, rtol=1e-4)
    assert set(range(highest + 1)) <= set(spectrum.bins.tolist())
    shares = torch.zeros(n_fft // 2 + 1).index_add(0, spectrum.bins, 1 / spectrum.times_each_bin)
    assert set(shares.round(decimals=4).tolist()) <= {0.0, 1.0}
