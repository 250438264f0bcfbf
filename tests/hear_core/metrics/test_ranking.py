from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_core.errors import ConfigError
from hear_core.metrics import events as event_scores
from hear_core.metrics.events import event_arrays
from hear_core.metrics.registry import METRICS, find_metrics

CLIPS = [name for name, score in METRICS.items() if not score.events]
EVENTS = [name for name, score in METRICS.items() if score.events]
LABELS = ["bird", "cough", "knock"]


def oracle(name, labels):
    score = pytest.importorskip("heareval.score")
    return score.available_scores[name](label_to_idx={label: i for i, label in enumerate(labels)})


@st.composite
def clips(draw):
    """Predictions of some models, with ties, and targets of one or any number of classes."""
    models, rows, classes = draw(st.tuples(*[st.integers(1, 3)] * 1, *[st.integers(2, 25)] * 2))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    predictions = random.random((models, rows, classes), np.float32)
    if draw(st.booleans()):
        predictions = predictions.round(1)
    if draw(st.booleans()):
        targets = np.eye(classes, dtype=np.float32)[random.integers(0, classes, rows)]
    else:
        targets = (random.random((rows, classes)) < draw(st.sampled_from([0.1, 0.5, 1]))).astype(
            np.float32
        )
    return predictions, targets


@pytest.mark.parametrize("name", CLIPS)
@given(data=clips())
def test_scores_of_clips_are_those_of_heareval(name, data):
    predictions, targets = data
    reference = oracle(name, range(targets.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = [reference(each, targets) for each in predictions]
    np.testing.assert_allclose(METRICS[name].compute(predictions, targets), wanted, atol=1e-6)


def test_a_class_that_is_told_perfectly_has_an_infinite_d_prime():
    targets = np.eye(2, dtype=np.float32)[[0, 1, 1]]
    assert METRICS["d_prime"].compute(targets, targets) == math.inf


@pytest.mark.parametrize("name", ["mAP", "aucroc", "d_prime"])
def test_predictions_of_nan_have_no_score(name):
    predictions = np.array([[0.1, np.nan], [0.3, 0.2]])
    assert math.isnan(METRICS[name].compute(predictions, np.eye(2)))


# Times that lie on the edges of collars and segments, and between them.
TIMES = st.one_of(st.integers(0, 60).map(lambda n: 50.0 * n), st.floats(0, 3000))
EVENT = st.builds(
    lambda label, start, length: {"label": label, "start": start, "end": start + length},
    st.sampled_from(LABELS),
    TIMES,
    st.one_of(st.just(0.0), st.integers(1, 30).map(lambda n: 50.0 * n), st.floats(0, 2000)),
)
FILES = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.lists(EVENT, max_size=12))


@pytest.mark.parametrize("name", EVENTS)
@given(found=FILES, there=FILES)
def test_scores_of_events_are_those_of_heareval(name, found, there):
    score = METRICS[name]
    wanted = oracle(name, LABELS)(found, there)
    got = score.compute(*(event_arrays(events, list(found), LABELS) for events in (found, there)))
    assert tuple(part for part, _ in wanted) == score.parts
    np.testing.assert_allclose(got, [value for _, value in wanted], atol=1e-6)


def test_events_are_matched_in_the_way_that_gives_most_pairs():
    """The first event could take either; only if it takes the later one, both have one."""
    there = {"a": [{"label": "bird", "start": s, "end": s + 10} for s in (100, 350)]}
    found = {"a": [{"label": "bird", "start": s, "end": s + 10} for s in (250, 0)]}
    lines = [event_arrays(events, ["a"], LABELS) for events in (found, there)]
    np.testing.assert_allclose(METRICS["event_onset_200ms_fms"].compute(*lines), 1)


def test_long_chains_of_events_are_matched():
    """All events are found, and between any two another one, within the collar of both."""
    starts = {"found": range(0, 3000 * 75, 75), "there": range(0, 3000 * 75, 150)}
    lines = [
        event_arrays({"a": [{"label": "bird", "start": s, "end": s} for s in each]}, ["a"], LABELS)
        for each in (reversed(starts["found"]), starts["there"])
    ]
    measure, precision, recall = METRICS["event_onset_200ms_fms"].compute(*lines)
    assert (precision, recall) == (0.5, 1)
    assert measure == pytest.approx(2 / 3)


@given(st.data())
def test_as_many_pairs_are_made_as_can_be(data):
    """Against scipy, on graphs of any form."""
    sparse = pytest.importorskip("scipy.sparse")
    graph = pytest.importorskip("scipy.sparse.csgraph")
    size = data.draw(st.integers(1, 12))
    edges = data.draw(st.sets(st.tuples(*[st.integers(0, size - 1)] * 2), min_size=1))
    left, right = np.array(sorted(edges)).T
    matrix = np.zeros((size, size), int)
    matrix[left, right] = 1
    pairs = graph.maximum_bipartite_matching(sparse.csr_matrix(matrix))
    assert event_scores._largest_matching(left, right) == (pairs >= 0).sum()


def test_a_score_of_another_kind_is_refused():
    assert list(find_metrics(["mAP", "aucroc"], events=False)) == ["mAP", "aucroc"]
    with pytest.raises(ConfigError, match=r"unknown metric 'map'; known: .*mAP"):
        find_metrics(["map"], events=False)
    with pytest.raises(ConfigError, match="is a metric of events, but clips are predicted"):
        find_metrics(["segment_1s_er"], events=False)
