"""The augmentation of PANNs, and steps of its training, against the original."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hear_core.errors import ConfigError
from hear_mn import ZOO
from hear_train.augment.pairs import (
    PairAugmentation,
    draw_shares,
    draw_stripes,
    mask_stripes,
    mix_pair_targets,
    mix_pairs,
)
from hear_train.batch import Batch, Targets
from hear_train.data.panns import as_float32, to_panns_int16
from hear_train.objectives.supervised import PairSupervised
from tests import goldens
from tests.goldens import waveform

GOLDEN = goldens.arrays("train/panns")


def test_shares_are_those_of_the_original():
    """Its list has the shares of both clips of a pair; the draws continue from call to call."""
    state = np.random.RandomState(1234)
    np.testing.assert_array_equal(draw_shares(state, 32, 1.0), GOLDEN["mixup_lambda64"][::2])
    objective = PairSupervised(nn.Identity(), "bce", PairAugmentation(), 1234)
    calls = GOLDEN["mixup_lambda_calls"]
    for step in (0, 1, 2, 3, 1, 3):  # in turn, and after a resume
        np.testing.assert_array_equal(objective.shares(step, 4), calls[step][::2])


def test_pairs_are_mixed_with_their_targets():
    rows = torch.arange(12.0).reshape(4, 3)
    shares = torch.tensor([0.25, 1.0])
    expected = torch.stack([0.25 * rows[0] + 0.75 * rows[1], rows[2]])
    assert torch.equal(mix_pairs(rows, shares), expected)
    targets = mix_pair_targets(Targets(rows, known=rows > -1), shares)
    assert torch.equal(targets.weak, expected)
    assert targets.known.shape == (2, 3)


def test_stripes_are_masked_as_in_the_original():
    log_mel = torch.ones(3, 64, 101)
    for axis, drawn in zip((2, 1), GOLDEN["specaug_draws"], strict=True):
        log_mel = mask_stripes(log_mel, drawn, axis)
    hidden = torch.from_numpy(GOLDEN["specaug_zero"][:, 0]).transpose(1, 2)
    assert torch.equal(log_mel == 0, hidden)


def test_stripes_are_in_the_ranges_of_the_original():
    """Widths stay below the widest, and a stripe ends before the last place."""
    drawn = draw_stripes(np.random.default_rng(0), 5000, 101, 64, 2)
    width, start = drawn[..., 0], drawn[..., 1]
    assert (width.min(), width.max()) == (0, 63)
    assert start.min() == 0
    assert (start + width).max() == 100
    assert draw_stripes(np.random.default_rng(0), 50, 5, 64, 2)[..., 0].max() == 4


def test_wrong_settings_are_named():
    with pytest.raises(ConfigError, match=r"stripes=-1"):
        PairAugmentation(stripes=-1)


def test_an_odd_batch_cannot_be_paired():
    objective = PairSupervised(nn.Identity(), "bce", PairAugmentation(), 0)
    with pytest.raises(ConfigError, match=r"needs an even data\.batch_size, not 3"):
        objective(Batch(0, torch.zeros(3, 1), log_mel=torch.zeros(3, 64, 32)))


@pytest.mark.slow
def test_three_steps_are_those_of_the_original():
    """Loss and gradients of CNN14 in float64, with the draws of the original and without dropout.

    The log-mels are float32. Their rounding changes probabilities by 5e-6 and norms of the first
    gradients by 1e-3, which Adam then amplifies: it divides small gradients by their own size.
    """
    steps = goldens.arrays("train/panns_steps")
    network = ZOO["cnn14"].build()
    state = goldens.panns("Cnn14")
    network.load_state_dict({k: v for k, v in state.items() if "extractor" not in k})
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    network.double().train()
    clips = waveform(1.0, batch=8, sample_rate=32000)
    clips = np.stack([as_float32(to_panns_int16(np.asarray(clip), 32000)) for clip in clips])
    objective = PairSupervised(network, "bce", PairAugmentation(), 1234)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, amsgrad=True)
    names = [name for name, _ in network.named_parameters()]
    rows = [steps["names"].tolist().index(name) for name in names]
    frontend = ZOO["cnn14"].frontend()
    for step, chosen in enumerate(steps["indexes"]):
        shares = steps["lambda"][step][::2].copy()
        np.testing.assert_array_equal(objective.shares(step, 2), shares)
        weak = torch.from_numpy(steps["targets"][chosen].astype(np.float64))
        log_mel = frontend(torch.from_numpy(clips[chosen])).double()
        batch = Batch(step, torch.zeros(4, 1), Targets(weak), log_mel=log_mel)
        loss = objective.augmented_loss(batch, steps["specaug_draws"][step], shares)["loss"]
        assert loss.item() == pytest.approx(steps["loss64"][step], rel=2e-4 if step else 1e-6)
        optimiser.zero_grad()
        loss.backward()
        norms = [float(p.grad.norm()) for p in network.parameters()]
        expected = steps["grad_norm64"][step][rows]
        np.testing.assert_allclose(norms, expected, rtol=5e-2 if step else 5e-3)
        optimiser.step()
