"""Folders of recordings in ``hear tag`` and ``hear detect``."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import soundfile

from hear_cli.sounds import siren
from hear_core.errors import ConfigError
from hear_core.events.found_events import read_event_rows
from hear_mn import EATagger
from tests.hear_cli.command import hear

STARTER = ["-b", "mn01_starter"]


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Two folders with recordings of equal names, a note, and a recording of 70 s."""
    root = tmp_path_factory.mktemp("sites")
    sound = siren(2.0, 32000).numpy()
    for site in ("siteA", "siteB"):
        (root / site / "day").mkdir(parents=True)
        for number, name in enumerate(("20260501_050000.wav", "day/20260501_060000.wav")):
            gain = 0.5 + 0.2 * number + (site == "siteB") * 0.1
            soundfile.write(root / site / name, gain * sound, 32000)
    (root / "siteA" / "notes.txt").write_text("rain")
    return root


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.wav"
    soundfile.write(path, np.tile(siren(10.0, 32000).numpy(), 7), 32000)
    return path


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_folders_patterns_and_tables_give_the_same_rows(sites, monkeypatch):
    monkeypatch.chdir(sites)
    (sites / "list.csv").write_text(
        "file;site\nsiteA/20260501_050000.wav;A\nsiteB/day/20260501_060000.wav;B\n"
    )
    command = [*STARTER, "--top", 1, "--format", "csv"]
    whole = rows_of(hear("tag", "siteA", "siteB", *command))
    assert [row["file"] for row in whole] == [
        f"{site}/{name}"
        for site in ("siteA", "siteB")
        for name in ("20260501_050000.wav", "day/20260501_060000.wav")
    ]
    assert rows_of(hear("tag", "site*/**/*.wav", *command, "--jobs", 3)) == whole
    assert rows_of(hear("tag", "list.csv", *command)) == [whole[0], whole[3]]
    assert rows_of(hear("tag", "siteA", "siteA/20260501_050000.wav", *command)) == whole[:2]
    assert "no audio file matches nothing*.wav" in hear("tag", "nothing*.wav", *STARTER, code=1)
    (sites / "other.csv").write_text("name\na.wav\n")
    assert "needs a column file" in hear("tag", "other.csv", *STARTER, code=1)


def test_an_empty_folder_is_refused(tmp_path):
    assert "There are no audio files in" in hear("tag", tmp_path, *STARTER, code=2)


def test_rows_have_the_time_of_day(sites, monkeypatch):
    monkeypatch.chdir(sites)
    found = hear("tag", "siteA", *STARTER, "--window", 1, "--top", 1, "--format", "csv", "--clock")
    assert [(row["date"], row["time"]) for row in rows_of(found)] == [
        ("2026-05-01", f"0{hour}:00:0{second}.000") for hour in (5, 6) for second in (0, 1)
    ]
    said = hear("tag", "siteA", *STARTER, "--format", "raven", "--clock", code=2)
    assert "The format raven has no columns for date and time" in said


@pytest.mark.parametrize(
    ("format_", "suffix"), [("raven", ".Table.1.selections.txt"), ("audacity", ".txt")]
)
def test_tracks_are_written_beside_recordings_or_into_a_folder(sites, tmp_path, format_, suffix):
    command = ["tag", sites, *STARTER, "--format", format_]
    hear(*command, "-o", tmp_path / "out")
    written = sorted(p.relative_to(tmp_path).as_posix() for p in (tmp_path / "out").rglob("*.txt"))
    assert len(written) == 4
    hear(*command)
    beside = sites / "siteA" / "day" / f"20260501_060000{suffix}"
    content = (tmp_path / "out" / "siteA" / "day" / f"20260501_060000.wav{suffix}").read_text()
    assert beside.read_text() == content
    beside.write_text("labels of one's own")
    assert "exists beside its recording" in hear(*command, code=2)
    assert beside.read_text() == "labels of one's own"
    for path in sites.rglob(f"*{suffix}"):
        if path.name != "notes.txt":
            path.unlink()


def test_a_run_that_was_killed_resumes_with_the_same_bytes(sites, tmp_path, monkeypatch):
    command = ["tag", sites, *STARTER, "--format", "json"]
    hear(*command, "-o", tmp_path / "whole.json")
    clip, done = EATagger.clip, []

    def killed(self, waveform):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return clip(self, waveform)

    with monkeypatch.context() as patch:
        patch.setattr(EATagger, "clip", killed)
        hear(*command, "-o", tmp_path / "part.json", code=130)
    assert not (tmp_path / "part.json").exists()

    def counted(self, waveform):
        done.append(1)
        return clip(self, waveform)

    monkeypatch.setattr(EATagger, "clip", counted)
    hear(*command, "-o", tmp_path / "part.json", "--jobs", 2)
    assert len(done) == 4
    assert (tmp_path / "part.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    left = {path.name for path in tmp_path.iterdir() if path.suffix != ".lock"}
    assert left == {"part.json", "whole.json"}


def test_only_files_that_failed_are_tried_again(sites, tmp_path, monkeypatch):
    broken = tmp_path / "broken.wav"
    broken.write_text("no audio")
    command = [
        "tag",
        sites / "siteA",
        broken,
        *STARTER,
        "--format",
        "jsonl",
        "-o",
        tmp_path / "o.jsonl",
    ]
    hear(*command, code=1)
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 20
    soundfile.write(broken, siren(1.0, 32000).numpy(), 32000)
    clip, done = EATagger.clip, []
    monkeypatch.setattr(EATagger, "clip", lambda self, w: done.append(1) or clip(self, w))
    hear(*command)
    assert len(done) == 1
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 30


def test_long_recordings_are_tagged_as_events(long):
    command = ["tag", long, *STARTER, "--threshold", 0.05, "--format", "json"]
    events = json.loads(hear(*command))
    assert events
    assert events == json.loads(hear(*command, "--events"))
    rows = json.loads(hear("tag", long, *STARTER, "--whole", "--format", "json"))
    assert [(row["onset"], row["offset"]) for row in rows] == [(0, 70)] * 10
    assert "either as a whole" in hear("tag", long, *STARTER, "--whole", "--events", code=2)


@pytest.fixture
def results(tmp_path):
    """Events in two recordings at 44.1 kHz, stereo, whose level tells the second."""
    rows = ["file,onset,offset,label,score"]
    for name in ("A_20260501_050000", "A_20260501_235959"):
        levels = np.repeat(np.arange(1, 11) / 20, 44100)[:, None] * np.ones(2)
        soundfile.write(tmp_path / f"{name}.wav", levels, 44100, "PCM_16")
        for second in range(1, 10):
            score = second / 10 - (name[-1] == "9") * 0.05
            label = "Dog/Bark" if second % 2 else "Rain"
            rows.append(f"{tmp_path / name}.wav,{second},{second + 0.5},{label},{score}")
    (tmp_path / "events.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "events.csv"


def test_clips_are_the_best_moments_of_every_class(results, tmp_path):
    out = tmp_path / "clips"
    assert "4 clips are in" in hear("clips", results, "--top", 2, "--padding", 0.25, "-o", out)
    rows = rows_of((out / "clips.csv").read_text())
    assert [(row["label"], row["score"]) for row in rows] == [
        ("Dog/Bark", "0.9"),
        ("Dog/Bark", "0.85"),
        ("Rain", "0.8"),
        ("Rain", "0.75"),
    ]
    assert {row["clip"].split("/")[0] for row in rows} == {"Dog_Bark", "Rain"}
    samples, sample_rate = soundfile.read(out / rows[0]["clip"])
    assert (sample_rate, samples.shape) == (44100, (44100, 2))
    np.testing.assert_allclose(samples[15000:30000], 0.5, atol=1e-3)  # the tenth second
    assert samples[0].max() < 0.001


def test_clips_of_recordings_that_are_gone_are_reported(results, tmp_path):
    (tmp_path / "A_20260501_050000.wav").unlink()
    said = hear("clips", results, "--top", 1, "-o", tmp_path / "clips", code=1)
    assert "1 recordings could not be read" in said
    assert "A_20260501_050000.wav" in said


def test_a_summary_counts_events(results, tmp_path):
    hear("summary", results, "-o", tmp_path / "s.csv", "--by", "label", "--by", "hour")
    rows = rows_of((tmp_path / "s.csv").read_text())
    assert [(row["label"], row["hour"], row["events"], row["seconds"]) for row in rows] == [
        ("Dog/Bark", "00", "5", "2.5"),
        ("Dog/Bark", "05", "5", "2.5"),
        ("Rain", "00", "4", "2.0"),
        ("Rain", "05", "4", "2.0"),
    ]
    assert "Dog/Bark" in hear("summary", results)


def test_an_output_that_cannot_be_written_does_not_stop_the_others(sites, tmp_path):
    (tmp_path / "siteA" / "20260501_050000.wav.Table.1.selections.txt").mkdir(parents=True)
    command = ["tag", sites, *STARTER, "--format", "raven", "-o", tmp_path]
    assert "1 of 4 files could not be processed" in hear(*command, code=1)
    assert sum(path.is_file() for path in tmp_path.rglob("*.selections.txt")) == 3


def test_an_output_never_replaces_its_recording(sites):
    recording = sites / "siteA" / "20260501_050000.wav"
    before = recording.read_bytes()
    command = ["tag", recording, *STARTER, "--format", "csv", "-o", recording]
    assert "would be replaced" in hear(*command, code=2)
    assert recording.read_bytes() == before


def events_file(path, *rows):
    names = ("file", "onset", "offset", "label", "score")
    path.write_text(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
    return path


def test_labels_that_differ_in_a_slash_have_clips_of_their_own(sites, tmp_path):
    recording = str(sites / "siteA" / "20260501_050000.wav")
    labels = ["a/b", "a:b", "L" * 300]
    events = events_file(tmp_path / "e.json", *((recording, 0, 1, each, 0.9) for each in labels))
    hear("clips", events, "-o", tmp_path / "clips")
    assert len(list((tmp_path / "clips").glob("*/*.wav"))) == 3


def test_samples_that_are_not_finite_are_not_cut(sites, tmp_path):
    damaged = tmp_path / "nan.wav"
    soundfile.write(damaged, np.full(32000, np.nan), 32000, "FLOAT")
    good = str(sites / "siteA" / "20260501_050000.wav")
    rows = [(str(damaged), 0, 1, "a", 0.9), (good, 0, 1, "b", 0.9)]
    events = events_file(tmp_path / "e.json", *rows)
    assert "NaN" in hear("clips", events, "-o", tmp_path / "clips", code=1)
    assert [path.parent.name for path in (tmp_path / "clips").glob("*/*.wav")] == ["b"]


def test_clips_must_be_longer_than_their_padding(sites, tmp_path):
    events = events_file(tmp_path / "e.json", ("x.wav", 0, 1, "a", 0.9))
    options = ["-o", tmp_path / "clips", "--padding", 3, "--longest", 2]
    assert "hold none of an event" in hear("clips", events, *options, code=2)


def test_a_selection_is_one_event_at_its_place_in_the_file(tmp_path):
    table = tmp_path / "table.txt"
    table.write_text(
        "Selection\tView\tBegin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tSpecies\n"
        "1\tWaveform 1\t1\t2\ta.wav\t1\tdog\n1\tSpectrogram 1\t1\t2\ta.wav\t1\tdog\n"
        "2\tSpectrogram 1\t61.5\t63\tb.wav\t1.5\tdog\n"
    )
    found = [(row.file, row.onset, row.offset) for row in read_event_rows(table)]
    assert found == [("a.wav", 1, 2), ("b.wav", 1.5, 3)]


def test_a_name_with_a_null_character_is_refused(tmp_path):
    events = events_file(tmp_path / "e.json", ("x\0.wav", 0, 1, "a", 0.9))
    with pytest.raises(ConfigError, match=r"row 1: .* is not the name of a recording"):
        read_event_rows(events)
