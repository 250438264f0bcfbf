"""Schedules, augmentation, sampling, mixing and losses against numbers of EfficientAT itself."""

import numpy as np
import pytest
import torch

from hear_mn.dynamic_convolution import annealed_temperature
from hear_train.augment import waveforms
from hear_train.augment.spectrograms import mixstyle
from hear_train.batch import Batch, Pairs, Targets
from hear_train.data.clips import Clip
from hear_train.data.samplers import WeightedSampler, balanced_weights
from hear_train.loop.schedules import Schedule
from hear_train.objectives.distillation import Distillation, DistillationWeights
from hear_train.objectives.supervised import LOSSES
from tests.goldens import fill
from tests.goldens.arrays import arrays

GOLDEN = arrays("train/efficientat")
LOSS = arrays("train/efficientat_losses")


def tensor(name):
    return torch.from_numpy(np.asarray(LOSS[name]))


def test_schedules():
    for name, schedule, epochs in (
        ("lr_factor_audioset", Schedule(8, 80, 95, 0.01), 200),
        ("lr_factor_finetune", Schedule(10, 10, 65, 0.01), 80),
    ):
        found = [schedule.factor(epoch) for epoch in range(epochs)]
        np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-9)


def test_temperatures_of_dynamic_convolutions():
    for name, start in (("dymn_temperature_T30", 30.0), ("dymn_temperature_T1", 1.0)):
        found = [annealed_temperature(epoch, start=start) for epoch in range(200)]
        np.testing.assert_allclose(found, GOLDEN[name], rtol=1e-9)


def test_mixstyle():
    pairs = Pairs(
        torch.from_numpy(GOLDEN["mixstyle_perm"]),
        torch.from_numpy(GOLDEN["mixstyle_lambda"]).flatten(),
    )
    found = mixstyle(torch.from_numpy(GOLDEN["mixstyle_x"]), pairs)
    np.testing.assert_allclose(found.numpy(), GOLDEN["mixstyle_y"], atol=1e-5)


def test_rolls_gains_and_shares():
    wave = fill.waveform(0.02).numpy()[0]
    for shift, expected in zip(GOLDEN["roll_shift"], GOLDEN["roll_y"], strict=True):
        np.testing.assert_allclose(waveforms.roll(wave, int(shift)), expected, atol=1e-6)
    for decibels, expected in zip(GOLDEN["gain_db"], GOLDEN["gain_y"], strict=True):
        np.testing.assert_allclose(waveforms.gain(wave, int(decibels)), expected, atol=1e-6)
    shares = [waveforms.fold_share(float(draw)) for draw in GOLDEN["mixup_beta"]]
    np.testing.assert_allclose(shares, GOLDEN["mixup_lambda"], atol=1e-6)


def test_mixed_waveforms_and_labels():
    first, second = fill.waveform(0.02, 2).numpy()
    labels = torch.from_numpy(GOLDEN["wavmix_labels_in"])
    for row, draw in enumerate(GOLDEN["wavmix_beta"]):
        share = waveforms.fold_share(float(draw))
        found = waveforms.mix(first, second, share)
        np.testing.assert_allclose(found, GOLDEN["wavmix_wave"][row], atol=1e-6)
        mixed = Targets(labels[:1]).mix(Targets(labels[1:]), torch.tensor([share]))
        np.testing.assert_allclose(mixed.weak[0], GOLDEN["wavmix_labels"][row], atol=1e-6)


def test_mixed_labels_of_openmic():
    """The mixed probabilities are masked, and what is known of either clip is known of the mix."""
    weak, known = (
        torch.from_numpy(part)
        for part in np.split(GOLDEN["openmic_wavmix_labels_in"].astype(np.float32), 2, 1)
    )
    targets = Targets(weak * known, known=known > 0)
    mixed = targets[:1].mix(targets[1:], torch.tensor([0.7]))
    expected = GOLDEN["openmic_wavmix_labels"]
    np.testing.assert_allclose(mixed.weak[0], expected[:20], atol=1e-6)
    np.testing.assert_array_equal(mixed.known[0].numpy(), expected[20:] > 0)


def test_balanced_sampling():
    rows = [Clip(str(i), len, row) for i, row in enumerate(GOLDEN["sampler_targets_packed"])]
    weights = balanced_weights(rows, 527)
    np.testing.assert_allclose(weights, GOLDEN["sampler_weights"], rtol=1e-5)
    assert weights[7] == 0
    sampler = WeightedSampler(GOLDEN["sampler_weights"], 7, 20)
    found = [sampler[place] for place in range(20)]
    assert found == GOLDEN["sampler_draws_seed7"].tolist()
    assert len(set(found)) == 20


class Logits(torch.nn.Module):
    """A network whose logits are given."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits.clone())
        self.tap_shapes = {}

    def forward(self, log_mel, taps):
        return {"logits": self.logits}


PAIRS = Pairs(tensor("kd_perm").long(), tensor("kd_lambda").float().flatten())


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize(("share", "temperature"), [(0.1, 1), (0.0, 1), (1.0, 1), (0.1, 2)])
def test_distillation_of_clips_that_have_a_teacher(mixed, share, temperature):
    """Against a plain computation of both partners' losses, as the original mixes them."""
    logits, labels = tensor("kd_logits"), tensor("kd_targets")
    teacher = (tensor("kd_teacher_logits")[:6] / temperature).sigmoid()
    targets, soft = Targets(labels), Targets(teacher)
    if mixed:
        targets, soft = PAIRS.mix_targets(targets), PAIRS.mix_targets(soft)
    network = Logits(logits)
    batch = Batch(0, torch.zeros(6, 1), targets, log_mel=torch.zeros(1), teacher=soft)
    loss = Distillation(network, DistillationWeights(labels=share))(batch)["loss"]
    loss.backward()

    def entropy(wanted):
        losses = torch.nn.functional.binary_cross_entropy_with_logits
        return losses(logits, wanted, reduction="none").mean(1)

    own, partner = (PAIRS.share, 1 - PAIRS.share) if mixed else (1.0, 0.0)
    parts = [
        (own * entropy(wanted) + partner * entropy(wanted[PAIRS.partner])).mean()
        for wanted in (labels, teacher)
    ]
    expected = share * parts[0] + (1 - share) * parts[1]
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("mixing", ["mixup", "plain"])
@pytest.mark.parametrize(("data", "loss"), [("dcase20", "ce"), ("esc50", "ce"), ("fsd50k", "bce")])
def test_losses_of_fine_tuning(data, loss, mixing):
    labels = {
        "dcase20": torch.nn.functional.one_hot(tensor("ce_labels"), 10).float(),
        "esc50": tensor("ce_soft_targets").float(),
        "fsd50k": tensor("kd_targets"),
    }[data]
    targets = Targets(labels)
    if mixing == "mixup":
        targets = PAIRS.mix_targets(targets)
    logits = tensor("kd_logits").requires_grad_()
    found = LOSSES[loss](logits, targets).mean()
    found.backward()
    assert float(found.detach()) == pytest.approx(float(LOSS[f"{loss}_{data}_{mixing}"]), rel=1e-6)
    expected = LOSS[f"{loss}_{data}_{mixing}_grad"]
    np.testing.assert_allclose(logits.grad.numpy(), expected, atol=1e-7)


def test_the_masked_loss_of_openmic():
    """Without mixup; the original's mixup keeps the own mask for both partners, ours joins them."""
    weak, known = np.split(LOSS["openmic_targets"], 2, 1)
    targets = Targets(torch.from_numpy(weak > 0.5).float(), known=torch.from_numpy(known > 0))
    logits = tensor("openmic_logits").requires_grad_()
    found = LOSSES["bce"](logits, targets).mean()
    found.backward()
    assert float(found.detach()) == pytest.approx(float(LOSS["openmic_plain"]), rel=1e-6)
    np.testing.assert_allclose(logits.grad.numpy(), LOSS["openmic_plain_grad"], atol=1e-7)
