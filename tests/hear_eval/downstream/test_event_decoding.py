from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hear_eval.downstream.event_decoding import (
    DEFAULTS,
    RowDecoder,
    events_by_file,
    postprocessing_settings,
)
from hear_eval.tasks.description import TaskError

LABELS = ["bird", "cough"]


@st.composite
def tracks(draw):
    """Rows of files of different length and steps of time, in any order."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = []
    for file in "abc"[: draw(st.integers(1, 3))]:
        step = draw(st.sampled_from([25.0, 50.0, 80.0]))
        rows += [(f"folder/{file}.wav", step * (i + 0.5)) for i in range(draw(st.integers(2, 40)))]
    random.shuffle(rows)
    smooth = draw(st.integers(1, 6))
    noise = random.random((len(rows) + smooth, len(LABELS)))
    predictions = np.lib.stride_tricks.sliding_window_view(noise, smooth, 0).mean(-1)[: len(rows)]
    files, times = zip(*rows, strict=True)
    return list(files), np.array(times, float), predictions.astype(np.float32)


@given(
    track=tracks(),
    median=st.sampled_from([0, 10, 100, 150, 200, 250, 1000]),
    shortest=st.sampled_from([0, 50, 125, 250]),
    threshold=st.sampled_from([None, 0, 0.3, 0.5, 0.7, 1]),
)
def test_events_are_those_of_heareval(track, median, shortest, threshold):
    oracle = pytest.importorskip("heareval.predictions.task_predictions")
    files, times, predictions = track
    setting = (("median_filter_ms", median), ("min_duration", shortest))
    if threshold is not None:
        setting += (("threshold", threshold),)
    (wanted,) = oracle.get_events_for_all_files(
        torch.from_numpy(predictions), files, torch.from_numpy(times), LABELS, {}, setting
    ).values()
    decoder = RowDecoder(files, times)
    found = events_by_file(decoder.decode(predictions, setting), decoder.files, LABELS)
    assert found.keys() == wanted.keys()
    for file, events in wanted.items():
        got = [(e["label"], e["start"], e["end"]) for e in found[file]]
        right = [(e["label"], e["start"], e["end"]) for e in events]
        assert [label for label, *_ in sorted(got)] == [label for label, *_ in sorted(right)]
        np.testing.assert_allclose(
            [times for _, *times in sorted(got)], [times for _, *times in sorted(right)]
        )


def test_the_grid_is_gone_through_as_by_scikit_learn():
    grids = pytest.importorskip("sklearn.model_selection")
    grid = {"threshold": [0.5, 0.3], "min_duration": [125, 250], "median_filter_ms": [250, 0]}
    wanted = [tuple(point.items()) for point in grids.ParameterGrid(grid)]
    assert postprocessing_settings(grid, "barks") == wanted


def test_what_post_processing_does_not_have_is_named():
    message = "^barks: its event_postprocessing_grid has 'mean'; known: median_filter_ms, min_dura"
    with pytest.raises(TaskError, match=message):
        postprocessing_settings({"mean": [1], "threshold": [0.5]}, "barks")


def test_defaults_are_those_of_heareval():
    oracle = pytest.importorskip("heareval.predictions.task_predictions")
    parameters = inspect.signature(oracle.create_events_from_prediction).parameters
    assert {name: parameters[name].default for name in DEFAULTS} == DEFAULTS


def test_two_embeddings_at_one_time_are_refused():
    with pytest.raises(TaskError, match=r"a\.wav has two embeddings at 50 ms"):
        RowDecoder(["a.wav", "x/a.wav"], np.array([50.0, 50.0]))


def test_one_point_in_time_is_not_smoothed():
    decoder = RowDecoder(["a.wav"], np.array([50.0]))
    events = decoder.decode(
        np.array([[0.9, 0.1]]), (("median_filter_ms", 250), ("min_duration", 0))
    )
    assert events_by_file(events, decoder.files, LABELS) == {
        "a.wav": [{"label": "bird", "start": 50.0, "end": 50.0}]
    }
