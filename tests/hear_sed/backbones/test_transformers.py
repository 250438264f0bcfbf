"""Audio transformers: full networks against the originals, with stand-in weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hear_sed.backbones.registry import BACKBONES
from hear_sed.frame_detector import FrameDetector
from hear_sed.zoo import ZOO
from tests import goldens

NAMES = ("BEATs", "ATST-F", "fpasst", "M2D", "ASIT")
TOKENS = {0: "tokens", 1: "block0", 6: "block5", 12: "block11"}
UNUSED = ("model.atst.mask_embed", "model.m2d.backbone.norm_stats")
FROM_WAVEFORM = {"atol": 5e-4, "rtol": 1e-4}


def load(name, **options):
    """Return a detector with the stand-in weights of the original, and all of its keys."""
    record = ZOO[name]
    state = goldens.detector(name, **options)
    renamed = {record.rename(key): value for key, value in state.items()}
    with torch.device("meta"):
        network = FrameDetector(name, weak_classes=len(renamed["weak_head.bias"]))
    weights = {key: value for key, value in renamed.items() if key not in record.constants}
    network.load_state_dict(weights, strict=True, assign=True)
    for key, shape in record.constants.items():
        assert key not in renamed or renamed[key].shape == shape
    return network.eval()


@pytest.fixture(scope="module", params=NAMES)
def detector(request):
    """One network at a time, as each takes 360 MB."""
    return request.param, load(request.param)


def mel(name, seconds):
    return BACKBONES[name].frontend()(goldens.waveform(seconds, 1, 16000))


@torch.inference_mode()
def test_equals_the_original(detector):
    name, network = detector
    golden, backbone = goldens.arrays(f"sed/{name}"), network.backbone
    log_mel = mel(name, 10.0)
    for number, x in enumerate(backbone.layers(log_mel)):
        if number in TOKENS:
            goldens.assert_close(x[:, ::16], golden[TOKENS[number]], atol=2e-3, rtol=1e-4)
    tokens = backbone.sequence(x)
    step = -(-tokens.shape[1] // golden["embedding"].shape[1])
    goldens.assert_close(tokens[:, ::step], golden["embedding"], **FROM_WAVEFORM)
    frames = backbone.resize_sequence(tokens.transpose(1, 2).unsqueeze(2), 250)
    goldens.assert_close(frames[:, :, 0, ::10].mT, golden["pooled"], **FROM_WAVEFORM)
    found = network.detect(frames, ("logits", "weak"))
    goldens.assert_close(found["logits"][:, :, 0, ::5], golden["strong"], **FROM_WAVEFORM)
    goldens.assert_close(found["weak"], golden["weak"], **FROM_WAVEFORM)
    head = goldens.detector(name, "weak_head", weak527=True)
    weak = F.linear(frames[:, :, 0].mean(2), head["weak_head.weight"], head["weak_head.bias"])
    goldens.assert_close(weak, golden["weak527"], **FROM_WAVEFORM)


@torch.inference_mode()
def test_five_seconds_stretched_to_250_frames_equal_the_original(detector):
    name, network = detector
    golden = goldens.arrays(f"sed/{name}")
    stretched = FrameDetector(network.backbone, resized_to=250).eval()
    stretched.strong_head, stretched.weak_head = network.strong_head, network.weak_head
    found = stretched(mel(name, 5.0), ("tokens", "logits", "weak"))
    tokens = found["tokens"][:, :, 0, ::8].mT
    goldens.assert_close(tokens, golden["embedding_5s"], **FROM_WAVEFORM)
    goldens.assert_close(found["logits"][:, :, 0, ::10], golden["strong_5s"], **FROM_WAVEFORM)
    goldens.assert_close(found["weak"], golden["weak_5s"], **FROM_WAVEFORM)


@pytest.mark.parametrize("name", NAMES)
def test_front_ends_equal_the_originals(name):
    frontend = BACKBONES[name].frontend()
    kind = BACKBONES[name].make(depth=1, dim=16, heads=1).kind
    golden = goldens.arrays("sed/frontends")[f"{kind}_mel"][:, 0]
    for form in (frontend, frontend.exportable()):
        found = form(goldens.waveform(10.0, 1, 16000))
        goldens.assert_close(found, golden, atol=5e-3)
        assert np.nanmean(np.abs(found.numpy() - golden)) < 5e-5


def test_the_floor_of_atst_can_be_that_of_the_batch():
    golden = goldens.arrays("sed/frontends")
    clip = goldens.waveform(2.0, 1, 16000)
    batch = torch.cat([clip, 1e-3 * clip])
    make = BACKBONES["ATST-F"].frontend
    goldens.assert_close(
        make(floor_by_batch=True)(batch)[:, None], golden["atst_mel_batch"], atol=1e-4
    )
    goldens.assert_close(make()(batch)[1:, None], golden["atst_mel_quiet_alone"], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_has_as_many_parameters_as_the_original(name):
    record, facts = ZOO[name], goldens.manifest(name)
    network = record.skeleton()
    unused = sum(np.prod(facts["tensors"][key][1]) for key in facts["tensors"] if key in UNUSED)
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found + unused == facts["param_count"]
