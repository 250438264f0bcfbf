"""Frame-wise augmentation against numbers of EfficientSED itself, and its scaling for a teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_sed.backbones.frame_mobilenet import FRONTEND
from hear_train.augment import waveforms
from hear_train.augment.frames import (
    FilterCurves,
    FrameAugmentation,
    FrameDraws,
    FrequencyWarp,
    TimeMask,
    draw_filters,
    draw_frame_mixup,
    draw_time_mask,
    draw_warp,
    filter_bands,
    warp_bands,
)
from hear_train.augment.spectrograms import log_mel_with_edges
from hear_train.batch import Pairs, Targets
from tests.goldens import assert_close, waveform
from tests.goldens.arrays import arrays

GOLDEN = arrays("train/efficientsed_data")
CPU = torch.device("cpu")
NOTHING = FrameAugmentation(mel_edges=False)


def tensor(name):
    return torch.from_numpy(GOLDEN[name].copy())


@pytest.fixture
def draws():
    """Draws that change nothing, for the 100 frames and 25 target frames of the golden arrays."""
    return FrameDraws(NOTHING, np.random.default_rng(0), 4, 100, 25)


def check(draws, name, pseudo=True):
    for part in ("x", "teacher"):
        found = draws.augment(tensor(f"aug_{part}")[:, 0])[:, None]
        assert_close(found, GOLDEN[f"{name}_{part}"], atol=1e-5, rtol=1e-5)
    for part in ("labels", "pseudo") if pseudo else ("labels",):
        moved = draws.move(Targets(strong=tensor(f"aug_{part}")), CPU)
        assert_close(moved.strong, GOLDEN[f"{name}_{part}"], atol=1e-6)


@pytest.mark.parametrize("run", [0, 1])
def test_frame_shift(draws, run):
    draws.shifts = torch.from_numpy(np.trunc(GOLDEN["frame_shift_draws"][run])).long()
    check(draws, f"frame_shift{run + 1}")


def test_mixup(draws):
    draws.mixup = Pairs(tensor("mixup_perm"), tensor("mixup_c").float())
    check(draws, "mixup")


def test_folded_mixup(draws):
    share = tensor("mixup_c").float()
    draws.mixup = Pairs(tensor("mixup_perm"), torch.maximum(share, 1 - share))
    found = draws.augment(tensor("aug_x")[:, 0])[:, None]
    assert_close(found, GOLDEN["mixup_max_x"], atol=1e-6, rtol=1e-6)


def test_mixstyle(draws):
    share = tensor("mixstyle_lambda_raw").flatten()
    draws.mixstyle = Pairs(tensor("mixstyle_perm"), torch.maximum(share, 1 - share))
    for part in ("x", "teacher"):
        found = draws.augment(tensor(f"aug_{part}")[:, 0])[:, None]
        assert_close(found, GOLDEN[f"mixstyle_{part}"], atol=1e-5, rtol=1e-5)
    moved = draws.move(Targets(strong=tensor("aug_labels")), CPU)
    assert torch.equal(moved.strong, tensor("aug_labels"))


def test_time_mask_also_masks_the_predictions_of_the_teacher(draws):
    width, start = (int(value) for value in GOLDEN["time_mask_draws"])
    draws.time_mask = TimeMask(start, width)
    check(draws, "time_mask", pseudo=False)
    pseudo = draws.move(Targets(strong=tensor("aug_pseudo")), CPU).strong
    assert not pseudo[:, :, start : start + width].any()
    kept = [*range(start), *range(start + width, 25)]
    assert torch.equal(pseudo[:, :, kept], tensor("aug_pseudo")[:, :, kept])


@pytest.mark.parametrize("run", [0, 1, 2])
def test_filters(run):
    curves = FilterCurves(GOLDEN[f"filter{run}_bounds"], GOLDEN[f"filter{run}_db"])
    found = filter_bands(tensor("filter_x")[:, 0], curves)[:, None]
    assert_close(found, GOLDEN[f"filter{run}_y"], atol=1e-6, rtol=1e-6)
    inner = np.sort(GOLDEN[f"filter{run}_raw"]) + 6 * np.arange(1, len(curves.borders) - 1)
    assert curves.borders.tolist() == [0, *inner, 128]


@pytest.mark.parametrize("run", [0, 1, 2, 3])
def test_frequency_warp(run):
    warp = FrequencyWarp(*(int(value) for value in GOLDEN[f"warp{run}_start_height"]))
    assert warp.height == int((0.6001, 0.83, 0.9999, 1.0)[run] * 128)
    found = warp_bands(tensor("warp_x").float(), warp)
    assert_close(found, GOLDEN[f"warp{run}_y"], atol=1e-5, rtol=1e-5)


def test_edges_of_the_mel_bank():
    audio = waveform(1.0, sample_rate=16000)
    for row, (low, high) in enumerate(GOLDEN["mel_train_draws"].tolist()):
        edges = (float(low), float(1000 - high))
        found = log_mel_with_edges(FRONTEND(), audio, edges)[0, :, ::2]
        assert_close(found, GOLDEN["mel_train"][row], atol=5e-3)


def test_mixed_waveforms():
    clips = waveform(0.02, batch=2, sample_rate=16000).numpy()
    share = waveforms.fold_share(0.35)
    assert_close(waveforms.mix(*clips, share), GOLDEN["wavmix_wave"], atol=1e-6)
    for part in ("labels", "pseudo"):
        strong = torch.from_numpy(GOLDEN[f"wavmix_{part}_in"].astype(np.float32))
        mixed = Targets(strong=strong[:1]).mix(Targets(strong=strong[1:]), torch.tensor([share]))
        assert_close(mixed.strong[0], GOLDEN[f"wavmix_{part}"], atol=1e-6)


def test_ranges_of_the_draws():
    """The bounds of the original: randint(12, 75), randint(0, 250 - width), and so on."""
    rng = np.random.default_rng(0)
    masks = [draw_time_mask(rng, 250, 0.3) for _ in range(3000)]
    assert {min(m.width for m in masks), max(m.width for m in masks)} == {12, 74}
    assert all(0 <= m.start < 250 - m.width for m in masks)
    warps = [draw_warp(rng, 128) for _ in range(3000)]
    assert {min(w.height for w in warps), max(w.height for w in warps)} == {76, 127}
    assert all(0 <= w.start < 128 - w.height for w in warps)
    filters = [draw_filters(rng, 2, 128) for _ in range(500)]
    assert {len(curves.borders) for curves in filters} == {4, 5, 6}
    assert min(np.diff(curves.borders).min() for curves in filters) == 6
    assert all(np.abs(curves.decibels).max() <= 6 for curves in filters)
    shares = draw_frame_mixup(rng, 5000, (0.3, 0.2), folded=False).share
    assert float(shares.mean()) == pytest.approx(0.6, abs=0.02)
    shifts = FrameDraws(FrameAugmentation(frame_shift=0.125), rng, 5000, 1000, 250).shifts
    assert float(shifts.float().std()) == pytest.approx(125, rel=0.04)


@pytest.mark.parametrize("name", ["frame_shift", "mixup", "filter_augment", "time_mask"])
def test_settings_out_of_range(name):
    with pytest.raises(ConfigError, match=rf"frames\.{name} must be from 0 to 1, not 1\.5"):
        FrameAugmentation(**{name: 1.5})
