"""Three steps of Adam, in float64, against those of EfficientAT's own training loop."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import hear_train.preprocessing
from hear_mn import ZOO
from hear_mn.dynamic_convolution import annealed_temperature
from hear_train.augment.spectrograms import SpectrogramAugmentation
from hear_train.batch import Batch, Pairs, Targets
from hear_train.loop.optimisers import OptimiserConfig
from hear_train.loop.schedules import Schedule
from hear_train.loop.trainer import Trainer, TrainerConfig
from hear_train.objectives.distillation import Distillation, DistillationWeights
from hear_train.objectives.supervised import Supervised
from hear_train.preprocessing import Preprocessing
from tests.goldens import fill
from tests.goldens.arrays import arrays
from tests.goldens.weights import mobilenet

GOLDEN = arrays("train/efficientat_mn04_steps")
STEPS = 3


class Same:
    """A source that gives one batch at every step."""

    batch_size = 4

    def __init__(self, batch):
        self.batch = batch

    def __getitem__(self, step):
        return self.batch._replace(step=step)


def network(name, architecture):
    found = ZOO.random_init(name)
    found.load_state_dict(mobilenet(architecture))
    for module in found.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return found.double()


def steps(objective, batch, folder, **options):
    """Train for three steps; return the terms of the loss, and the norms by step and parameter."""
    config = TrainerConfig(
        epochs=STEPS,
        steps_per_epoch=1,
        grad_clip=0,
        optimiser=OptimiserConfig(name="adam", lr=8e-4),
        schedule=Schedule(name="constant"),
    )
    trainer = Trainer(objective, Same(batch), config, folder, Accelerator(cpu=True), **options)
    named = list(objective.network.named_parameters())
    start = [parameter.detach().clone() for _, parameter in named]
    found = {"terms": [], "grad_norm": [], "param_norm": [], "param_moved": [], "bn_sum": []}

    def report(step, terms):
        found["terms"].append(dict(terms))
        found["grad_norm"].append([float(p.grad.norm()) for _, p in named])
        found["param_norm"].append([float(p.detach().norm()) for _, p in named])
        moved = zip(named, start, strict=True)
        found["param_moved"].append(
            [float((p.detach() - before).norm()) for (_, p), before in moved]
        )
        statistics = objective.network.named_buffers()
        sums = {name: float(value.sum()) for name, value in statistics if "running" in name}
        found["bn_sum"].append(sums)

    trainer.run(report)
    return [name for name, _ in named], found


def assert_equal(kind, names, found, rel=1e-5, count=STEPS):
    """Compare norms of gradients, weights, movements and running statistics at `count` steps."""
    expected_names = GOLDEN[f"{kind}_names"].tolist()
    assert sorted(names) == sorted(expected_names)
    order = [names.index(name) for name in expected_names]
    # The true gradient of these is zero, so that Adam moves them by rounding.
    sharp = ~np.isin(expected_names, GOLDEN[f"{kind}_zero_gradient"])
    for name in ("grad_norm", "param_norm", "param_moved"):
        expected = GOLDEN[f"{kind}_{name}64"][-STEPS:][:count, sharp]
        norms = np.array(found[name])[:count, order][:, sharp]
        np.testing.assert_allclose(norms, expected, rtol=rel, err_msg=name)
    statistics = [
        [sums[name] for name in GOLDEN[f"{kind}_bn_names"].tolist()] for sums in found["bn_sum"]
    ]
    expected = GOLDEN[f"{kind}_bn_sum64"][1 : 1 + count]
    np.testing.assert_allclose(statistics[:count], expected, rtol=rel, atol=1e-9)


def batch():
    log_mel = torch.from_numpy(GOLDEN["mel"].astype(np.float64))
    targets = Targets(torch.from_numpy(GOLDEN["targets"]).double())
    return Batch(0, torch.zeros(4, 1), targets, log_mel=log_mel)


def test_supervised_steps(tmp_path):
    names, found = steps(Supervised(network("mn04_as", "mn04")), batch(), tmp_path)
    losses = [terms["loss"] for terms in found["terms"]]
    np.testing.assert_allclose(losses, GOLDEN["plain_loss64"][:, 0], rtol=1e-7)
    assert_equal("plain", names, found)


@pytest.mark.slow
def test_steps_of_dynamic_convolutions_with_a_falling_temperature(tmp_path):
    student = network("dymn04_as", "dymn04")
    names, found = steps(
        Supervised(student),
        batch(),
        tmp_path,
        on_epoch=[lambda epoch: student.set_temperature(annealed_temperature(epoch, start=30.0))],
    )
    losses = [terms["loss"] for terms in found["terms"]]
    np.testing.assert_allclose(losses, GOLDEN["dymn_loss64"][:, 0], rtol=1e-7)
    assert_equal("dymn", names, found)


def test_steps_of_the_whole_recipe(tmp_path, monkeypatch):
    """Waveform, drawn mel edges, mixup of log-mels, labels and teacher, and distillation."""
    drawn = iter(range(STEPS))
    mels = []

    def edges(rng):
        low, down = GOLDEN["full_mel_draws"][next(drawn)].tolist()
        return float(low), 16000.0 - down

    def pairs(rng, size, alpha, device):
        step = len(mels)
        partner, share = (GOLDEN[f"full_{name}"][step] for name in ("perm", "lambda"))
        return Pairs(torch.from_numpy(partner), torch.from_numpy(share).double())

    def log_mel(frontend, waveform, edges):
        mels.append(frontend(waveform.float(), edges=edges).double())
        return mels[-1]

    for name, stored in {
        "draw_mel_edges": edges,
        "draw_mixup": pairs,
        "log_mel_with_edges": log_mel,
    }.items():
        monkeypatch.setattr(hear_train.preprocessing, name, stored)
    frontend = ZOO["mn04_as"].frontend()
    teacher = torch.from_numpy(GOLDEN["full_teacher_logits"]).double().sigmoid()
    whole = batch()._replace(waveform=fill.waveform(2.0, 4), log_mel=None, teacher=Targets(teacher))
    names, found = steps(
        Distillation(network("mn04_as", "mn04"), DistillationWeights(labels=0.1)),
        whole,
        tmp_path,
        preprocess=Preprocessing(frontend, SpectrogramAugmentation(mixup=0.3), 0),
    )
    terms = found["terms"]
    losses = [(t["loss"], 0.1 * t["labels"], 0.9 * t["teacher"]) for t in terms]
    frames = np.stack([mel[:, :, 77].numpy() for mel in mels])
    np.testing.assert_allclose(frames, GOLDEN["full_mel_frame"], atol=2e-4)
    np.testing.assert_allclose(losses, GOLDEN["full_loss64"], rtol=2e-4)
    # The log-mels differ by rounding, which Adam amplifies from step to step.
    assert_equal("full", names, found, rel=5e-2, count=1)
