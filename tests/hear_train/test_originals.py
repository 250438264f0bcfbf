"""Schedules, augmentation, sampling, mixing and losses against numbers of EfficientAT itself."""

import numpy as np
import pytest
import torch

from hear_mn import ZOO
from hear_mn.dynamic_convolution import annealed_temperature
from hear_train.augment import waveforms
from hear_train.augment.spectrograms import draw_mel_edges, log_mel_with_edges, mixstyle
from hear_train.batch import Batch, Pairs, Targets
from hear_train.data.clips import Clip, Clips
from hear_train.data.samplers import UniformSampler, WeightedSampler, balanced_weights
from hear_train.data.sources import ClipDrawer, WaveformAugmentation
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

    framewise = False

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


@pytest.mark.parametrize(
    ("case", "temperature"), [("mixup_kd0.1", 1), ("mixup_kd0.1_T2", 2), ("plain_kd0.1", 1)]
)
def test_distillation_of_the_original(case, temperature):
    """One of the clips, the third, does not have a teacher.

    The original then takes the last row of the table, sets the clip's own distillation to 0 and
    keeps the row as that of a partner. Here such clips are left out before training, so that only
    the others can be compared.
    """
    without, size = 2, 6
    rows = LOSS["kd_teacher_row"]
    assert np.flatnonzero(rows < 0).tolist() == [without]
    targets = Targets(tensor("kd_targets"))
    soft = Targets((tensor("kd_teacher_logits")[rows] / temperature).sigmoid())
    if case.startswith("mixup"):
        targets, soft = PAIRS.mix_targets(targets), PAIRS.mix_targets(soft)
    network = Logits(tensor("kd_logits"))
    batch = Batch(0, torch.zeros(size, 1), targets, log_mel=torch.zeros(1), teacher=soft)
    terms = Distillation(network, DistillationWeights(labels=0.1))(batch)
    terms["loss"].backward()
    dropped = torch.nn.functional.binary_cross_entropy_with_logits(
        network.logits[without], soft.weak[without]
    )
    total, labels, teacher = LOSS[f"kd_{case}_losses64"]
    parts = [float(x.detach()) for x in (terms["loss"], terms["labels"], terms["teacher"], dropped)]
    assert parts[0] - 0.9 * parts[3] / size == pytest.approx(total, rel=1e-6)
    assert 0.1 * parts[1] == pytest.approx(labels, rel=1e-6)
    assert 0.9 * (parts[2] - parts[3] / size) == pytest.approx(teacher, rel=1e-6)
    others = [row for row in range(size) if row != without]
    expected = LOSS[f"kd_{case}_grad"]
    np.testing.assert_allclose(network.logits.grad[others], expected[others], atol=1e-7)


@pytest.mark.parametrize("case", ["mixup_kd0", "mixup_kd1", "plain_kd0"])
def test_without_a_share_of_the_teacher_only_the_labels_count(case):
    targets = Targets(tensor("kd_targets"))
    if case.startswith("mixup"):
        targets = PAIRS.mix_targets(targets)
    logits = tensor("kd_logits").requires_grad_()
    loss = LOSSES["bce"](logits, targets).mean()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(LOSS[f"kd_{case}_losses64"][0], rel=1e-6)
    if case != "mixup_kd1":
        np.testing.assert_allclose(logits.grad, LOSS[f"kd_{case}_grad"], atol=1e-7)


def test_mixed_log_mels():
    found = PAIRS.mix(tensor("kd_mel"))
    np.testing.assert_allclose(found, LOSS["kd_mixed_mel"], atol=1e-6)


def test_log_mels_with_drawn_edges():
    frontend, wave = ZOO["mn04_as"].frontend(), fill.waveform(1.0, 1)
    for row, (low, down) in enumerate(GOLDEN["mel_train_draws"].tolist()):
        edges = (float(low), 1000.0 - down)
        assert (edges[0], frontend.fmax + edges[1]) == tuple(GOLDEN["mel_train_fmin_fmax"][row])
        found = log_mel_with_edges(frontend, wave, edges)[0]
        np.testing.assert_allclose(found[:, ::2], GOLDEN["mel_train"][row], atol=2e-4)
        np.testing.assert_allclose(found.mean(1), GOLDEN["mel_train_mean"][row], atol=2e-5)


def test_drawn_edges_have_the_range_of_the_original():
    rng = np.random.default_rng(0)
    draws = np.array([draw_mel_edges(rng) for _ in range(20000)])
    assert (draws.min(0).tolist(), draws.max(0).tolist()) == ([0, -999], [9, 1000])
    assert (draws == draws.round()).all()


def test_draws_of_waveform_augmentation_have_the_ranges_of_the_original(monkeypatch):
    """Gain in whole decibels from -12 to 11, shifts up to 4000 samples, shares from Beta(2, 2)."""
    drawn = {"gain": [], "roll": [], "mix": []}
    for name, values in drawn.items():
        monkeypatch.setattr(
            waveforms,
            name,
            lambda samples, *rest, values=values: values.append(rest[-1]) or samples,
        )
    clips = Clips([Clip(str(i), lambda rate: np.ones(4, np.float32)) for i in range(3)], 4)
    settings = WaveformAugmentation(gain=12, roll=4000, mix=0.5)
    drawer = ClipDrawer(clips, UniformSampler(3, 0), 1.0, settings, 0)
    count = 4000
    for number in range(count):
        drawer.draw(number)
    assert set(drawn["gain"]) == set(range(-12, 12))
    assert max(map(abs, drawn["roll"])) <= 4000
    assert np.std(drawn["roll"]) == pytest.approx(4000 / np.sqrt(3), rel=0.03)
    assert len(drawn["mix"]) / count == pytest.approx(0.5, abs=0.03)
    # The mean of max(l, 1 - l) with l ~ Beta(2, 2) is 0.5 + 3 / 16.
    assert min(drawn["mix"]) >= 0.5
    assert np.mean(drawn["mix"]) == pytest.approx(0.6875, abs=0.01)


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
    """With mixup, the original keeps a clip's own mask for its partner's labels, ours joins both.

    The original also makes labels that were mixed as waveforms hard again, with a threshold of 0.5.
    """
    weak, known = np.split(LOSS["openmic_targets"], 2, 1)
    targets = Targets(torch.from_numpy(weak > 0.5).float(), known=torch.from_numpy(known > 0))
    for case in ("plain", "mixup"):
        if case == "mixup":
            targets = Targets(PAIRS.mix(targets.weak), known=targets.known)
        logits = tensor("openmic_logits").requires_grad_()
        found = LOSSES["bce"](logits, targets).mean()
        found.backward()
        assert float(found.detach()) == pytest.approx(float(LOSS[f"openmic_{case}"]), rel=1e-6)
        np.testing.assert_allclose(logits.grad, LOSS[f"openmic_{case}_grad"], atol=1e-7)
