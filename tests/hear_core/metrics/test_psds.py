from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import ConfigError
from hear_core.metrics import psds as module
from hear_core.metrics.psds import PSDS1, PSDS2, psds
from tests import goldens
from tests.hear_core.metrics.scenes import SETS, golden_recordings, random_recordings, recording


def test_psds1_of_the_golden_case():
    facts, found = goldens.facts("sed/metrics")["psds"], psds(golden_recordings())
    assert found.score == pytest.approx(facts["psds1"], abs=1e-12)
    assert found.macro_average == pytest.approx(facts["psds1_macro_averaged"], abs=1e-12)
    assert found.per_class == pytest.approx(facts["psds1_per_class"], abs=1e-12)


@pytest.mark.parametrize("seed", range(SETS))
def test_scores_are_those_of_sed_scores_eval(seed):
    facts = goldens.facts("sed/psds_random")["sets"][seed]
    for name, scenario in (("psds1", PSDS1), ("psds2", PSDS2)):
        found = psds(random_recordings(seed), scenario)
        np.testing.assert_allclose([found.score, *found.per_class.values()], facts[name], atol=1e-9)
        assert found.macro_average == pytest.approx(np.mean(facts[name][1:]), abs=1e-9)


def detections(column, edges, threshold):
    """Return onset and offset of the runs of frames with at least a score."""
    active = np.diff(np.concatenate([[0], (column >= threshold) & (column > -np.inf), [0]]))
    pairs = zip(np.flatnonzero(active == 1), np.flatnonzero(active == -1), strict=True)
    return [(edges[first], edges[last]) for first, last in pairs]


def common(one, other):
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def plain_psds(recordings, scenario):
    """Return the scores as they are defined, threshold by threshold."""
    labels = recordings[0].scores.labels
    truth = [
        {
            label: [(event.onset, event.offset) for event in each.events if event.label == label]
            for label in labels
        }
        for each in recordings
    ]
    duration = sum(each.seconds for each in recordings)
    total = {label: sum(b - a for t in truth for a, b in t[label]) for label in labels}
    curves = {}
    for number, label in enumerate(labels):
        if not total[label]:
            continue
        events = sum(len(t[label]) for t in truth)
        thresholds = np.unique([v for r in recordings for v in r.scores.scores[:, number]])
        points = [(0.0, 0.0)]
        for threshold in thresholds:
            true, false, cross = 0, 0, dict.fromkeys(labels, 0)
            for each, own in zip(recordings, truth, strict=True):
                found = detections(each.scores.scores[:, number], each.scores.edges, threshold)
                good = [
                    d
                    for d in found
                    if round(sum(common(d, t) for t in own[label]), 6)
                    >= round(scenario.dtc * (d[1] - d[0]), 6)
                ]
                false += len(found) - len(good)
                true += sum(
                    round(sum(common(d, t) for d in good), 6)
                    >= round(scenario.gtc * (t[1] - t[0]), 6)
                    for t in own[label]
                )
                for d in set(found) - set(good):
                    for other in set(labels) - {label}:
                        covered = round(sum(common(d, t) for t in own[other]), 6)
                        share = scenario.cttc or 2
                        cross[other] += bool(own[other]) and covered >= share * (d[1] - d[0]) - 5e-7
            rate = false / duration + scenario.alpha_ct * np.mean(
                [cross[other] / max(total[other], 1e-12) for other in labels if other != label]
            )
            points.append((rate * 3600, true / events))
        curves[label] = points
    rates = sorted({rate for points in curves.values() for rate, _ in points})
    rates = [rate for rate in rates if rate <= scenario.max_rate]
    heights = np.array(
        [[max(y for x, y in points if x <= rate) for rate in rates] for points in curves.values()]
    )
    widths = np.diff([*rates, scenario.max_rate]) / scenario.max_rate
    joint = np.maximum(heights.mean(0) - scenario.alpha_st * heights.std(0), 0) @ widths
    return float(joint), dict(zip(curves, (heights @ widths).tolist(), strict=True))


EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.integers(1, 9)), max_size=3
)
VALUES = st.sampled_from([-math.inf, 0.0, 0.25, 0.5, 0.75, 1.0])
RECORDINGS = st.lists(
    st.tuples(EVENTS, st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=8)),
    min_size=1,
    max_size=4,
)


@given(RECORDINGS, st.sampled_from([PSDS1, PSDS2, PSDS2._replace(alpha_st=0.0)]))
def test_scores_are_those_of_the_definition(content, scenario):
    scenes = []
    for events, scores in content:
        separate = {}
        for label, onset, length in sorted(events):
            known = separate.setdefault(label, [])
            if not known or onset > 4 * known[-1][1]:  # else they would be merged
                known.append((onset / 4, (onset + length) / 4))
        rows = [(label, *times) for label, known in separate.items() for times in known]
        scenes.append(recording(scores, rows, duration=200.0))
    if not any(scene.events for scene in scenes):
        return
    joint, per_class = plain_psds(scenes, scenario)
    found = psds(iter(scenes), scenario)
    assert found.score == pytest.approx(joint, abs=1e-9)
    assert {k: v for k, v in found.per_class.items() if not math.isnan(v)} == pytest.approx(
        per_class, abs=1e-9
    )


def test_recordings_in_several_blocks_give_the_same_scores(monkeypatch):
    wanted = [psds(random_recordings(3), scenario) for scenario in (PSDS1, PSDS2)]
    monkeypatch.setattr(module, "_AT_ONCE", 2000)
    for scenario, each in zip((PSDS1, PSDS2), wanted, strict=True):
        found = psds(random_recordings(3), scenario)
        assert found.per_class == pytest.approx(each.per_class, abs=1e-12)
        assert found.score == pytest.approx(each.score, abs=1e-12)


def test_true_events_that_touch_are_one():
    scores = [[0, 0], [1, 0], [1, 0], [0, 0]]
    for events in (
        [("a", 0.5, 1.5)],
        [("a", 0.5, 1.0), ("a", 1.0, 1.5)],
        [("a", 0.5, 1.2), ("a", 0.7, 1.5)],
    ):
        assert psds([recording(scores, events)]).per_class["a"] == 1


def test_classes_without_true_events_do_not_count():
    found = psds([recording([[0.9, 0.9], [0, 0]], [("a", 0.0, 0.5)])])
    assert math.isnan(found.per_class["b"])
    assert (found.score, found.macro_average, found.per_class["a"]) == (1, 1, 1)


def test_a_recording_without_events_counts_for_false_positives():
    first = recording([[0.5, 0], [0, 0]], [("a", 0.0, 0.5)], duration=1800.0)
    other = recording([[0.9, 0]] + [[0, 0], [0.9, 0]] * 75, [], duration=1800.0)
    assert psds([first]).per_class["a"] == 1
    assert psds([first, other]).per_class["a"] == pytest.approx(1 - 76 / 100)


@pytest.mark.parametrize(
    ("recordings", "message"),
    [
        ([], "at least one recording with a true event"),
        ([recording([[1, 0]], [])], "at least one recording with a true event"),
        ([recording([[1, 0]], [("c", 0, 1)])], "label 'c', which has no scores"),
        ([recording([[1, 0]], [("a", 1, 1)])], "from 1 to 1 s does not end after it begins"),
        ([recording([[np.nan, 0]], [("a", 0, 1)])], "hold NaN"),
        (
            [recording([[1, 0]], []), recording([[1, 0]], [], labels=("b", "a"))],
            "all recordings must have the same labels",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(recordings, message):
    with pytest.raises(ConfigError, match=message):
        psds(recordings)


@pytest.mark.parametrize(
    "scenario",
    [
        PSDS1._replace(dtc=0),
        PSDS1._replace(gtc=1.5),
        PSDS2._replace(cttc=None),
        PSDS1._replace(cttc=0.3),
        PSDS1._replace(max_rate=0),
        PSDS1._replace(alpha_st=-1),
    ],
)
def test_parameters_out_of_range_are_refused(scenario):
    with pytest.raises(ConfigError):
        psds([recording([[1, 0]], [("a", 0, 1)])], scenario)
