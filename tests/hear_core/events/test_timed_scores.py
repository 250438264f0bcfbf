from __future__ import annotations

import numpy as np
import pytest

from hear_core.errors import ConfigError
from hear_core.events.decoding import EventDecoding
from hear_core.events.event import Event
from hear_core.events.timed_scores import TimedScores
from hear_core.events.timeline import plot_timeline


def scores(**more):
    onset = np.arange(4) / 2
    values = np.array([[0.1, 0.9], [0.8, 0.2], [0.7, 0.1], [0.0, 0.1]])
    return TimedScores(("dog", "cat"), values, onset, onset + 0.5, **more)


def test_rows_are_computed_from_the_time_they_cover_unless_given():
    found = scores()
    assert found.start is found.onset
    assert found.end is found.offset
    assert found.features is None
    wider = scores(start=found.onset - 1)
    assert wider.start[0] == -1
    np.testing.assert_array_equal(found.edges, [0, 0.5, 1, 1.5, 2])


def test_events_are_decoded():
    wanted = [Event("cat", 0, 0.5, 0.9), Event("dog", 0.5, 1.5, 0.8)]
    assert scores().events(EventDecoding(threshold=0.5)) == wanted


def test_other_classes_keep_the_times():
    found = scores(features=np.ones((4, 3))).with_scores(("any",), np.ones((4, 1)))
    assert found.events(EventDecoding()) == [Event("any", 0, 2, 1)]
    assert found.features.shape == (4, 3)


def test_a_plot_is_written_atomically(tmp_path):
    pytest.importorskip("matplotlib")
    plot_timeline(tmp_path / "new" / "a.PNG", np.zeros((8, 20)), scores(), 1)
    assert (tmp_path / "new" / "a.PNG").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"cannot plot to .*a\.xyz"):
        plot_timeline(tmp_path / "a.xyz", np.zeros((8, 20)), scores(), 1)
    assert not list(tmp_path.glob(".*"))
