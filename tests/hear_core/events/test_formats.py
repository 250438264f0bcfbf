from __future__ import annotations

import csv
import io
import json

import pytest

from hear_core.errors import ConfigError
from hear_core.events.event import Event
from hear_core.events.formats import FORMATS, EventRow, format_events, write_events, writing_events

ROWS = [
    EventRow.from_event("a b.wav", Event('Dog, "barking"', 0.5, 1.25, 0.12345678)),
    EventRow.from_event("ä.wav", Event("Tab\tand\nline", 2.0, 3.0)),
]


def test_json_and_csv_hold_every_value():
    assert [EventRow(**row) for row in json.loads(format_events(ROWS, "json"))] == ROWS
    head, *rows = csv.reader(io.StringIO(format_events(ROWS, "csv")))
    assert head == ["file", "start", "end", "label", "score"]
    assert [EventRow(r[0], float(r[1]), float(r[2]), r[3], float(r[4])) for r in rows] == ROWS
    assert ROWS[0].score == 0.123457


def test_tables_of_other_programs_have_one_line_per_event():
    audacity = '0.500000\t1.250000\tDog, "barking"\n2.000000\t3.000000\tTab and line\n'
    assert format_events(ROWS, "audacity") == audacity
    assert not FORMATS["audacity"].names_file
    assert format_events(ROWS, "dcase") == (
        "filename\tonset\toffset\tevent_label\n"
        'a b.wav\t0.500\t1.250\tDog, "barking"\nä.wav\t2.000\t3.000\tTab and line\n'
    )


@pytest.mark.parametrize("format_", FORMATS)
def test_rows_that_come_in_parts_give_the_same_file(tmp_path, format_):
    path = tmp_path / "new" / "events"
    with writing_events(path, format_) as add:
        add(ROWS[:1])
        add([])
        add(ROWS[1:])
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == format_events(ROWS, format_)
    write_events([], path, format_)
    assert path.read_text(encoding="utf-8") == format_events([], format_)
    assert json.loads(format_events([], "json")) == []


def test_a_file_name_that_is_not_text_is_written(tmp_path):
    row = EventRow("\udcff.wav", 0, 1, "Dog", 1)
    for format_ in FORMATS:
        write_events([row], tmp_path / "a", format_)
    assert b"\xff.wav" in (tmp_path / "a").read_bytes()


def test_an_unknown_format_is_named():
    with pytest.raises(ConfigError, match="unknown format 'cvs'; did you mean 'csv'"):
        format_events([], "cvs")
