"""Thresholds, scores, weights and heads, against plain re-computations and scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from hear_train.classify.heads import (
    Examples,
    HeadConfig,
    best_candidate,
    example_weights,
    fit_head,
    head_logits,
    validated_logits,
)
from hear_train.classify.scoring import (
    Units,
    best_threshold,
    best_thresholds,
    mean_by_unit,
    score_units,
    unit_of_windows,
)
from hear_train.classify.sounds import TESTED, TRAINED


def sigmoid(values):
    return 1 / (1 + np.exp(-np.asarray(values, float)))


def f1(logits, present, threshold):
    found = sigmoid(logits) >= threshold
    return 2 * (found & present).sum() / (found.sum() + present.sum())


@pytest.mark.parametrize("seed", range(5))
def test_a_threshold_has_the_highest_f1(seed):
    rng = np.random.default_rng(seed)
    present = rng.random(40) < 0.4
    logits = np.round(rng.normal(size=40) + present, 1)  # with ties
    found = best_threshold(logits, present, np.zeros(40, bool))
    cuts = [*sigmoid(logits), 0.999]
    assert f1(logits, present, found) == pytest.approx(max(f1(logits, present, c) for c in cuts))


def test_a_threshold_is_in_the_middle_of_the_gap():
    present = np.array([True, True, False, False])
    none = np.zeros(4, bool)
    assert best_threshold(np.array([4.0, 2.0, -1.0, -2.0]), present, none) == sigmoid(0.5)
    assert best_threshold(np.ones(4), np.zeros(4, bool), none) == 0.5  # nothing to choose by


def test_a_threshold_keeps_to_the_limit_of_false_alarms():
    targets = np.array([[1], [1], [0], [0]], np.float32)
    seconds = np.zeros(4), np.full(4, 1800.0)
    units = Units(np.arange(4), *seconds, targets, np.zeros(4, int))
    logits = np.array([[3.0], [0.5], [2.0], [-1.0]])
    assert best_thresholds(logits, units) == pytest.approx(sigmoid(-0.25))
    assert best_thresholds(logits, units, 0.5) == pytest.approx(sigmoid(2.5))
    assert best_thresholds(logits, units, 1.0) == pytest.approx(sigmoid(-0.25))


def test_windows_of_clips_are_averaged_and_those_of_background_are_not():
    clips = np.array([0, 0, 0, 1, 2, 2])
    background = np.array([False] * 4 + [True] * 2)
    units = unit_of_windows(clips, background)
    assert units.tolist() == [0, 0, 0, 1, 2, 3]
    values = np.array([[1.0], [2.0], [6.0], [5.0], [7.0], [np.nan]])
    np.testing.assert_array_equal(mean_by_unit(values, units), [[3], [5], [7], [np.nan]])


def test_scores_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    targets = np.eye(4)[rng.integers(0, 4, 60)][:, :3].astype(
        np.float32
    )  # the fourth is background
    logits = (rng.normal(size=(60, 3)) + 2 * targets).astype(np.float32)
    units = Units(np.arange(60), np.zeros(60), np.full(60, 9.0), targets, rng.integers(0, 2, 60))
    thresholds = np.array([0.4, 0.7, 0.8])
    detected = sigmoid(logits) >= thresholds
    scored = score_units(("a", "b", "c"), units, logits, thresholds, detected)
    wanted = precision_recall_fscore_support(targets, detected, zero_division=np.nan)
    found = np.array([(c.precision, c.recall, c.f1, c.clips) for c in scored.classes]).T
    np.testing.assert_allclose(found, wanted)
    for index, row in enumerate(scored.classes):
        average = average_precision_score(targets[:, index], logits[:, index])
        assert row.average_precision == pytest.approx(average)
    background = ~targets.any(1)
    hours = background.sum() * 9 / 3600
    assert scored.false_alarms == pytest.approx(detected[background].sum() / hours)
    assert scored.confusion.sum() == 60
    assert scored.confusion[3].sum() == background.sum()
    single = targets.any(1)
    right = (logits.argmax(1) == targets.argmax(1))[single]
    assert scored.accuracy == pytest.approx(right.mean())


def test_weights_balance_classes_windows_and_background():
    # Three clips of the first class, of which one has two windows, one of the second, background.
    targets = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [0, 1]] + [[0, 0]] * 8, np.float32)
    clips = np.array([0, 0, 1, 2, 3, *range(4, 12)])
    weights = example_weights(targets, clips)
    assert weights[0] + weights[1] == pytest.approx(weights[2])
    assert weights[:4].sum() == pytest.approx(weights[4])
    assert weights[5:].sum() == pytest.approx(weights[:5].sum())
    assert len(set(weights[5:])) == 1


def test_a_linear_head_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 2, 80)
    rows = (rng.normal(size=(80, 6)) * [1, 9, 1, 1, 0.1, 1] + classes[:, None]).astype(np.float32)
    rows[:, 3] = 7.0  # constant
    targets = np.stack([classes == 0, classes == 1], 1).astype(np.float32)
    weights = rng.uniform(0.5, 2, 80).astype(np.float32)
    decay = 0.02
    head = fit_head(Examples(rows, targets, weights, classes), HeadConfig(0, decay), 0)
    std = rows.std(0)
    plain = (rows - rows.mean(0)) / np.where(std > 1e-5, std, 1)
    # scikit-learn multiplies the sum of losses, and we divide it by the sum of weights.
    oracle = LogisticRegression(C=1 / (decay * weights.sum()), tol=1e-8, max_iter=1000)
    oracle.fit(plain, targets[:, 1], weights)
    found = head_logits(head, rows)
    np.testing.assert_allclose(found[:, 1], oracle.decision_function(plain), atol=2e-3)
    np.testing.assert_allclose(found[:, 0], -found[:, 1], atol=2e-3)


def test_a_clip_is_validated_by_a_head_that_was_trained_without_its_fold():
    rng = np.random.default_rng(2)
    rows, targets = rng.normal(size=(12, 3)).astype(np.float32), np.zeros((12, 1), np.float32)
    targets[::2] = 1
    folds = np.array([0, 0, 0, 0, 1, 1, 1, 1, TRAINED, TRAINED, TESTED, TESTED])
    examples = Examples(rows, targets, np.ones(12, np.float32), folds)
    config = HeadConfig(4, 0.01)
    head = fit_head(examples.select((folds == 0) | (folds == TRAINED)), config, 0)
    wanted = head_logits(head, rows[folds == 1])
    np.testing.assert_array_equal(validated_logits(examples, config, 1, 0), wanted)


def test_heads_are_chosen_by_their_average_precision_and_then_by_their_loss():
    targets = np.array([[1], [1], [0]], np.float32)
    wrong, unsure, sure = ([[0], [3], [1]], [[0.2], [0.3], [0.1]], [[2], [3], [-2]])
    found = [np.array(each, np.float32) for each in (wrong, unsure, sure)]
    assert best_candidate(found, targets) == 2
