"""Random recordings with scores and true events, the same for the same seed."""

from __future__ import annotations

import numpy as np

from hear_core.events.event import Event
from hear_core.events.timed_scores import ScoredRecording, TimedScores
from tests import goldens

LABELS = ("a", "b", "c", "d", "e")
SETS = 30


def random_recordings(seed, recordings=12, labels=LABELS, frames=250):
    """Return recordings whose scores follow their events, more or less.

    A third of the sets has scores of one decimal, so that many are equal, and a third has logits.
    Recordings have different lengths, events are where frames end or between, and each class has
    at least one event.
    """
    random = np.random.RandomState(seed)  # whose numbers are the same in every version
    found = []
    for number in range(recordings):
        length = frames - random.randint(0, frames // 2)
        edges = np.round(0.04 * np.arange(length + 1), 6)
        events, activity = [], np.zeros((length, len(labels)))
        for index, label in enumerate(labels):
            for part in range(2):  # at most one event in either half
                if random.rand() < 0.3 or (number == part == 0):
                    begin = edges[-1] * (part / 2 + random.uniform(0, 0.2))
                    end = begin + random.uniform(0.1, edges[-1] * 0.25)
                    if seed % 2:
                        begin, end = np.round(begin / 0.04) * 0.04, np.round(end / 0.04) * 0.04
                    begin, end = round(float(begin), 3), round(float(end), 3)
                    events.append(Event(label, begin, end))
                    activity[(edges[1:] > begin) & (edges[:-1] < end), index] = 1
        noise = random.randn(length + 16, len(labels)).cumsum(0)
        noise = 0.2 * (noise[16:] - noise[:-16]) + 0.05 * random.randn(length, len(labels))
        logits = 2 + 4 * (activity * random.uniform(0.2, 1, len(labels)) - 1) + noise
        scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
        if seed % 3 == 1:
            scores = np.round(scores, 1)
        elif seed % 3 == 2:
            scores = np.round(logits, 3)
        timed = TimedScores(labels, scores, edges[:-1], edges[1:])
        # The last recording is a little longer than its scores.
        more = 0.4 if number == recordings - 1 else 0.0
        found.append(ScoredRecording(timed, events, round(float(edges[-1]) + more, 6)))
    return found


def recording(scores, events, labels=("a", "b"), hop=0.5, duration=None):
    """Return a recording with frames of one length, and events as (label, onset, offset)."""
    edges = hop * np.arange(len(scores) + 1)
    timed = TimedScores(labels, np.asarray(scores, float), edges[:-1], edges[1:])
    return ScoredRecording(timed, [Event(*event) for event in events], duration)


def golden_recordings():
    """Yield the recordings of the golden case."""
    facts = goldens.facts("sed/metrics")["psds"]
    for name, scores in goldens.arrays("sed/psds").items():
        events = [(label, *times) for *times, label in facts["ground_truth"][name]]
        yield recording(scores, events, tuple(facts["classes"]), 0.04, facts["durations"][name])
