from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import ConfigError
from hear_core.events.change_points import ChangePoints
from hear_core.events.decoding import EventDecoder, EventDecoding, decode_events
from hear_core.events.event import Event
from tests import goldens
from tests.hear_core.metrics.scenes import LABELS, random_recordings

HOP = 0.25


def everything(points, **more):
    return EventDecoding(threshold=0.0, change_points=points, **more)


@pytest.mark.parametrize("case", range(6))
def test_events_are_those_of_the_original(case):
    number, step, difference, ratio, wanted = goldens.facts("sed/psds_random")["sebbs"][case]
    points = ChangePoints(step, difference or math.inf, ratio or math.inf)
    scores = random_recordings(number)[0].scores
    found = decode_events(LABELS, everything(points), scores.scores, scores.onset, scores.offset)
    assert len(found) == len(wanted) > 20
    # The original adds 1e-6 s to the length that a mean is divided by.
    for event, (label, *values) in zip(sorted(found), sorted(map(tuple, wanted)), strict=True):
        assert event.label == label
        assert event[1:] == pytest.approx(values, abs=1e-4)


def plainly(points, column, duration):
    """Return the events of a class as they are defined, row by row."""
    half = max(1, round(points.step / 2 / HOP))
    padded = [0.0] * half + column.tolist() + [0.0] * half
    change = [
        round(float(np.mean(padded[edge + half :][:half]) - np.mean(padded[edge:][:half])), 9)
        for edge in range(len(column) + 1)
    ]
    segments = []
    for row in range(len(column)):
        event = change[row + 1] <= change[row]
        if not segments or segments[-1][0] != event:
            segments.append((event, []))
        segments[-1][1].append(row)
    events = []
    for index, (event, rows) in enumerate(segments):
        if not event:
            continue
        high, gap = column[rows].max(), math.inf
        if events:
            gap = column[segments[index - 1][1]].min()
        close = all(
            top - gap < points.merge_difference and (top + 1e-3) / (gap + 1e-3) < points.merge_ratio
            for top in (high, events[-1][2] if events else math.inf)
        )
        if events and close:
            events[-1][1:] = [rows[-1], high]
        else:
            events.append([rows[0], rows[-1], high])
    ends = np.minimum(HOP * np.arange(1, len(column) + 1), duration)
    lengths = np.diff(ends, prepend=0)
    return [
        (
            first * HOP,
            float(ends[last]),
            float(np.average(column[first : last + 1], weights=lengths[first : last + 1])),
        )
        for first, last, _ in events
    ]


SCORES = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.8, 1.0]), min_size=1, max_size=24)
POINTS = st.builds(
    ChangePoints,
    st.sampled_from([0.5, 1.0, 1.5]),
    st.sampled_from([0.2, 0.45, math.inf]),
    st.sampled_from([1.5, 3.0, math.inf]),
)


@given(POINTS, SCORES, SCORES, st.lists(st.integers(0, 24), max_size=3))
def test_events_are_those_of_the_definition_in_any_division(points, first, second, cuts):
    size = min(len(first), len(second))
    scores = np.array([first[:size], second[:size]]).T
    duration = size * HOP - 0.1  # the last row is shorter
    onset = HOP * np.arange(size)
    offset = np.minimum(onset + HOP, duration)
    wanted = sorted(
        (label, *times)
        for label, column in zip("ab", scores.T, strict=True)
        for times in plainly(points, column, duration)
    )
    decoder, found = EventDecoder("ab", everything(points)), []
    for begin, end in pairwise([0, *sorted(min(cut, size) for cut in cuts), size]):
        part = slice(begin, end)
        found += decoder.feed(scores[part], onset[part], offset[part])
    found = sorted([*found, *decoder.finish()])
    assert [event.label for event in found] == [label for label, *_ in wanted]
    for event, (_, *values) in zip(found, wanted, strict=True):
        assert event[1:] == pytest.approx(values, abs=1e-8)


def steps(*levels):
    scores = np.repeat(levels, 8)[:, None].astype(float)
    onset = HOP * np.arange(len(scores))
    return scores, onset, onset + HOP


def test_the_threshold_chooses_events_and_does_not_change_their_times():
    points = ChangePoints(1.0)
    scores = steps(0, 0.9, 0, 0.4, 0)
    loud, soft = Event("a", 2.0, 4.0, 0.9), Event("a", 6.0, 8.0, 0.4)
    for threshold, wanted in ((0.1, [loud, soft]), (0.4, [loud, soft]), (0.5, [loud]), (0.95, [])):
        rule = EventDecoding(threshold=threshold, change_points=points)
        assert decode_events("a", rule, *scores) == wanted
    assert (
        decode_events("a", EventDecoding(0.1, change_points=points, min_duration=3), *scores) == []
    )


def test_events_are_merged_over_gaps_that_are_hardly_lower():
    scores = steps(0, 0.8, 0.5, 0.8, 0)
    together = decode_events("a", EventDecoding(0.2, change_points=ChangePoints(1.0)), *scores)
    assert together == [Event("a", 2.0, 8.0, 0.7)]
    points = ChangePoints(1.0, merge_difference=0.2)
    apart = decode_events("a", EventDecoding(0.6, change_points=points), *scores)
    assert [event.onset for event in apart] == [2.0, 6.0]


def test_an_event_is_returned_as_soon_as_no_other_can_continue_it():
    decoder = EventDecoder("a", EventDecoding(0.5, change_points=ChangePoints(0.5)))
    scores, onset, offset = steps(0, 0.9, 0, 0)
    parts = (slice(row, row + 1) for row in range(len(scores)))
    came = [bool(decoder.feed(scores[p], onset[p], offset[p])) for p in parts]
    # It ends before row 16, which is known to be a gap once the row after it has come.
    assert [row for row, any_ in enumerate(came) if any_] == [17]
    assert decoder.finish() == []


@pytest.mark.parametrize("name", ["step", "merge_difference", "merge_ratio"])
def test_parameters_out_of_range_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} of change points must be above 0, but is 0"):
        EventDecoding(change_points=ChangePoints(**{name: 0}))


def test_nothing_gives_nothing():
    decoder = EventDecoder("a", everything(ChangePoints()))
    assert decoder.feed(np.zeros((0, 1)), np.zeros(0), np.zeros(0)) == []
    assert decoder.finish() == []
