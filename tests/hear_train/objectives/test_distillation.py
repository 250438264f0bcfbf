"""The distillation loss against a loop over clips and classes."""

import math

import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_mn import ZOO
from hear_train.batch import Batch, Targets
from hear_train.objectives.distillation import (
    Distillation,
    DistillationWeights,
    init_output_bias,
    pool,
)

TAPS = {"e1": 7}


@pytest.fixture
def student():
    return ZOO.random_init("mn01_as").eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(3, 527, generator=generator) < 0.1).float()
    known = torch.ones(3, 527, dtype=torch.bool)
    labels[1], known[1] = 0, False
    soft = torch.rand(3, 527, generator=generator) ** 9
    tap = torch.randn(3, 7, 2, 5, generator=generator)
    return Batch(
        0,
        torch.zeros(3, 1),
        Targets(labels, known=known),
        log_mel=torch.randn(3, 128, 40, generator=generator),
        teacher=Targets(soft),
        taps={"e1": tap},
    )


def entropy(logits, wanted):
    """Return the mean cross-entropy of one clip, class by class."""
    total = 0.0
    for z, p in zip(logits.tolist(), wanted.tolist(), strict=True):
        q = 1 / (1 + math.exp(-z))
        total -= p * math.log(q) + (1 - p) * math.log(1 - q)
    return total / len(wanted)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_labels_and_teacher(student, batch, share):
    found = Distillation(student, DistillationWeights(labels=share))(batch)
    logits = student(batch.log_mel)["logits"]
    soft = [entropy(z, p) for z, p in zip(logits, batch.teacher.weak, strict=True)]
    hard = [entropy(logits[i], batch.targets.weak[i]) for i in (0, 2)]
    shares = [share, 0, share]
    expected = [(1 - w) * s for w, s in zip(shares, soft, strict=True)]
    expected = sum(expected) + share * sum(hard)
    assert float(found["loss"].detach()) == pytest.approx(expected / 3, rel=1e-5)
    assert float(found["teacher"]) == pytest.approx(np.mean(soft), rel=1e-5)


def test_more_terms(student, batch):
    plain = Distillation(student, DistillationWeights(labels=0))(batch)
    module = Distillation(student, DistillationWeights(labels=0, logits=0.5, taps=2.0), TAPS)
    found = module(batch)
    outputs = student(batch.log_mel, ("logits", "e1"))
    soft = batch.teacher.weak.numpy().clip(1e-5, 1 - 1e-5)
    squares = np.square(outputs["logits"].detach().numpy() - np.log(soft / (1 - soft))).mean()
    assert float(found["logits"]) == pytest.approx(squares, rel=1e-4)
    guess = module.maps["e1"](outputs["e1"]).detach().numpy()
    target = batch.taps["e1"].numpy().mean((2, 3))
    distance = np.square(guess - target).mean() / target.var(0).mean()
    assert float(found["e1"]) == pytest.approx(distance, rel=1e-4)
    expected = float(plain["loss"].detach()) + 0.5 * squares + 2 * distance
    assert float(found["loss"].detach()) == pytest.approx(expected, rel=1e-4)


def test_halves_of_a_batch_have_the_loss_of_the_whole(student, batch):
    """The teacher is uncertain, so that its lowest logit is far from the floor."""
    vague = batch._replace(teacher=Targets(0.2 + 0.6 * batch.teacher.weak))
    module = Distillation(student, DistillationWeights(labels=0, logits=0.5, softmax=0.1))

    def loss(rows):
        return float(
            module(
                vague._replace(
                    log_mel=vague.log_mel[rows],
                    teacher=vague.teacher[rows],
                    targets=vague.targets[rows],
                    waveform=vague.waveform[rows],
                )
            )["loss"].detach()
        )

    parts = [loss(slice(i, i + 1)) for i in range(3)]
    assert loss(slice(None)) == pytest.approx(np.mean(parts), rel=1e-5)


@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_softmaxes_over_the_classes(student, batch, heat):
    plain = Distillation(student, DistillationWeights(labels=0))(batch)
    found = Distillation(student, DistillationWeights(labels=0, softmax=0.3, temperature=heat))(
        batch
    )
    predicted = np.exp(student(batch.log_mel)["logits"].detach().numpy().astype(float) / heat)
    soft = batch.teacher.weak.numpy().astype(float).clip(1e-5, 1 - 1e-5)
    right = (soft / (1 - soft)) ** (1 / heat)
    predicted, right = (x / x.sum(1, keepdims=True) for x in (predicted, right))
    expected = -(right * np.log(predicted)).sum(1).mean() * heat**2
    assert float(found["softmax"]) == pytest.approx(expected, rel=1e-4)
    added = float((found["loss"] - plain["loss"]).detach())
    assert added == pytest.approx(0.3 * expected, rel=1e-3)


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"labels": 1.5}])
def test_weights_out_of_range(wrong):
    with pytest.raises(ConfigError, match=r"must be from 0 to 1 and is .*more than 0 and is"):
        DistillationWeights(**wrong)


def test_a_student_starts_at_the_mean_of_its_teacher(student):
    mean = torch.linspace(-9, 1, 527)
    init_output_bias(student, mean)
    silence = torch.full((2, 128, 30), -1.4)
    logits = student.train()(silence)["logits"]
    torch.testing.assert_close(logits, mean.expand(2, -1), atol=0.1, rtol=0)


def test_maps_are_averaged():
    tap = torch.arange(24.0).view(1, 2, 3, 4)
    assert pool(tap).tolist() == [[5.5, 17.5]]


def test_an_unknown_tap_is_refused(student):
    with pytest.raises(ConfigError, match="does not have the tap e7 to match"):
        Distillation(student, DistillationWeights(), {"e7": 3})
