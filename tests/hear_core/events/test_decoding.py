import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import ConfigError
from hear_core.events.decoding import EventDecoder, EventDecoding, decode_events
from hear_core.events.event import Event

HOP = 0.5
LABELS = ("bark", "bell", "rain")


def times(count):
    onset = np.arange(count) * HOP
    return onset, onset + HOP


def plainly(rule, scores):
    """The definition of an event, over whole arrays and one class after the other."""
    found = []
    for index, label in enumerate(LABELS):
        on = (rule.thresholds or {}).get(label, rule.threshold)
        half = rule.median // 2
        ends = np.pad(scores[:, index], half, mode="symmetric") if len(scores) else []
        medians = [np.median(ends[i : i + rule.median]) for i in range(len(scores))]
        smooth = [
            np.mean(medians[max(0, i + 1 - rule.smoothing) : i + 1]) for i in range(len(scores))
        ]
        active, last = [], False
        for value in smooth:
            last = value >= (on * rule.release if last else on)
            active.append(last)
        runs = []
        for i in np.flatnonzero(active):
            if runs and (i - runs[-1][1] - 1) * HOP <= rule.merge_gap + 1e-9:
                runs[-1][1] = i
            else:
                runs.append([i, i])
        for first, last in runs:
            begin, end = first * HOP, (last + 1) * HOP
            score = max(smooth[i] for i in range(first, last + 1) if active[i])
            if end - begin >= rule.min_duration - 1e-9:
                found.append(Event(label, begin, end, score))
    return found


def comparable(events):
    return sorted((e.label, e.onset, e.offset, round(e.score, 9)) for e in events)


RULES = st.builds(
    EventDecoding,
    threshold=st.sampled_from([0.3, 0.5]),
    thresholds=st.sampled_from([None, {"bell": 0.7}]),
    release=st.sampled_from([1.0, 0.6]),
    median=st.sampled_from([1, 3, 5]),
    smoothing=st.integers(1, 3),
    merge_gap=st.sampled_from([0.0, 0.5, 1.2]),
    min_duration=st.sampled_from([0.0, 1.0]),
)
SCORES = st.lists(
    st.lists(st.sampled_from([0.0, 0.2, 0.31, 0.5, 0.9]), min_size=3, max_size=3), max_size=12
).map(lambda rows: np.array(rows, np.float64).reshape(-1, 3))


@given(RULES, SCORES)
def test_events_are_those_of_the_definition(rule, scores):
    found = decode_events(LABELS, rule, scores, *times(len(scores)))
    assert comparable(found) == comparable(plainly(rule, scores))
    assert [e.onset for e in found] == sorted(e.onset for e in found)


@given(RULES, SCORES, st.lists(st.integers(0, 12), max_size=3))
def test_a_live_source_gives_the_events_of_its_recording(rule, scores, cuts):
    decoder, found = EventDecoder(LABELS, rule), []
    edges = [0, *sorted(min(c, len(scores)) for c in cuts), len(scores)]
    onset, offset = times(len(scores))
    for first, last in pairwise(edges):
        part = slice(first, last)
        found += decoder.feed(scores[part], onset[part], offset[part])
    found += decoder.finish()
    assert comparable(found) == comparable(decode_events(LABELS, rule, scores, onset, offset))


def test_an_event_is_returned_as_soon_as_it_is_final():
    decoder = EventDecoder(["bell"], EventDecoding(threshold=0.5, merge_gap=0.5))
    onset, offset = times(6)
    scores = np.array([[0.9], [0.0], [0.0], [0.0], [0.9], [0.0]])
    came = [
        bool(decoder.feed(scores[i : i + 1], onset[i : i + 1], offset[i : i + 1])) for i in range(6)
    ]
    # It ended at 0.5 s; what begins at 1.0 s would be merged, what begins at 1.5 s not.
    assert came == [False, False, False, True, False, False]
    assert len(decoder.finish()) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 1.5}, "threshold must be between 0 and 1, but is 1.5"),
        ({"thresholds": {"bell": -1}}, "bell must be between 0 and 1, but is -1"),
        ({"smoothing": 0}, "at least one window, but is 0"),
        ({"median": 2}, "an odd number of rows, but is 2"),
        ({"merge_gap": -1}, "merge_gap must be a number of seconds from 0 on"),
        ({"min_duration": math.nan}, "min_duration must be a number of seconds from 0 on"),
        ({"merge_gap": math.inf}, "but is inf"),
    ],
)
def test_parameters_out_of_range_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        EventDecoding(**values)


def test_a_threshold_for_an_unknown_class_is_refused():
    with pytest.raises(ConfigError, match="classes that do not exist: moo"):
        EventDecoder(LABELS, EventDecoding(thresholds={"moo": 0.5}))
