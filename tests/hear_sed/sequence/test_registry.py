"""Sequence models against the original, against recurrences written plainly, and as graphs."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hear_core.errors import ConfigError
from hear_sed.sequence.hybrid import MinGru
from hear_sed.sequence.mamba import Mamba2
from hear_sed.sequence.registry import SEQUENCE_MODELS, build_sequence_model
from hear_sed.sequence.scan import linear_recurrence
from tests import goldens

PREFIX = "seq_model."
RECURRENT = ("gru", "rnn", "lstm")
FAST = ("-104", "-160", "-256")
COMBINATIONS = goldens.manifests("fmn*+*")
kinds = pytest.mark.parametrize("kind", SEQUENCE_MODELS)


def random_init(kind, channels=48, dim=64):
    torch.manual_seed(0)
    return build_sequence_model(kind, channels, dim).eval()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n.endswith(FAST) else pytest.mark.slow) for n in COMBINATIONS],
)
def test_equals_the_original(name):
    facts = goldens.manifest(name)["build"]
    kind, channels = facts["seq_model_type"], facts["embed_dim"]
    model = build_sequence_model(kind, channels, facts["seq_model_dim"]).eval()
    state = goldens.detector(name, PREFIX)
    model.load_state_dict({k.removeprefix(PREFIX): v for k, v in state.items()}, strict=True)
    expected = goldens.arrays(f"sed/seq_{kind}")
    close = {"atol": 1e-4, "rtol": 1e-4}
    with torch.inference_mode():
        found = model(goldens.frame_features(channels))
        assert found.shape == (1, 250, model.out_channels)
        goldens.assert_close(found[:, ::10], expected[f"{name}.out"], **close)
        if f"{name}.out_t37" in expected:
            found = model(goldens.frame_features(channels, 37))
            goldens.assert_close(found, expected[f"{name}.out_t37"], **close)


@kinds
@pytest.mark.parametrize("frames", [1, 7, 64, 65, 250, 313])
def test_takes_any_number_of_frames_and_a_batch_gives_what_its_rows_give(kind, frames):
    model = random_init(kind)
    x = torch.randn(2, frames, 48)
    with torch.inference_mode():
        together = model(x)
        assert together.shape == (2, frames, model.out_channels)
        for row in range(2):
            alone = model(x[row : row + 1])[0]
            torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-5)


@kinds
def test_the_first_layer_is_left_out_where_widths_agree(kind):
    names = dict(random_init(kind, channels=64).named_parameters())
    assert "0.weight" not in names
    assert ("0.weight" in dict(random_init(kind).named_parameters())) == (kind not in RECURRENT)


@kinds
def test_learns(kind):
    model = random_init(kind).train()
    model(torch.randn(2, 30, 48)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.any() for p in model.parameters())


@kinds
def test_half_precision_is_near(kind):
    model = random_init(kind)
    x = torch.randn(1, 90, 48)
    with torch.inference_mode():
        expected = model(x)
        found = model.half()(x.half())
    assert found.dtype == torch.float16
    assert (found.float() - expected).norm() < 5e-3 * expected.norm()


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind in ("tf", "gru", "hybrid") else pytest.mark.slow)
        for kind in SEQUENCE_MODELS
    ],
)
def test_as_a_graph_of_any_batch_and_any_number_of_frames(kind):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, file = random_init(kind), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.randn(2, 70, 48),),
            file,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch", 1: "frames"}, "y": {0: "batch", 1: "frames"}},
            opset_version=17,
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file.getvalue(), options, ["CPUExecutionProvider"])
    for batch, frames in [(1, 1), (3, 7), (2, 250), (1, 313), (1, 1500)]:
        x = torch.randn(batch, frames, 48)
        with torch.inference_mode():
            expected = model(x)
        (found,) = session.run(None, {"x": x.numpy()})
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-4)


def test_only_the_convolutions_are_causal():
    x = torch.randn(1, 80, 48)
    changed = x.clone()
    changed[:, 40] += 1
    causal = set()
    for kind in SEQUENCE_MODELS:
        model = random_init(kind)
        with torch.inference_mode():
            difference = (model(x) - model(changed)).abs().amax(2)[0]
        assert difference[40] > 0
        if difference[:40].max() == 0:
            causal.add(kind)
    assert causal == {"tcn", "mamba"}


def test_positions_matter_by_their_distance_alone():
    positions = random_init("tf")[1].layers[0][0].pos_encoding
    query, key = torch.randn(2, 1, 16).expand(2, 300, 16).unbind(0)
    scores = positions(query) @ positions(key).T
    for distance in (-7, 0, 31):
        along = scores.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-3, rtol=0)
    assert scores[0].std() > 0.1


@pytest.mark.parametrize("frames", [1, 64, 65, 1000])
@pytest.mark.parametrize("slowest", [0.5, 0.9999, 1.0])
def test_a_linear_recurrence_is_one(frames, slowest):
    torch.manual_seed(0)
    decay, x = slowest * torch.rand(2, frames, 5) ** 0.01, torch.randn(2, frames, 5)
    decay[:, ::17] = 0  # all is forgotten
    state, expected = torch.zeros(2, 5, dtype=torch.float64), []
    for t in range(frames):
        state = decay[:, t].double() * state + x[:, t].double()
        expected.append(state)
    found = linear_recurrence(decay, x)
    torch.testing.assert_close(found, torch.stack(expected, 1).float(), atol=1e-5, rtol=1e-5)


def test_min_gru_is_its_recurrence_however_long():
    torch.manual_seed(0)
    layer, x = MinGru(8), 3 * torch.randn(1, 20000, 8)
    x[:, 9000:] -= 4
    with torch.inference_mode():
        found = layer(x)
        candidate, gate = layer.double().to_hidden_and_gate(x.double()).chunk(2, 2)
    z = 1 / (1 + (-gate).exp())
    g = torch.where(candidate >= 0, candidate + 0.5, candidate.sigmoid())
    hidden = torch.zeros(1, 8, dtype=torch.float64)
    for t in range(x.shape[1]):
        hidden = (1 - z[:, t]) * hidden + z[:, t] * g[:, t]
        torch.testing.assert_close(found[:, t].double(), hidden, atol=1e-5, rtol=1e-5)


def plain_mamba2(weights, u, state, head):
    """Mamba2 of one clip (frames, dim), frame by frame, as the paper has it (sections 2 and 7)."""
    inner = weights["out_proj.weight"].shape[1]
    heads, kernel = inner // head, weights["conv1d.weight"].shape[2]
    past = [np.zeros(inner + 2 * state)] * kernel
    hidden, outputs = np.zeros((heads, head, state)), []
    rate = -np.exp(weights["A_log"])
    for frame in u:
        projected = weights["in_proj.weight"] @ frame
        z, xbc, dt = np.split(projected, [inner, 2 * inner + 2 * state])
        past = [*past[1:], xbc]
        mixed = weights["conv1d.bias"] + sum(
            weights["conv1d.weight"][:, 0, k] * past[k] for k in range(kernel)
        )
        mixed = mixed / (1 + np.exp(-mixed))
        x, b, c = np.split(mixed, [inner, inner + state])
        dt = np.log1p(np.exp(dt + weights["dt_bias"]))
        y = np.empty((heads, head))
        for h in range(heads):
            xh = x[h * head : (h + 1) * head]
            hidden[h] = np.exp(dt[h] * rate[h]) * hidden[h] + dt[h] * np.outer(xh, b)
            y[h] = hidden[h] @ c + weights["D"][h] * xh
        outputs.append(weights["out_proj.weight"] @ (y.reshape(-1) * z / (1 + np.exp(-z))))
    return np.stack(outputs)


@pytest.mark.parametrize("frames", [1, 64, 150])
def test_mamba2_is_its_recurrence(frames):
    torch.manual_seed(0)
    layer = Mamba2(32, state=16, head=8)
    nn.init.normal_(layer.D)
    u = torch.randn(2, frames, 32)
    weights = {k: v.double().numpy() for k, v in layer.state_dict().items()}
    with torch.inference_mode():
        found = layer(u)
    for row in range(2):
        expected = plain_mamba2(weights, u[row].double().numpy(), 16, 8)
        np.testing.assert_allclose(found[row], expected, atol=1e-5, rtol=1e-4)


def test_a_mamba2_has_the_parameters_of_mamba_ssm():
    shapes = {k: tuple(v.shape) for k, v in Mamba2(256).state_dict().items()}
    assert shapes == {
        "dt_bias": (8,),
        "A_log": (8,),
        "D": (8,),
        "in_proj.weight": (2 * 512 + 2 * 64 + 8, 256),
        "conv1d.weight": (512 + 2 * 64, 1, 3),
        "conv1d.bias": (512 + 2 * 64,),
        "out_proj.weight": (256, 512),
    }
    start = F.softplus(Mamba2(256).dt_bias)
    torch.testing.assert_close(start, start.clamp(1e-3, 1e-1))


@pytest.mark.parametrize(
    ("kind", "dim", "message"),
    [
        ("tff", 64, r"unknown sequence model 'tff'; did you mean 'tf'"),
        ("tf", 100, r"sequence model 'tf': dim must be a positive multiple of 8, such as 96, not"),
        ("attn", 130, r"'attn': dim must be a positive multiple of 16, such as 128, not 130"),
        ("hybrid", 100, r"'hybrid': dim must be a positive multiple of 8, such as 96, not 100"),
        ("mamba", 100, r"'mamba': dim must be a positive multiple of 32, such as 96, not 100"),
        ("gru", 0, r"'gru': dim must be a positive multiple of 1, such as 1, not 0"),
        ("tcn", -1, r"'tcn': dim must be a positive multiple of 1, such as 1, not -1"),
    ],
)
def test_wrong_arguments_are_explained(kind, dim, message):
    with pytest.raises(ConfigError, match=message):
        build_sequence_model(kind, 48, dim)
