"""The loss of detectors against numbers of EfficientSED itself, stored and online distillation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hear_core.errors import ConfigError
from hear_core.networks.backbone import Backbone
from hear_mn import ZOO as TAGGERS
from hear_sed.zoo import ZOO
from hear_train.augment.frames import FrameAugmentation, FrameDraws
from hear_train.batch import Batch, Pairs, Targets
from hear_train.objectives.detection import Detection, DetectionWeights
from tests.goldens import assert_close, detector
from tests.goldens.arrays import arrays

LOSS = arrays("train/efficientsed_losses")
STEPS = arrays("train/efficientsed_steps")
CPU = torch.device("cpu")


def tensor(name):
    return torch.from_numpy(LOSS[name].copy())


class Frames(Backbone):
    """A network whose logits are given, in the order of its calls."""

    frame_stride = 4

    def __init__(self, *outputs):
        super().__init__()
        self.outputs = [
            {name: torch.nn.Parameter(value.clone()) for name, value in output.items()}
            for output in outputs
        ]
        self.seen = []

    def forward(self, log_mel, taps=("logits",)):
        output = self.outputs[len(self.seen)]
        self.seen.append(log_mel)
        return {tap: output[tap][:, :, None] if tap == "logits" else output[tap] for tap in taps}

    def gradient(self, index):
        return self.outputs[index]["logits"].grad


@pytest.mark.parametrize("weight", ["0", "0.9", "1"])
def test_stored_predictions(weight):
    network = Frames({"logits": tensor("strong_logits")})
    share = float(weight)
    objective = Detection(network, DetectionWeights(1 - share, share))
    teacher = Targets(strong=tensor("strong_pseudo"))
    batch = Batch(0, torch.zeros(3, 1), Targets(strong=tensor("strong_labels")), teacher=teacher)
    terms = objective(batch)
    terms["loss"].backward()
    total, supervised, distilled = LOSS[f"strong_loss_w{weight}"]
    assert float(terms["loss"].detach()) == pytest.approx(total, rel=1e-6)
    # The original leaves out a term of weight 0.
    assert share == 1 or float(terms["labels"]) == pytest.approx(supervised, rel=1e-6)
    assert share == 0 or float(terms["teacher"]) == pytest.approx(distilled, rel=1e-6)
    assert_close(network.gradient(0), LOSS[f"strong_loss_w{weight}_grad"], atol=1e-7)


def test_labels_alone_are_the_whole_loss():
    network = Frames({"logits": tensor("strong_logits")})
    found = Detection(network, DetectionWeights())(
        Batch(0, torch.zeros(3, 1), Targets(strong=tensor("strong_labels")))
    )
    assert float(found["loss"].detach()) == pytest.approx(LOSS["strong_loss_w0"][0], rel=1e-6)


def online(weights):
    """Return the network and the terms of a pair of batches."""
    network = Frames(
        {"logits": tensor("strong_logits")},
        {"logits": tensor("online_student_weak"), "weak": tensor("online_weak_logits")},
    )
    unlabelled = Batch(
        0,
        torch.zeros(3, 1),
        Targets(tensor("online_weak_targets")),
        teacher=Targets(strong=tensor("online_teacher_weak").sigmoid()),
    )
    batch = Batch(
        0,
        torch.zeros(3, 1),
        Targets(strong=tensor("strong_labels")),
        teacher=Targets(strong=tensor("online_teacher_strong").sigmoid()),
        unlabelled=unlabelled,
    )
    terms = Detection(network, weights)(batch)
    terms["loss"].backward()
    return network, {name: float(value.detach()) for name, value in terms.items()}


def test_online_distillation():
    network, terms = online(DetectionWeights(0.1, 0.9, 0.5))
    total, _, _, weak, supervised, _, strong = LOSS["online_loss"]
    expected = {"loss": total, "labels": supervised, "teacher": strong, "unlabelled": weak}
    assert terms == pytest.approx(expected, rel=1e-6)
    assert_close(network.gradient(0), LOSS["online_grad_strong"], atol=1e-7)
    assert_close(network.gradient(1), LOSS["online_grad_weak"], atol=1e-7)


def test_online_distillation_with_the_classes_of_clips():
    """The original's case has stored predictions as well, whose term and gradient are separate."""
    network, terms = online(DetectionWeights(0.1, 0.9, 0.25, clip_labels=0.3))
    total, clips, _, _, _, stored, _ = LOSS["online_all_loss"]
    assert terms["loss"] == pytest.approx(total - 0.2 * stored, rel=1e-6)
    assert terms["clip_labels"] == pytest.approx(clips, rel=1e-6)
    assert_close(network.gradient(1), LOSS["online_all_grad_weak"], atol=1e-7)


def test_online_augmentation_moves_student_and_teacher_alike():
    """A frame shift and mixup with Beta(0.3, 0.2) of one batch, and folded mixup of the other."""
    nothing = FrameAugmentation(mel_edges=False)
    strong, weak = (FrameDraws(nothing, np.random.default_rng(0), 3, 100, 25) for _ in range(2))
    strong.shifts = torch.from_numpy(np.trunc(LOSS["online_aug_shift"])).long()
    strong.mixup = Pairs(tensor("online_aug_strong_perm"), tensor("online_aug_strong_c").float())
    share = tensor("online_aug_weak_beta").float()
    weak.mixup = Pairs(tensor("online_aug_weak_perm"), torch.maximum(share, 1 - share))
    for name, draws in {"strong": strong, "weak": weak}.items():
        student = draws.augment(tensor(f"online_mel_{name}")[:, 0])[:, None]
        teacher = draws.augment(tensor(f"online_teacher_mel_{name}")[:, 0])[:, None]
        assert_close(student, LOSS[f"online_aug_student_in_{name}"], atol=1e-6, rtol=1e-6)
        assert_close(teacher, LOSS[f"online_aug_teacher_in_{name}"], atol=1e-6, rtol=1e-6)
    network = Frames({"logits": tensor("strong_logits")}, {"logits": tensor("online_student_weak")})
    # The teacher's outputs are given, as if it had got the mixed sounds.
    batch = Batch(
        0,
        torch.zeros(3, 1),
        strong.move(Targets(strong=tensor("strong_labels")), CPU),
        teacher=Targets(strong=tensor("online_teacher_strong").sigmoid()),
        unlabelled=Batch(
            0,
            torch.zeros(3, 1),
            teacher=Targets(strong=tensor("online_teacher_weak").sigmoid()),
        ),
    )
    terms = Detection(network, DetectionWeights())(batch)
    terms["loss"].backward()
    assert float(terms["loss"].detach()) == pytest.approx(LOSS["online_aug_loss"][0], rel=1e-6)
    assert_close(network.gradient(0), LOSS["online_aug_grad_strong"], atol=1e-7)
    assert_close(network.gradient(1), LOSS["online_aug_grad_weak"], atol=1e-7)


@pytest.mark.slow
def test_three_steps_of_a_detector():
    """Adam with layer-wise learning rates in float64, labels and predictions, on one batch."""
    network = ZOO["fmn04"].build(447)
    network.load_state_dict(detector("fmn04"))
    objective = Detection(network.double().train(), DetectionWeights(0.1, 0.9))
    groups = objective.parameter_groups(3e-3, head_lr=8e-4, layer_decay=0.9)
    optimiser = torch.optim.Adam([{**group, "lr": group["max_lr"]} for group in groups])
    packed = STEPS["labels_packed"]
    labels = torch.from_numpy(np.unpackbits(packed, axis=-1, count=250)).double()
    logits = 2 * np.random.default_rng(82).standard_normal((2, 447, 250)) - 4
    pseudo = torch.from_numpy(logits.astype(np.float32)).sigmoid()
    assert_close(pseudo[:, :5, :8], STEPS["pseudo_head"], atol=1e-6)
    batch = Batch(
        0,
        torch.zeros(2, 1),
        Targets(strong=labels),
        log_mel=torch.from_numpy(STEPS["mel"][:, 0]).double(),
        teacher=Targets(strong=pseudo.double()),
    )
    objective._frames = lambda log_mel: network(log_mel)["logits"].squeeze(2)  # not in float32
    for step in range(3):
        terms = objective(batch)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        assert float(terms["loss"].detach()) == pytest.approx(
            STEPS["fmn04_loss64"][step, 0], rel=1e-6
        )
    sums = {name: float(p.detach().sum()) for name, p in network.named_parameters()}
    unsure = {*STEPS["fmn04_zero_gradient"].tolist(), *STEPS["fmn04_no_gradient"].tolist()}
    names = STEPS["fmn04_names"].tolist()
    for name, expected in zip(names, STEPS["fmn04_param_sum64"][3], strict=True):
        if name not in unsure:
            assert sums[name] == pytest.approx(expected, rel=1e-5, abs=1e-4), name


def test_a_tagger_cannot_detect():
    with pytest.raises(ConfigError, match="detected by a frame-wise network, such as fmn10"):
        Detection(TAGGERS["mn04_as"].skeleton(), DetectionWeights())
