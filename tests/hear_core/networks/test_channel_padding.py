from __future__ import annotations

import pytest
import torch
from torch import nn

from hear_core.networks.batch_norm_folding import fold_batch_norms
from hear_core.networks.channel_padding import pad_channels
from hear_mn.mobilenet import MobileNet


def folded(**options):
    torch.manual_seed(0)
    network = MobileNet(**options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    fold_batch_norms(network)
    return network


def fewest_channels(network):
    return min(m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("width", [0.1, 0.2, 0.4])
def test_a_wider_network_gives_the_same(width):
    network = folded(width=width)
    wide = pad_channels(network, 16)
    assert fewest_channels(network) == 8
    assert fewest_channels(wide) == 16
    taps = list(network.tap_shapes)
    log_mel = torch.randn(2, 128, 50)
    with torch.inference_mode():
        found, wanted = wide(log_mel, taps), network(log_mel, taps)
    for tap in taps:
        torch.testing.assert_close(found[tap], wanted[tap], rtol=1e-4, atol=1e-5)


def test_a_network_that_needs_no_padding_is_not_copied():
    network = folded(width=1.0)
    assert pad_channels(network, 16) is network


def test_what_cannot_be_widened_stays_as_it_is():
    over_channels = folded(width=0.1, se_dims="cf")
    assert pad_channels(over_channels, 16) is over_channels
    with_batch_norms = MobileNet(width=0.1)
    assert pad_channels(with_batch_norms, 16) is with_batch_norms


@pytest.mark.parametrize("min_channels", [1, 16])
def test_an_exportable_network_gives_the_same_and_leaves_the_original_alone(min_channels):
    torch.manual_seed(0)
    network = MobileNet(0.1, num_classes=5).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    twin = network.exportable(min_channels)
    taps = list(network.tap_shapes)
    log_mel = torch.randn(2, 128, 50)
    with torch.inference_mode():
        found, wanted = twin(log_mel, taps), network(log_mel, taps)
    for tap in taps:
        torch.testing.assert_close(found[tap], wanted[tap], rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in twin.modules())
    assert fewest_channels(twin) == max(8, min_channels)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
