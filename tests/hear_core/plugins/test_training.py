"""Plug-in models whose weights change: trained, loaded, converted, forked."""

from __future__ import annotations

import copy
import multiprocessing
import subprocess
import sys

import pytest
import torch
from torch import nn

from hear_core.errors import ConfigError
from hear_core.runtime.engines import onnx_available
from hear_mn import mn01_all_b_mel_avgs as clip_plugin
from hear_sed import fmn04 as frame_plugin

ENGINES = ["torch", pytest.param("onnx", marks=pytest.mark.skipif(not onnx_available(), reason=""))]


def sound(samples, clips=2):
    generator = torch.Generator().manual_seed(samples)
    return torch.rand(clips, samples, generator=generator) - 0.5


def load(engine="torch", **options):
    model = clip_plugin.load_model(pretrained=False, engine=engine, taps=["e1"], **options)
    return alive(model)


def alive(model):
    """Give batch norms statistics that keep the signal of random weights alive."""
    model.train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model(sound(16000, 8))
    return model.eval()


def zero(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()


def step(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(sound(8000)).square().mean().backward()
    optimizer.step()


def write_data(model):
    for parameter in model.parameters():
        parameter.data.mul_(0.5)


def replace_layer(model):
    old = model.extractor.backbone.features[16][0]
    model.extractor.backbone.features[16][0] = nn.Conv2d(*old.weight.shape[1::-1], 1, bias=False)


def load_other(model):
    other = {k: v * 0.9 for k, v in model.state_dict().items()}
    model.load_state_dict(other)


def update_statistics(model):
    model.train()
    with torch.no_grad():
        model(sound(8000))
    model.eval()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "change", [zero, step, write_data, replace_layer, load_other, update_statistics]
)
def test_changed_weights_change_the_embeddings(engine, change):
    model, audio = load(engine), sound(16000)
    before = model.get_scene_embeddings(audio)
    change(model)
    after = model.get_scene_embeddings(audio)
    assert not torch.equal(after, before)
    with torch.no_grad():
        expected = model(audio)
    assert (after - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_is_made_once_for_the_same_weights(engine):
    model = load(engine)
    first = model._current_engine()
    model.get_timestamp_embeddings(sound(16000))
    model.eval().requires_grad_(False)
    assert model._current_engine() is first


@pytest.mark.parametrize("samples", [100, 16000, 320000, 400000])
def test_forward_gives_scene_embeddings_with_gradients(samples):
    model, audio = load(), sound(samples).requires_grad_()
    found = model(audio)
    torch.testing.assert_close(found, model.get_scene_embeddings(audio), atol=1e-4, rtol=1e-4)
    found.sum().backward()
    assert audio.grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.extractor.backbone.features.parameters())


def test_forward_of_frame_models():
    model = frame_plugin.load_model(pretrained=False, engine="torch")
    alive(model)
    audio = sound(700_000, 1).requires_grad_()
    found = model(audio)
    torch.testing.assert_close(found, model.get_scene_embeddings(audio), atol=1e-4, rtol=1e-4)
    found.sum().backward()
    assert audio.grad.isfinite().all()


def test_training_mode_is_obeyed_by_forward_alone():
    model, audio = load(), sound(16000, 4)
    expected = model.get_scene_embeddings(audio)
    model.train()
    assert all(module.training for module in model.modules())
    assert not torch.allclose(model(audio), expected, rtol=1e-3)
    again = model.get_scene_embeddings(audio)
    assert model.training
    torch.testing.assert_close(again, model.eval()(audio), atol=1e-4, rtol=1e-4)


def test_training_lowers_a_loss():
    model = load()
    model.train()
    head = nn.Linear(model.scene_embedding_size, 2)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], 1e-3)
    audio = torch.cat([sound(8000, 4), torch.sin(torch.arange(8000) / 9.0).repeat(4, 1)])
    target = torch.tensor([0] * 4 + [1] * 4)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(model(audio)), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_state_dict_can_be_loaded_again():
    model, audio = load(), sound(16000)
    step(model)
    fresh = clip_plugin.load_model(pretrained=False, engine="torch", taps=["e1"])
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh.get_scene_embeddings(audio), model.get_scene_embeddings(audio))
    assert not torch.equal(load().get_scene_embeddings(audio), model.get_scene_embeddings(audio))


def test_the_weights_of_a_model_are_those_of_its_checkpoint():
    model = clip_plugin.load_model(pretrained=False)
    names = set(model.record.build().state_dict())
    assert set(model.extractor.backbone.state_dict()) == names


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 2e-2), (torch.bfloat16, 2e-1), (torch.float64, 1e-4)]
)
@pytest.mark.parametrize("plugin", [clip_plugin, frame_plugin])
def test_other_data_types_give_about_the_same(plugin, dtype, tolerance):
    model = alive(plugin.load_model(pretrained=False))
    audio = sound(32000)
    expected = model.get_scene_embeddings(audio)
    found = copy.deepcopy(model).to(dtype).get_scene_embeddings(audio)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < tolerance * expected.norm()


@pytest.mark.skipif(not onnx_available(), reason="onnx and onnxruntime are not installed")
def test_the_onnx_engine_refuses_other_data_types():
    model = load("onnx").half()
    with pytest.raises(ConfigError, match=r"'onnx' runs float32 weights.*float16.*engine='torch'"):
        model.get_scene_embeddings(sound(16000))
    assert model.float().get_scene_embeddings(sound(16000)).isfinite().all()


FORK = """
import os, sys, torch
from hear_mn import mn01_all_b_mel_avgs as plugin
torch.set_num_threads(2)
model = plugin.load_model(pretrained=False, engine=sys.argv[1])
audio = torch.rand(2, 64000, generator=torch.Generator().manual_seed(0)) - 0.5
expected = model.get_timestamp_embeddings(audio)[0]
child = os.fork()
if child == 0:
    found = model.get_timestamp_embeddings(audio)[0]
    # As multiprocessing does: at a full exit, ONNX Runtime waits for its threads itself.
    os._exit(0 if torch.allclose(found, expected, atol=1e-5) else 3)
_, status = os.waitpid(child, 0)
assert torch.equal(model.get_timestamp_embeddings(audio)[0], expected)
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here"
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_forked_process_can_use_a_model_that_was_used_before(engine):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, engine],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.strip() == "0", result.stderr


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here"
)
def test_workers_of_a_data_loader_can_embed():
    code = """
import torch
from torch.utils.data import DataLoader, Dataset
from hear_mn import mn01_all_b_mel_avgs as plugin
model = plugin.load_model(pretrained=False)
class Embedded(Dataset):
    def __len__(self): return 4
    def __getitem__(self, i): return model.get_scene_embeddings(torch.full((1, 8000), i / 10))[0]
expected = torch.stack([Embedded()[i] for i in range(4)])
loader = DataLoader(Embedded(), 2, num_workers=2, multiprocessing_context="fork")
print(torch.allclose(torch.cat(list(loader)), expected, atol=1e-5))
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert result.stdout.strip() == "True", result.stderr


@pytest.mark.parametrize("plugin", [clip_plugin, frame_plugin])
def test_models_can_be_exported_by_pytorch(plugin):
    model = alive(plugin.load_model(pretrained=False, engine="torch"))
    audio = sound(64000)
    program = torch.export.export(model.exportable(), (audio,))
    with torch.no_grad():
        found, expected = program.module()(audio), model.extractor(audio)
    assert (found - expected).norm() < 1e-3 * expected.norm()
