from __future__ import annotations

import math

import numpy as np
import pytest

from hear_core.errors import ConfigError
from hear_core.events.event import Event
from hear_core.metrics.events import EventArrays, Matching, event_scores, segment_error_rates

LABELS = ("a", "b", "c")


def random_events(seed):
    random = np.random.RandomState(seed)
    rows = zip(random.randint(0, 2, 12), random.uniform(0, 8, 12), strict=True)
    return [Event(LABELS[label], onset, onset + 0.5 + onset / 8) for label, onset in rows]


def test_f_measures_and_error_rates_are_those_of_sed_eval():
    sed_eval = pytest.importorskip("sed_eval")
    truth = [random_events(seed) for seed in range(4)]
    found = [
        [event._replace(onset=event.onset + 0.03 * (i % 12)) for i, event in enumerate(events)]
        for events in truth
    ]
    by_event = sed_eval.sound_event.EventBasedMetrics(
        list(LABELS), t_collar=0.2, percentage_of_length=0.2
    )
    by_segment = sed_eval.sound_event.SegmentBasedMetrics(list(LABELS), time_resolution=1.0)
    for number, (estimated, reference) in enumerate(zip(found, truth, strict=True)):
        lists = [
            [
                {"file": str(number), "event_label": e.label, "onset": e.onset, "offset": e.offset}
                for e in events
            ]
            for events in (reference, estimated)
        ]
        by_event.evaluate(*lists)
        by_segment.evaluate(*lists)
    scores = event_scores(found, truth, LABELS, Matching(0.2, 0.2))
    wanted = by_event.results_overall_metrics()["f_measure"]
    assert scores[:3] == pytest.approx((wanted["f_measure"], wanted["precision"], wanted["recall"]))
    by_class = by_event.results_class_wise_metrics()
    overall, rates = segment_error_rates(found, truth, LABELS)
    assert overall == pytest.approx(
        by_segment.results_overall_metrics()["error_rate"]["error_rate"]
    )
    for label in LABELS[:2]:
        measure = by_class[label]["f_measure"]["f_measure"]
        assert scores.by_class.per_class[label] == pytest.approx(measure)
        rate = by_segment.results_class_wise_metrics()[label]["error_rate"]["error_rate"]
        assert rates.per_class[label] == pytest.approx(rate)
    assert math.isnan(scores.by_class.per_class["c"])
    assert math.isnan(rates.per_class["c"])
    assert scores.by_class.mean == pytest.approx(
        np.mean([scores.by_class.per_class[label] for label in LABELS[:2]])
    )


def test_nothing_detected_scores_nothing():
    scores = event_scores([[]], [[Event("a", 0, 1)]], LABELS)
    assert (scores.f_measure, scores.recall, scores.by_class.mean) == (0, 0, 0)
    assert math.isnan(scores.precision)
    overall, rates = segment_error_rates([[]], [[Event("a", 0, 1)]], LABELS)
    assert overall == rates.mean == pytest.approx(1)


def test_nothing_to_detect_is_not_scored_by_class():
    scores = event_scores([[Event("a", 0, 1)]], [[]], LABELS)
    assert scores.f_measure == scores.precision == 0
    assert math.isnan(scores.by_class.mean)
    assert math.isnan(event_scores([[]], [[]], LABELS).f_measure)


def test_events_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="2 recordings, but events were estimated of 1"):
        event_scores([[]], [[], []], LABELS)
    with pytest.raises(ConfigError, match="label 'd', which is not a class"):
        EventArrays.of([[Event("d", 0, 1)]], LABELS)
