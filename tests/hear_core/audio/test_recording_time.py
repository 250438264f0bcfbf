from __future__ import annotations

from datetime import datetime

import pytest

from hear_core.audio.recording_time import recorded_at
from hear_core.events.formats import EventRow


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("20260501_050000.WAV", "2026-05-01T05:00:00"),
        ("siteA/SITE_20260501_050000.wav", "2026-05-01T05:00:00"),
        ("S4A01234_20260501_235959_000.wav", "2026-05-01T23:59:59"),
        ("2MM01_20260501$050000.wav", None),
        ("20260501T050000Z.flac", "2026-05-01T05:00:00"),
        ("12345678_20260501_050000.wav", "2026-05-01T05:00:00"),
        ("20261301_050000.wav", None),
        ("120260501_0500001.wav", None),
        ("20260501_050000/clip.wav", None),
        ("clip.wav", None),
    ],
)
def test_the_time_is_that_of_the_name(name, wanted):
    assert recorded_at(name) == (wanted and datetime.fromisoformat(wanted))


def test_the_time_of_an_event_is_counted_from_that_of_the_recording():
    row = EventRow("a/20260228_235959.wav", 1.2346, 2, "Owl", 1)
    assert row.clock() == ("2026-03-01", "00:00:00.235")
    assert row._replace(file="a.wav").clock() == ("", "")
