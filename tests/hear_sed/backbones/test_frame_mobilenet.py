"""Frame-wise MobileNets against the original, with stand-in weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_sed.backbones.frame_mobilenet import FrameMobileNet, frame_block_table
from tests import goldens

WIDTHS = {"fmn04": 0.4, "fmn06": 0.6, "fmn10": 1.0, "fmn20": 2.0, "fmn30": 3.0}
SLOW = ("fmn06", "fmn20", "fmn30")
PREFIX = "model.fmn."


def run(network, log_mel, taps=("frames",)):
    with torch.inference_mode():
        return network(torch.as_tensor(log_mel), taps)


def build(name, *, scaled=True):
    network = FrameMobileNet(WIDTHS[name]).eval()
    state = goldens.detector(name, PREFIX, scaled=scaled)
    network.load_state_dict({k.removeprefix(PREFIX): v for k, v in state.items()}, strict=True)
    return network


@pytest.mark.parametrize(
    "name", ["fmn04", "fmn10", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)]
)
def test_equals_the_original(name):
    log_mel = goldens.arrays("sed/frontends")["fmn_mel"][:, 0]
    for prefix, scaled in [("plain_", False), ("", True)]:
        frames = run(build(name, scaled=scaled), log_mel)["frames"]
        golden = goldens.arrays(f"sed/{name}")[f"{prefix}embedding"]
        assert frames.shape == (1, golden.shape[2], 1, 250)
        goldens.assert_close(frames[:, :, 0, ::5].transpose(1, 2), golden, atol=1e-4, rtol=1e-4)


def test_every_map_equals_the_original():
    log_mel = goldens.arrays("sed/frontends")["fmn_mel"][:, 0]
    network = build("fmn10")
    values = run(network, log_mel, [f"b{index}" for index in range(17)])
    for index in range(17):
        golden = goldens.arrays("sed/fmn10")[f"feature{index:02d}"]
        found = values[f"b{index}"]
        assert network.tap_shapes[f"b{index}"] == found.shape[1:3]
        goldens.assert_close(found[:, :8, :, ::25], golden, atol=1e-4, rtol=1e-4)


def test_time_is_divided_by_four_and_one_band_is_left():
    strides = [row.effective_strides for row in frame_block_table()]
    assert np.prod(strides, axis=0).tolist() == [64, 2]  # and the stem halves both
    assert FrameMobileNet(0.1).tap_shapes["b16"].bands == 1


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 313])
@pytest.mark.parametrize("n_mels", [128, 1])
def test_gives_what_it_declares(frames, n_mels):
    network = FrameMobileNet(0.1, n_mels=n_mels).eval()
    values = run(network, torch.randn(2, n_mels, frames), tuple(network.tap_shapes))
    assert values.keys() == network.tap_shapes.keys()
    for tap, (channels, bands) in network.tap_shapes.items():
        sizes = (2, channels) if bands is None else (2, channels, bands)
        assert values[tap].shape[: len(sizes)] == sizes
    assert values["frames"].shape == (2, network.channels, 1, -(-frames // 4))


@pytest.mark.parametrize(
    ("tap", "last"),
    [
        ("b0", "features.0.2"),
        ("se5", "features.5.block.2.conc_se_layers.0.fc1"),
        ("b3", "features.3.block.1.1"),
    ],
)
def test_nothing_runs_after_the_deepest_tap(tap, last):
    network = FrameMobileNet(0.1).eval()
    log_mel, ran = torch.randn(1, 128, 50), []
    together = run(network, log_mel, tuple(network.tap_shapes))
    for name, module in network.named_modules():
        if not any(module.children()):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    alone = run(network, log_mel, (tap,))
    assert alone.keys() == {tap}
    assert torch.equal(alone[tap], together[tap])
    assert ran[-1] == last


@pytest.mark.parametrize("n_mels", [0, 129])
def test_mel_bands_that_do_not_become_one_are_refused(n_mels):
    with pytest.raises(ConfigError, match=f"n_mels must be from 1 to 128, .*, not {n_mels}"):
        FrameMobileNet(0.1, n_mels=n_mels)
