"""Agreement metrics against scikit-learn, and against a loop."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss

from hear_train.agreement import agreement, as_markdown


def test_agreement_equals_a_loop():
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(2, 5, 7))
    found = agreement(student, teacher, threshold=0.5)
    p, q = 1 / (1 + np.exp(-teacher)), 1 / (1 + np.exp(-student))
    divergences, entropies = [], []
    for clip in range(5):
        total = 0.0
        for k in range(7):
            weights = [1 - p[clip, k], p[clip, k]]
            cross = log_loss([0, 1], [q[clip, k]] * 2, sample_weight=weights)
            own = log_loss([0, 1], [p[clip, k]] * 2, sample_weight=weights)
            entropies.append(cross)
            total += cross - own
        divergences.append(total)
    assert found.bce == pytest.approx(np.mean(entropies))
    assert found.kl == pytest.approx(np.mean(divergences))
    same = [np.argmax(student[clip]) == np.argmax(teacher[clip]) for clip in range(5)]
    assert found.top1 == np.mean(same)
    expected = average_precision_score((p >= 0.5)[:, (p >= 0.5).any(0)], q[:, (p >= 0.5).any(0)])
    assert found.mAP == pytest.approx(expected)


def test_a_teacher_agrees_most_with_itself():
    teacher = np.random.default_rng(2).normal(size=(9, 11))
    own = agreement(teacher, teacher, 0.5)
    assert own.kl == 0
    assert (own.mAP, own.top1, own.top1_in_3) == (1, 1, 1)
    other = agreement(teacher[::-1], teacher, 0.5)
    assert other.kl > 0
    assert other.bce > own.bce
    assert "| student | " in as_markdown({"student": other})
