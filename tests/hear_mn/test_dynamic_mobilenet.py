"""The dynamic networks against the originals, with stand-in weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hear_core.errors import ConfigError
from hear_core.networks.batch_norm_folding import fold_batch_norms
from hear_mn import ZOO
from hear_mn.dynamic_convolution import (
    DynamicDepthwiseConv,
    DynamicPointwiseConv,
    annealed_temperature,
)
from hear_mn.dynamic_mobilenet import DynamicMobileNet, DynamicRelu
from tests import goldens
from tests.hear_mn.learning import assert_learns

ARGUMENTS = {
    "width_mult": "width",
    "T_max": "temperature",
    "use_dy_blocks": "dynamic_blocks",
    "dyconv_k": "kernels",
    "dyrelu_k": "lines",
    "min_context_size": "smallest_context",
    "max_context_size": "largest_context",
}
SWITCHES = {
    "no_dyconv": {"kernels": 0},
    "no_dyrelu": {"lines": 0},
    "no_ca": {"coordinate_attention": False},
}
ARCHITECTURES = [n for n, e in goldens.facts("mn/manifests").items() if e["builder"] == "dymn"]


def build(architecture: str) -> DynamicMobileNet:
    arguments = {}
    for key, value in goldens.facts("mn/manifests")[architecture]["kwargs"].items():
        arguments |= SWITCHES.get(key, {ARGUMENTS.get(key, key): value})
    return DynamicMobileNet(**arguments).eval()


def run(network, log_mel, taps=("logits", "e1")):
    with torch.inference_mode():
        return network(torch.as_tensor(log_mel), taps)


def assert_golden(values, architecture, mode="calib"):
    for tap, name in [("logits", "logits"), ("e1", "features")]:
        golden = goldens.arrays("mn/networks")[f"{architecture}.{mode}.{name}"]
        goldens.assert_close(values[tap], golden, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_the_original(architecture):
    network = build(architecture)
    log_mel = goldens.arrays("mn/spectrograms")["default"]
    for calibrated, mode in [(False, "plain"), (True, "calib")]:
        network.load_state_dict(goldens.mobilenet(architecture, calibrated=calibrated), strict=True)
        assert_golden(run(network, log_mel), architecture, mode)


@pytest.mark.parametrize("architecture", ["dymn04", "dymn10_replace_se", "dymn10_no_dyconv"])
def test_equals_the_original_with_batch_norms_folded_and_channels_last(architecture):
    network = build(architecture)
    network.load_state_dict(goldens.mobilenet(architecture))
    fold_batch_norms(network)
    network.to(memory_format=torch.channels_last)
    assert_golden(run(network, goldens.arrays("mn/spectrograms")["default"]), architecture)


def test_the_temperature_matters_and_can_be_set():
    network = build("dymn10_T30")
    network.load_state_dict(goldens.mobilenet("dymn10_T30"))
    log_mel = goldens.arrays("mn/spectrograms")["default"]
    hot = run(network, log_mel)
    network.set_temperature(1.0)
    assert (run(network, log_mel)["logits"] - hot["logits"]).abs().max() > 1e-2
    network.set_temperature(30.0)
    assert_golden(run(network, log_mel), "dymn10_T30")


def test_the_temperature_falls_as_in_the_original():
    schedule = goldens.facts("mn/networks")["dymn_temperature_schedule"]
    found = [annealed_temperature(epoch) for epoch in range(len(schedule["epochs"]))]
    np.testing.assert_allclose(found, schedule["epochs"])


def test_the_temperature_falls_slowly_at_last():
    assert annealed_temperature(30, start=30, end=0.5, late_slope=0.1) == pytest.approx(0.9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_has_the_sizes_of_the_original(architecture):
    with torch.device("meta"):
        network = build(architecture)
    expected = goldens.facts("mn/networks")["networks"][architecture]
    assert sum(p.numel() for p in network.parameters()) == expected["params"]
    shapes = [network.tap_shapes[f"b{i}"] for i in range(17)]
    assert shapes == [tuple(shape[:2]) for shape in expected["stage_shapes"]]


def test_a_batch_gives_what_its_rows_give_alone():
    network = build("dymn10")
    network.load_state_dict(goldens.mobilenet("dymn10"))
    log_mel = torch.from_numpy(goldens.arrays("mn/spectrograms")["default"]).repeat(2, 1, 1)
    together = run(network, log_mel)
    for row in range(len(log_mel)):
        alone = run(network, log_mel[row : row + 1])
        for tap, value in alone.items():
            torch.testing.assert_close(together[tap][row], value[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 9])
def test_every_sample_is_filtered_by_its_own_kernel(stride, frames):
    """Compare with a convolution of each sample with the weighted sum of its kernels."""
    torch.manual_seed(0)
    x, context = torch.randn(3, 8, 12, frames), torch.randn(3, 5)
    depthwise = DynamicDepthwiseConv(8, 5, stride, context=5, kernels=4)
    pointwise = DynamicPointwiseConv(8, 24, context=5, kernels=4)
    for layer, groups, step in [(depthwise, 8, stride), (pointwise, 1, 1)]:
        layer.temperature = 0.3
        attention = (layer.residuals(context) / 0.3).exp()
        attention = attention / attention.sum(1, keepdim=True)
        found = layer(x, context)
        for row in range(3):
            kernel = (attention[row, :, None] * layer.weight[0, 0]).sum(0).view(layer.shape)
            expected = nn.functional.conv2d(
                x[row : row + 1], kernel, stride=step, padding=kernel.shape[-1] // 2, groups=groups
            )
            torch.testing.assert_close(found[row : row + 1], expected, atol=1e-5, rtol=1e-5)
            alone = layer(x[row : row + 1], context[row : row + 1])
            torch.testing.assert_close(alone, expected, atol=1e-5, rtol=1e-5)


def test_an_untrained_dynamic_relu_is_a_relu():
    activation = DynamicRelu(6, context=3, lines=2)
    nn.init.zeros_(activation.coef_net[0].weight)
    nn.init.zeros_(activation.coef_net[0].bias)
    x = torch.randn(2, 6, 4, 5)
    torch.testing.assert_close(activation(x, torch.randn(2, 3)), x.relu())


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"width": 0.3, "n_mels": 40, "num_classes": 1},
        {"width": 0.4, "n_mels": 70, "strides": (2, 2, 1, 1)},
        {"width": 0.4, "dynamic_blocks": "replace_se"},
        {"width": 0.1, "kernels": 0, "lines": 0},
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_gives_what_it_declares(arguments, batch):
    network = DynamicMobileNet(**arguments).eval()
    values = run(
        network, torch.randn(batch, arguments.get("n_mels", 128), 33), tuple(network.tap_shapes)
    )
    assert values.keys() == network.tap_shapes.keys()
    for tap, (channels, bands) in network.tap_shapes.items():
        sizes = (batch, channels) if bands is None else (batch, channels, bands)
        assert values[tap].shape[: len(sizes)] == sizes
        assert values[tap].ndim == (2 if bands is None else 4)


def test_a_tap_is_the_same_alone_and_among_others():
    torch.manual_seed(0)
    network = DynamicMobileNet(0.2).eval()
    log_mel = torch.randn(1, 128, 50)
    together = run(network, log_mel, tuple(network.tap_shapes))
    for tap, value in together.items():
        alone = run(network, log_mel, (tap,))
        assert alone.keys() == {tap}
        assert torch.equal(alone[tap], value)


@pytest.mark.parametrize(
    ("tap", "last"),
    [("b0", "in_c.2"), ("b5", "layers.4.proj_norm"), ("e1", "out_c.2"), ("logits", "classifier.5")],
)
def test_nothing_runs_after_the_deepest_tap(tap, last):
    network = DynamicMobileNet(0.2).eval()
    ran = []
    for name, module in network.named_modules():
        if not any(module.children()):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    run(network, torch.randn(1, 128, 50), (tap,))
    assert ran[-1] == last


@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 1001])
def test_takes_any_number_of_frames(frames):
    network = DynamicMobileNet(0.1).eval()
    assert run(network, torch.randn(1, 128, frames))["logits"].isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dynamic_blocks": "replace"}, r"unknown dynamic_blocks 'replace'.*'replace_se'"),
        ({"temperature": 0.0}, r"temperature of attention must be positive, not 0\.0"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ConfigError, match=message):
        DynamicMobileNet(0.1, **arguments)


def test_there_is_no_squeeze_and_excitation_to_tap():
    for name in ("dymn04_as", "dymn04_replace_se_as"):
        assert not [tap for tap in ZOO[name].skeleton().tap_shapes if tap.startswith("se")]


def test_learns():
    torch.manual_seed(0)
    network = DynamicMobileNet(0.1, num_classes=2, temperature=30.0)
    assert_learns(network)
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
