from __future__ import annotations

import math

import numpy as np
import pytest

from hear_core.errors import ConfigError
from hear_core.events.event import Event
from hear_core.events.timed_scores import ScoredRecording, TimedScores
from hear_core.metrics.segments import segment_area_under_roc, segment_scores
from tests import goldens
from tests.hear_core.metrics.scenes import (
    LABELS,
    SETS,
    golden_recordings,
    random_recordings,
    recording,
)


@pytest.mark.parametrize("seed", range(SETS))
def test_areas_are_those_of_sed_scores_eval(seed):
    wanted = goldens.facts("sed/psds_random")["sets"][seed]["pauroc"]
    found = segment_area_under_roc(random_recordings(seed))
    assert found.per_class == pytest.approx(dict(zip(LABELS, wanted, strict=True)), abs=1e-9)
    assert found.mean == pytest.approx(np.mean(wanted), abs=1e-9)


def test_areas_of_the_golden_case():
    """The golden values are areas under steps.

    An unstable sort chose the height among points with the same rate of false positives, so that
    they lie between those of the lowest and the highest point.
    """
    wanted = goldens.facts("sed/metrics")["psds"]["pauroc_per_class"]
    labels, scores, targets = segment_scores(golden_recordings())
    found = segment_area_under_roc(golden_recordings()).per_class
    assert found["d"] == pytest.approx(wanted["d"], abs=1e-9)
    for label, column, target in zip(labels, scores.T, targets.T, strict=True):
        thresholds = [np.inf, *np.unique(column)[::-1]]
        false = np.array([(column[~target] >= each).mean() for each in thresholds])
        hits = np.array([(column[target] >= each).mean() for each in thresholds])
        rates = np.unique(false[false <= 0.1])
        widths = np.diff([*rates, 0.1]) / 0.1
        low, high = ([pick(hits[false == x]) for x in rates] @ widths for pick in (min, max))
        assert low - 1e-9 <= wanted[label] <= high + 1e-9 <= found[label] + 2e-9


def test_the_area_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(0, SETS, 7):
        labels, scores, targets = segment_scores(random_recordings(seed))
        found = segment_area_under_roc(random_recordings(seed), max_fpr=0.3).per_class
        for label, column, target in zip(labels, scores.T, targets.T, strict=True):
            standard = metrics.roc_auc_score(target, column, max_fpr=0.3)
            least = 0.3**2 / 2
            wanted = ((2 * standard - 1) * (0.3 - least) + least) / 0.3
            assert found[label] == pytest.approx(wanted, abs=1e-9)


def test_a_segment_has_the_highest_score_of_the_frames_that_overlap_it():
    edges = np.array([0, 0.4, 0.8, 1.2, 1.6])
    scores = np.array([[0.1], [0.2], [0.3], [0.05]])
    timed = TimedScores(("a",), scores, edges[:-1], edges[1:])
    scene = ScoredRecording(timed, [Event("a", 1.0, 1.1)], 3.5)
    labels, values, targets = segment_scores([scene])
    assert labels == ("a",)
    np.testing.assert_array_equal(values[:, 0], [0.3, 0.3, 0, 0])
    np.testing.assert_array_equal(targets[:, 0], [False, True, False, False])


def test_classes_that_are_everywhere_or_nowhere_do_not_count():
    events = [("a", 0.0, 1.0)]
    found = segment_area_under_roc([recording([[1, 1], [0, 1], [0, 1]], events)])
    assert math.isnan(found.per_class["b"])
    assert found.mean == found.per_class["a"] == 1
    nowhere = segment_area_under_roc([recording([[1, 1]], [])])
    assert math.isnan(nowhere.mean)


@pytest.mark.parametrize(
    ("recordings", "options", "message"),
    [
        ([], {}, "at least one recording"),
        ([recording([[1, 0]], [("c", 0, 1)])], {}, "label 'c', which has no scores"),
        ([recording([[1, 0]], [])], {"max_fpr": 0}, "max_fpr must be above 0"),
        (
            [recording([[1, 0]], []), recording([[1, 0]], [], labels=("b", "a"))],
            {},
            "the same labels",
        ),
    ],
)
def test_what_has_no_area_is_refused(recordings, options, message):
    with pytest.raises(ConfigError, match=message):
        segment_area_under_roc(recordings, **options)
