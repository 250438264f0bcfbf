"""The networks against the originals, with stand-in weights."""

from __future__ import annotations

import pytest
import torch

from hear_core.errors import ConfigError
from hear_core.frontends.log_mel import LogMel
from hear_core.networks.batch_norm_folding import fold_batch_norms
from hear_core.networks.mobilenet_blocks import make_divisible
from hear_mn.mobilenet import MobileNet
from tests import goldens
from tests.goldens import waveform
from tests.hear_core.frontends.test_log_mel import RESOLUTIONS
from tests.hear_mn.learning import assert_learns

ARGUMENTS = {
    "width_mult": "width",
    "head_type": "head",
    "multihead_attention_heads": "attention_heads",
    "se_r": "se_ratio",
    "input_dim_t": "frames",
}
ARCHITECTURES = [n for n, e in goldens.facts("mn/manifests").items() if e["builder"] == "mn"]
MN10_FRONT_ENDS = ("hop5", "hop15", "hop20", "hop25", "mels40", "mels64", "mels256")


def build(architecture: str) -> MobileNet:
    kwargs = goldens.facts("mn/manifests")[architecture]["kwargs"]
    return MobileNet(**{ARGUMENTS.get(key, key): value for key, value in kwargs.items()}).eval()


def run(network, log_mel, taps=("logits", "e1")):
    with torch.inference_mode():
        return network(torch.as_tensor(log_mel), taps)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_the_original(architecture):
    network = build(architecture)
    log_mel = goldens.arrays("mn/spectrograms")["default"]
    expected = goldens.arrays("mn/networks")
    for calibrated, mode in [(False, "plain"), (True, "calib")]:
        network.load_state_dict(goldens.mobilenet(architecture, calibrated=calibrated), strict=True)
        values = run(network, log_mel)
        for tap, name in [("logits", "logits"), ("e1", "features")]:
            golden = expected[f"{architecture}.{mode}.{name}"]
            goldens.assert_close(values[tap], golden, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("front_end", MN10_FRONT_ENDS)
def test_equals_the_original_at_other_resolutions(front_end):
    network = build("mn10")
    network.load_state_dict(goldens.mobilenet("mn10"))
    # Through our front-end; the narrow lowest filters of 256 bands see little but rounding.
    close = {"atol": 3e-3 if front_end == "mels256" else 1e-3, "rtol": 1e-4}
    values = run(network, LogMel(**RESOLUTIONS[front_end])(waveform(2.0, batch=2)))
    for tap, name in [("logits", "logits"), ("e1", "features")]:
        golden = goldens.arrays("mn/networks")[f"mn10@{front_end}.calib.{name}"]
        goldens.assert_close(values[tap], golden, **close)


@pytest.mark.parametrize("architecture", ["mn04", "mn10", "mn10_fc"])
def test_equals_the_original_with_batch_norms_folded_and_channels_last(architecture):
    network = build(architecture)
    network.load_state_dict(goldens.mobilenet(architecture))
    fold_batch_norms(network)
    values = run(
        network.to(memory_format=torch.channels_last), goldens.arrays("mn/spectrograms")["default"]
    )
    golden = goldens.arrays("mn/networks")[f"{architecture}.calib.logits"]
    goldens.assert_close(values["logits"], golden, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_has_as_many_parameters_as_the_original(architecture):
    with torch.device("meta"):
        network = build(architecture)
    expected = goldens.facts("mn/networks")["networks"][architecture]
    assert sum(p.numel() for p in network.parameters()) == expected["params"]
    blocks = expected["channels"]["blocks"]
    assert [network.tap_shapes[f"b{b['block']}"].channels for b in blocks] == [
        b["out"] for b in blocks
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"width": 0.1},
        {"width": 0.4, "n_mels": 40},
        {"width": 0.4, "n_mels": 70, "strides": (2, 2, 2, 1)},
        {"width": 0.3, "head": "fully_convolutional", "num_classes": 1},
        {"width": 0.3, "head": "multihead_attention_pooling", "num_classes": 7},
        {"width": 0.3, "reduced_tail": True, "dilated": True},
        {"width": 0.3, "se_dims": "none"},
        {"width": 0.3, "se_dims": "cft", "se_agg": "add", "frames": 33},
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_gives_what_it_declares(arguments, batch):
    network = MobileNet(**arguments).eval()
    log_mel = torch.randn(batch, arguments.get("n_mels", 128), 33)
    values = run(network, log_mel, tuple(network.tap_shapes))
    assert values.keys() == network.tap_shapes.keys()
    for tap, (channels, bands) in network.tap_shapes.items():
        sizes = (batch, channels) if bands is None else (batch, channels, bands)
        assert values[tap].shape[: len(sizes)] == sizes
        assert values[tap].ndim == (2 if bands is None else 4)


def test_a_tap_is_the_same_alone_and_among_others():
    torch.manual_seed(0)
    network = MobileNet(0.2).eval()
    log_mel = torch.randn(1, 128, 50)
    together = run(network, log_mel, tuple(network.tap_shapes))
    for tap, value in together.items():
        alone = run(network, log_mel, (tap,))
        assert alone.keys() == {tap}
        assert torch.equal(alone[tap], value)


@pytest.mark.parametrize(
    ("tap", "last"),
    [
        ("b0", "features.0.2"),
        ("se5", "features.5.block.2.conc_se_layers.0.fc1"),
        ("b5", "features.5.block.3.1"),
        ("e1", "features.16.2"),
        ("logits", "classifier.5"),
    ],
)
def test_nothing_runs_after_the_deepest_tap(tap, last):
    network = MobileNet(0.2).eval()
    ran = []
    for name, module in network.named_modules():
        if not any(module.children()):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    run(network, torch.randn(1, 128, 50), (tap,))
    assert ran[-1] == last


@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 1001])
def test_takes_any_number_of_frames(frames):
    network = MobileNet(0.1).eval()
    assert run(network, torch.randn(1, 128, frames))["logits"].isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "mpl"}, r"unknown head 'mpl'; did you mean 'mlp'"),
        ({"se_dims": "cx"}, r"letters of 'c', 'f' and 't', not 'cx'"),
        ({"se_dims": ""}, r"letters of 'c', 'f' and 't', not ''"),
        ({"se_agg": "mean"}, r"unknown se_agg 'mean'"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ConfigError, match=message):
        MobileNet(0.1, **arguments)


def test_make_divisible():
    values = [make_divisible(c * w) for c, w in [(16, 0.1), (40, 0.4), (112, 0.5), (1280, 0.4)]]
    assert values == [8, 16, 56, 512]


def test_learns():
    torch.manual_seed(0)
    network = MobileNet(0.1, num_classes=2)
    assert_learns(network)
    assert all(p.grad is not None for p in network.parameters())
