from __future__ import annotations

import csv
import io
import json

import pytest

from hear_core.errors import ConfigError
from hear_core.events.annotations import read_event_table
from hear_core.events.event import Event
from hear_core.events.formats import (
    CLOCK_FORMATS,
    FORMATS,
    EventRow,
    format_events,
    write_events,
    writing_events,
)
from hear_core.events.found_events import read_event_rows

ROWS = [
    EventRow.from_event("a b.wav", Event('Dog, "barking"', 0.5, 1.25, 0.12345678)),
    EventRow.from_event("ä.wav", Event("Tab\tand\nline", 2.0, 3.0)),
]


def test_json_and_csv_hold_every_value():
    assert [EventRow(**row) for row in json.loads(format_events(ROWS, "json"))] == ROWS
    head, *rows = csv.reader(io.StringIO(format_events(ROWS, "csv")))
    assert head == ["file", "onset", "offset", "label", "score"]
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


TEXT = [name for name, each in FORMATS.items() if not each.opened]


@pytest.mark.parametrize("format_", TEXT)
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
    for format_ in TEXT:
        write_events([row], tmp_path / "a", format_)
    assert b"\xff.wav" in (tmp_path / "a").read_bytes()


def test_an_unknown_format_is_named():
    with pytest.raises(ConfigError, match="unknown format 'cvs'; did you mean 'csv'"):
        format_events([], "cvs")


def test_a_selection_table_has_the_columns_of_raven(tmp_path):
    rows = list(csv.DictReader(io.StringIO(format_events(ROWS, "raven")), delimiter="\t"))
    assert [row["Selection"] for row in rows] == ["1", "2"]
    assert [(row["Begin Time (s)"], row["End Time (s)"]) for row in rows] == [
        ("0.500000", "1.250000"),
        ("2.000000", "3.000000"),
    ]
    assert [row["Annotation"] for row in rows] == ['Dog, "barking"', "Tab and line"]
    assert {row["View"] for row in rows} == {"Spectrogram 1"}
    assert not FORMATS["raven"].names_file


def test_json_lines_are_one_object_each():
    lines = format_events(ROWS, "jsonl").splitlines()
    assert [EventRow(**json.loads(line)) for line in lines] == ROWS


def test_parquet_holds_every_value(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    with writing_events(tmp_path / "a.parquet", "parquet", clock=True) as add:
        add(ROWS)
        add([EventRow("x/SITE_20260501_235950.wav", 15.5, 16.0, "Owl", 0.9)])
    found = pandas.read_parquet(tmp_path / "a.parquet")
    assert list(found) == ["file", "onset", "offset", "label", "score", "date", "time"]
    assert found["onset"].tolist() == [0.5, 2.0, 15.5]
    assert found["date"].tolist()[2:] == ["2026-05-02"]
    assert found["date"].isna().tolist() == [True, True, False]
    assert read_event_rows(tmp_path / "a.parquet")[:2] == ROWS
    with pytest.raises(ConfigError, match="not text"):
        format_events(ROWS, "parquet")


@pytest.mark.parametrize("format_", [*CLOCK_FORMATS, "dcase", "raven"])
def test_what_is_written_is_read(tmp_path, format_):
    if format_ == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"events{FORMATS[format_].suffix}"
    write_events(ROWS, path, format_, clock=format_ in CLOCK_FORMATS)
    wanted = ROWS
    if format_ not in CLOCK_FORMATS:
        wanted = [row._replace(label=" ".join(row.label.split())) for row in ROWS]
    if format_ == "dcase":
        wanted = [row._replace(score=1.0) for row in wanted]
    assert read_event_rows(path) == wanted


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "file,onset,label\na.wav,1,Dog\n", "line 2: the event needs a value for offset"),
        ("a.csv", "file,onset,offset,label\na.wav,1,x,Dog\n", "'x' is not a number"),
        ("a.csv", "file,onset,offset,label\na.wav,1,0.5,Dog\n", "cannot last from 1 to 0.5 s"),
        ("a.json", "{}", "is not a list of events"),
        ("a.json", "[3]", "3 is not an event"),
        ("a.jsonl", "{}\nx\n", "line 2, is not JSON"),
        ("a.parquet", "x", "cannot be read as Parquet"),
    ],
)
def test_what_is_not_a_file_of_events_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_event_rows(tmp_path / name)


def test_formats_without_a_place_for_the_time_of_day_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no columns for date and time"):
        write_events(ROWS, tmp_path / "a", "audacity", clock=True)


def test_one_table_is_read_as_results_and_as_annotations(tmp_path):
    """As BirdNET-Analyzer writes it, with the columns of a sheet in another case."""
    path = tmp_path / "birds.csv"
    path.write_text("Start (s),End (s),Common Name,Confidence,FILE\n0,3,Robin,0.9,a.wav\n")
    assert read_event_rows(path) == [EventRow("a.wav", 0.0, 3.0, "Robin", 0.9)]
    assert read_event_table(path) == {"a.wav": [Event("Robin", 0.0, 3.0)]}
    path.write_text("file,onset,offset,label\na.wav,0,1e300,Robin\n")
    for read in (read_event_rows, read_event_table):
        with pytest.raises(ConfigError, match="line 2: an event cannot last from 0 to 1e"):
            read(path)
