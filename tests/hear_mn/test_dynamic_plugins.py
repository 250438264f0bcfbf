"""The plug-ins of dynamic networks: batches, lengths, and the same numbers from both engines."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from hear_core.errors import ConfigError
from hear_core.export.onnx_file import compare, export
from hear_core.frontends.log_mel import LogMel
from hear_mn import ZOO
from hear_mn.dynamic_convolution import DynamicConv
from tests import goldens


def sounds(seconds, batch=3, seed=0):
    """Return noise that swells and fades, each clip in its own rhythm and colour."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(32000 * seconds)) / 32000
    noise = torch.rand(batch, len(time), generator=generator) - 0.5
    rate = torch.arange(1, batch + 1)[:, None]
    tone = (1885 * rate * time).sin()
    return (0.5 * noise + 0.4 * tone) * (0.5 + 0.5 * (9 * rate * time).cos())


@pytest.fixture(
    scope="module",
    params=["dymn04_as", pytest.param("dymn04_replace_se_as", marks=pytest.mark.slow)],
)
def loaded(request, tmp_path_factory):
    """Return a function that loads weights whose kernels differ from clip to clip.

    The stand-in weights will not do: but for clips of two seconds, their outputs explode. As in
    trained networks, the kernels of a layer are variations of one.
    """
    network = ZOO.random_init(request.param)
    torch.manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, DynamicConv):
                nn.init.normal_(module.residuals[0].weight)
                module.weight[:] = module.weight[:, :, :1].lerp(module.weight, 0.3)
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        network.train()(LogMel()(sounds(1.0, batch=16)))
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.save(network.state_dict(), path)

    def load(engine="torch", **options):
        module = importlib.import_module("hear_mn.dymn04_e1_l")
        return module.load_model(str(path), backbone=request.param, engine=engine, **options)

    return load


def test_its_attention_is_alive(loaded):
    """Without this, equality between engines would say little."""
    model, seen = loaded(), []
    for module in model.modules():
        if isinstance(module, DynamicConv):
            module.residuals.register_forward_hook(lambda *a: seen.append(a[2].softmax(1)))
    model.get_scene_embeddings(sounds(1.0))
    assert min(attention.max() for attention in seen) > 0.3
    assert max(attention.std(0).max() for attention in seen) > 0.1


@pytest.mark.parametrize("seconds", [0.16, 1.0])
def test_both_engines_give_the_same(loaded, seconds):
    pytest.importorskip("onnxruntime")
    ours, theirs = loaded("torch"), loaded("onnx")
    clips = sounds(seconds)
    for found, expected in [
        (theirs.get_scene_embeddings(clips), ours.get_scene_embeddings(clips)),
        (theirs.get_timestamp_embeddings(clips)[0], ours.get_timestamp_embeddings(clips)[0]),
    ]:
        assert (found - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_a_batch_gives_what_its_rows_give_alone(loaded, engine):
    if engine == "onnx":
        pytest.importorskip("onnxruntime")
    model, clips = loaded(engine), sounds(0.3)
    scenes = model.get_scene_embeddings(clips)
    timestamps, _ = model.get_timestamp_embeddings(clips)
    for row in range(len(clips)):
        clip = clips[row : row + 1]
        alone = model.get_scene_embeddings(clip), model.get_timestamp_embeddings(clip)[0]
        torch.testing.assert_close(alone[0][0], scenes[row], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone[1][0], timestamps[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
@pytest.mark.parametrize("samples", [1, 513, 5120])
def test_takes_short_clips(loaded, samples, engine):
    if engine == "onnx":
        pytest.importorskip("onnxruntime")
    model, clip = loaded(engine), sounds(1.0)[:1, :samples]
    assert model.get_scene_embeddings(clip).isfinite().all()
    embeddings, timestamps = model.get_timestamp_embeddings(clip)
    assert embeddings.shape == (1, timestamps.shape[1], model.timestamp_embedding_size)
    assert embeddings.isfinite().all()


def test_a_tap_it_does_not_have_is_an_error_that_lists_what_it_has(loaded):
    with pytest.raises(
        ConfigError, match=r"unknown tap 'se4'; known: all_b, b0.*b16.*clf.*e1.*logits"
    ):
        loaded(taps=["all_se"])


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_can_be_exported(loaded, precision, tmp_path):
    pytest.importorskip("onnxruntime")
    model = loaded()
    export(model, tmp_path / "out.onnx", precision=precision)
    found = list(compare(tmp_path / "out.onnx", model, list(sounds(1.0).numpy()), precision))
    assert all(comparison.passed for comparison in found), found


def test_stand_in_weights_load_by_name(tmp_path):
    torch.save(goldens.mobilenet("dymn10"), tmp_path / "dymn10.pt")
    network = ZOO.load("dymn10_as", tmp_path / "dymn10.pt").eval()
    log_mel = torch.from_numpy(goldens.arrays("mn/spectrograms")["default"])
    golden = goldens.arrays("mn/networks")["dymn10.calib.logits"]
    with torch.inference_mode():
        found = network(log_mel)["logits"]
    goldens.assert_close(found, golden, atol=2e-4, rtol=1e-4)
