from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from hear_core.errors import ConfigError
from hear_core.events.change_points import ChangePoints
from hear_core.events.decoding import EventDecoding
from hear_core.metrics.events import ONSETS, ONSETS_AND_OFFSETS, event_scores
from hear_core.metrics.tuning import CHANGE_POINTS, MEDIANS, tune_decoding
from tests import goldens
from tests.hear_core.metrics.scenes import LABELS, random_recordings, recording

CANDIDATES = [
    EventDecoding(release=1.0),
    EventDecoding(release=0.7, median=9, merge_gap=0.2, min_duration=0.1),
    EventDecoding(change_points=ChangePoints()),
]


def scored(recordings, decoding, matching):
    """Return the F-measures of recordings, by the decoding of one recording after the other."""
    found = [each.scores.events(decoding) for each in recordings]
    return event_scores(found, [each.events for each in recordings], LABELS, matching).by_class


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("matching", [ONSETS, ONSETS_AND_OFFSETS])
def test_the_figures_are_those_of_the_decoding_that_is_returned(candidate, matching):
    recordings = random_recordings(3)
    tuned = tune_decoding(recordings, [candidate], matching)
    assert replace(tuned.decoding, thresholds=None) == candidate
    again = scored(recordings, tuned.decoding, matching)
    # Thresholds are rounded, which makes no difference but to a score at the threshold.
    assert again.mean == pytest.approx(tuned.f_measure.mean, abs=0.02)
    for threshold in np.linspace(0.05, 0.95, 7):
        assert scored(recordings, replace(candidate, threshold=threshold), matching).mean <= (
            again.mean + 0.02
        )


def test_no_threshold_is_much_better_than_the_tuned_one():
    """The best F-measures of all thresholds, by sed_scores_eval."""
    for seed in (0, 3, 6):
        wanted = goldens.facts("sed/psds_random")["sets"][seed]["best_f"]
        candidate = EventDecoding(release=1.0)
        tuned = tune_decoding(random_recordings(seed), [candidate], ONSETS_AND_OFFSETS)
        found = np.array([tuned.f_measure.per_class[label] for label in LABELS])
        assert (found <= np.array(wanted) + 1e-9).all()
        assert found.mean() > 0.8 * np.mean(wanted)


def test_the_best_candidate_is_chosen():
    recordings = random_recordings(0)
    alone = [tune_decoding(recordings, [each]).f_measure.mean for each in CANDIDATES]
    best = tune_decoding(recordings, CANDIDATES)
    assert best.f_measure.mean == max(alone)
    assert replace(best.decoding, thresholds=None) == CANDIDATES[int(np.argmax(alone))]
    assert len({*MEDIANS, *CHANGE_POINTS}) == 5 + 18


def test_classes_without_true_events_keep_the_common_threshold():
    scene = recording([[0, 0.9], [0.8, 0.9], [0.2, 0.9]], [("a", 0.5, 1.0)])
    tuned = tune_decoding([scene], [EventDecoding(release=1.0)])
    assert set(tuned.decoding.thresholds) == {"a"}
    assert tuned.f_measure.mean == tuned.f_measure.per_class["a"] == 1
    assert math.isnan(tuned.f_measure.per_class["b"])


@pytest.mark.parametrize(
    ("recordings", "candidates", "message"),
    [
        ([], MEDIANS, "and there are none"),
        ([recording([[0, 0]], [])], MEDIANS, "and there are none"),
        ([recording([[0, 0]], [("a", 0, 1)])], [], "not a decoding to try"),
        ([recording([[0, 0]], [("c", 0, 1)])], MEDIANS, "label 'c', which is not a class"),
    ],
)
def test_what_cannot_be_tuned_is_refused(recordings, candidates, message):
    with pytest.raises(ConfigError, match=message):
        tune_decoding(recordings, candidates)


@pytest.mark.parametrize("candidate", [*CANDIDATES, *CHANGE_POINTS])
def test_a_decoding_survives_json(candidate):
    entries = json.loads(json.dumps(candidate.entries(), allow_nan=False))
    assert EventDecoding.from_entries(entries) == candidate
    thresholds = {"a": 0.25}
    assert EventDecoding.from_entries(entries, thresholds).thresholds == thresholds


@pytest.mark.parametrize(
    "entries",
    [{"medium": 3}, {"median": 4}, {"threshold": "high"}, {"change_points": {"steps": 1}},
     {"change_points": 3}],
)  # fmt: skip
def test_entries_that_are_not_a_decoding_are_refused(entries):
    with pytest.raises(ConfigError):
        EventDecoding.from_entries(entries)
