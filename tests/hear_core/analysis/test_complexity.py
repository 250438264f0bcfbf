"""Complexity against the figures of the original, against counting by hand, and by gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hear_mn
from hear_core.analysis import complexity_cache
from hear_core.analysis.complexity import complexity, macs, parameters, peak_memory, receptive_field
from hear_core.analysis.complexity_cache import cached_complexity
from hear_core.errors import ConfigError
from hear_core.frontends.log_mel import LogMel
from hear_core.networks.backbone import Backbone
from hear_mn import ZOO
from hear_mn.dynamic_mobilenet import DynamicMobileNet
from hear_mn.mobilenet import MobileNet
from tests import goldens

# At width 0.1 the original raises an error. There, layer 0 and block 1 need most: the log-mel,
# 8 channels of 64 x 500 as output, and an eighth of each of the two maps between, as large.
IN_PARTS_AT_WIDTH_01 = 2 * (128 * 1000 + 8 * 64 * 500 + 2 * 8 * 64 * 500 // 8)


def skeleton(**arguments):
    with torch.device("meta"):
        return MobileNet(**arguments)


def check(found, golden):
    in_parts, plain = golden["peak_memory_mnv3_kB_16bit"], golden["peak_memory_cnn_kB_16bit"]
    assert found[0] == golden["params"]
    assert found[1] == golden["count_macs"]
    assert found[2] == 1000 * plain
    if in_parts == "raises ValueError":
        in_parts = IN_PARTS_AT_WIDTH_01 / 1000
    assert found[3] == 1000 * in_parts
    assert list(found[4]) == golden["receptive_field_freq_time"]


RELEASED = {name: row for name, row in ZOO.items() if row.checkpoint.url}


@pytest.mark.parametrize("name", [n for n, row in RELEASED.items() if row.network is MobileNet])
def test_released_networks_cost_what_the_original_counts(name):
    found = complexity(ZOO[name])
    golden = goldens.facts("mn/complexity")["models"][name]
    assert [found.n_mels, found.frames] == golden["spectrogram"][2:]
    check(found[3:8], golden)


@pytest.mark.parametrize("name", [n for n, row in ZOO.items() if row.network is DynamicMobileNet])
def test_dynamic_networks_cost_what_the_original_counts_where_it_can(name):
    """The original does not count dynamic convolutions; use the published tables instead."""
    found = complexity(ZOO[name])
    golden = goldens.facts("mn/complexity")["models"][name]
    assert found.parameters == golden["params"]
    assert list(found.receptive_field) == golden["receptive_field_freq_time"]
    assert found.macs > golden["count_macs"]


def test_dynamic_blocks_in_parts_keep_their_input_and_their_output():
    costs = complexity(ZOO["dymn10_as"])
    # In block 2: 16 channels of 64 x 500 in, 24 of 32 x 250 out, and an eighth of what is between:
    # 64 channels expanded, those strided, and kernels.
    ends, between = 16 * 64 * 500 + 24 * 32 * 250, 64 * 64 * 500 + 64 * 32 * 250
    assert costs.peak_memory_channelwise >= 2 * (ends + between // 8)
    assert costs.peak_memory_channelwise < costs.peak_memory / 2


def test_other_widths_cost_what_the_original_counts():
    widths = goldens.facts("mn/complexity")["mn_by_width"]
    assert len(widths) > 10
    for width, golden in widths.items():
        network, size = skeleton(width=float(width)), golden["spectrogram"][2:]
        memory = peak_memory(network, *size), peak_memory(network, *size, channelwise=True)
        counts = parameters(network), macs(network, *size)
        check((*counts, *memory, receptive_field(network, *size)), golden)


@pytest.mark.parametrize(("project", "rows"), [("EATagger", 17), ("EfficientAT", 14)])
def test_the_published_tables_to_the_digit(project, rows):
    found = goldens.facts("published/costs")[project]
    published = {name: figures for name, figures in found.items() if name in ZOO}
    assert len(published) == rows
    for name, figures in published.items():
        costs = complexity(ZOO[name])
        size = costs.parameters
        if ZOO[name].network is DynamicMobileNet:  # their sizes include what batch norms collect
            size += sum(
                b.numel() for n, b in ZOO[name].skeleton().named_buffers() if "running" in n
            )
        for value, printed in zip((size / 1e6, costs.macs / 1e9), figures, strict=True):
            digits = len(printed.partition(".")[2])
            # They round all figures but one, the parameters of mn04_as, which they truncate.
            written = f"{value:.6f}"[: 2 + digits] if printed == "0.983" else f"{value:.{digits}f}"
            assert written == printed, name


def test_attention_pooling_projects_every_frame():
    mlp = skeleton(width=0.4)
    attention = skeleton(width=0.4, head="multihead_attention_pooling", attention_heads=3)
    channels, hidden = mlp.tap_shapes["e1"].channels, mlp.tap_shapes["clf"].channels
    without_head = macs(mlp, 128, 1000) - (channels + 1) * hidden - (hidden + 1) * 527
    projections = 32 * (channels + 1) * 2 * 3 * 527  # 32 of the 1000 frames are left
    assert macs(attention, 128, 1000) == without_head + projections


class Small(Backbone):
    """Layers that a counter may miss: weights made of the input, dilation, pooling, a shortcut."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, (3, 5), stride=(1, 2), padding=(1, 2))
        self.weights = nn.Linear(4, 4 * 4 * 9)
        self.last = nn.Conv2d(4, 16, 1)

    def forward(self, log_mel, taps=("logits",)):
        x = self.first(log_mel[:, None])
        weights = self.weights(x.mean((2, 3))).view(4, 4, 3, 3)
        x = x + F.conv2d(x, weights, padding=2, dilation=2)
        return {"logits": self.last(F.avg_pool2d(x.relu(), 2)).mean((2, 3))}

    def channelwise_chains(self):
        return [(self.last,)]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_counted_by_hand(device):
    with torch.device(device):
        network = Small()
    x = 4 * 8 * 10  # elements after the first layer, for 8 bands and 20 frames
    first = x * (15 + 1)
    weights = 4 * 4 * 9 * (4 + 1)
    assert macs(network, 8, 20) == first + weights + x * 4 * 9 + 16 * 4 * 5 * (4 + 1)
    # The shortcut is what goes into the convolution; the weights are activations too.
    assert peak_memory(network, 8, 20) == 2 * (2 * x + 4 * 4 * 9)
    # After the first layer: + 4 steps of the dilated one, + 1 of the pooling, steps of two in time.
    assert receptive_field(network, 8, 20) == (3 + 4 + 1, 5 + 2 * 4 + 2 * 1)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_and_recurrence_are_counted(device):
    class Attentive(Small):
        def __init__(self):
            super().__init__()
            self.recurrence = nn.GRU(8, 3, batch_first=True)

        def forward(self, log_mel, taps=("logits",)):
            x = log_mel.transpose(1, 2)
            heads = x.unflatten(2, (2, 4)).transpose(1, 2)
            y = F.scaled_dot_product_attention(heads, heads, heads)
            return {"logits": self.recurrence(y.transpose(1, 2).flatten(2))[0]}

    with torch.device(device):
        network = Attentive()
    attention = 2 * 20 * 20 * 8  # scores, and their values
    assert macs(network, 8, 20) == attention + 20 * 3 * 3 * (8 + 1 + 3 + 1)


def test_what_a_shortcut_keeps_is_counted():
    class Shortcut(Small):
        def forward(self, log_mel, taps=("logits",)):
            x = self.first(log_mel[:, None])
            pooled = F.max_pool2d(self.last(x), 2)
            return {"logits": pooled.mean((1, 2, 3)) + x.mean((1, 2, 3))}

    x = 4 * 8 * 10
    # At the pooling: x for later, 16 channels in, a quarter of their points out.
    assert peak_memory(Shortcut(), 8, 20) == 2 * (x + 4 * x + x)
    assert receptive_field(Shortcut(), 8, 20) == (3 + 1, 5 + 2)


def test_a_receptive_field_is_where_gradients_reach():
    # All weights positive, so that no activation stops a gradient and none cancels another.
    network = MobileNet(0.1, se_dims="none", strides=(2, 1, 2, 1)).double().eval()
    for parameter in network.parameters():
        parameter.data = parameter.data.abs() + 1e-3
    log_mel = torch.ones(1, 600, 600, dtype=torch.float64, requires_grad=True)
    last = network(log_mel, ("b16",))["b16"]
    last[0, :, last.shape[2] // 2, last.shape[3] // 2].sum().backward()
    seen = log_mel.grad[0] > 0
    expected = int(seen.any(1).sum()), int(seen.any(0).sum())
    assert expected[0] < 600
    assert receptive_field(network, 600, 600) == expected


def test_a_network_is_counted_where_it_is_and_left_as_it_is():
    network = MobileNet(0.1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert macs(network, 128, 100) == macs(skeleton(width=0.1), 128, 100)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_clip_that_is_too_short():
    with pytest.raises(ConfigError, match=r"a clip of 0.01 s is too short; it takes 0.0125625 s"):
        complexity(ZOO["mn04_as"], 0.01)


@pytest.mark.parametrize("hop", [320, 480])
@pytest.mark.parametrize("samples", [402, 479, 480, 481, 960, 961, 32000])
def test_a_front_end_knows_its_frames(hop, samples):
    frontend = LogMel(hop=hop)
    assert frontend(torch.zeros(1, samples)).shape[2] == frontend.frames(samples)


@pytest.mark.parametrize("content", ["", "[" * 100_000, "{}", "[]", '{"macs": "many"}'])
def test_a_damaged_cache_of_complexity_is_counted_again(tmp_path, monkeypatch, content):
    monkeypatch.setattr(complexity_cache, "cache_folder", lambda: tmp_path)
    cached_complexity.cache_clear()
    counted = cached_complexity(hear_mn, "mn01_as")
    (file,) = tmp_path.rglob("mn01_as.json")
    cached_complexity.cache_clear()
    assert cached_complexity(hear_mn, "mn01_as") == counted  # from the file
    file.write_text(content)
    cached_complexity.cache_clear()
    assert cached_complexity(hear_mn, "mn01_as") == counted
    cached_complexity.cache_clear()
