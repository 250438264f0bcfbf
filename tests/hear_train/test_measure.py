"""The figures against scikit-learn, and against a loop."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss

from hear_train.measure import as_text, average_precision, mean_average_precision, nearness


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
def test_average_precision_is_that_of_scikit_learn(clips):
    scores = np.array([score for score, _ in clips], float)
    present = np.array([there for _, there in clips])
    if present.any():
        expected = average_precision_score(present, scores)
        assert average_precision(scores, present) == pytest.approx(expected, abs=1e-12)


def test_the_mean_is_over_classes_that_are_present():
    rng = np.random.default_rng(0)
    scores, present = rng.normal(size=(20, 6)), rng.random((20, 6)) < 0.3
    present[:, 2] = False
    some = [0, 1, 3, 4, 5]
    expected = average_precision_score(present[:, some], scores[:, some], average="macro")
    assert mean_average_precision(scores, present) == pytest.approx(expected)
    assert math.isnan(mean_average_precision(scores, np.zeros_like(present)))


def test_nearness_equals_a_loop():
    rng = np.random.default_rng(1)
    student, teacher = rng.normal(size=(2, 5, 7))
    found = nearness(student, teacher, threshold=0.5)
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


def test_a_teacher_is_nearest_to_itself():
    teacher = np.random.default_rng(2).normal(size=(9, 11))
    own = nearness(teacher, teacher, 0.5)
    assert own.kl == 0
    assert (own.mAP, own.top1, own.top1_in_3) == (1, 1, 1)
    other = nearness(teacher[::-1], teacher, 0.5)
    assert other.kl > 0
    assert other.bce > own.bce
    assert "| student | " in as_text({"student": other})
