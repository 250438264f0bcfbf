from __future__ import annotations

from hear_core.events.formats import EventRow
from hear_core.events.specific import most_specific
from hear_core.zoo.labels import audioset_mids, more_general
from hear_sed.labels import strong_mids

GENERAL = more_general(audioset_mids())


def row(label, onset, offset, score=0.8):
    return EventRow("a.wav", onset, offset, label, score)


def labels(*rows):
    return [each.label for each in most_specific(rows, GENERAL)]


def test_the_ontology_is_known():
    assert {"Animal", "Dog", "Domestic animals, pets"} <= GENERAL["Bark"]
    assert "Bark" not in GENERAL["Dog"]
    assert GENERAL["Speech"] == frozenset()
    assert "Vehicle" in more_general(strong_mids())["Train"]


def test_a_specific_class_replaces_general_ones():
    rows = [row(label, 0, 2) for label in ("Animal", "Dog", "Bark", "Speech")]
    assert labels(*rows) == ["Bark", "Speech"]


def test_a_general_class_stays_where_it_has_more_to_say():
    assert labels(row("Dog", 0, 10), row("Bark", 1, 2)) == ["Dog", "Bark"]
    assert labels(row("Dog", 0, 10), row("Bark", 0, 3), row("Bark", 5, 8)) == ["Bark", "Bark"]
    assert labels(row("Dog", 0, 2, 0.9), row("Bark", 0, 2, 0.2)) == ["Dog", "Bark"]
    assert labels(row("Dog", 0, 2), row("Bark", 4, 6)) == ["Dog", "Bark"]


def test_overlapping_specific_events_count_once():
    assert labels(row("Dog", 0, 10), row("Bark", 0, 3), row("Howl", 0, 3)) == [
        "Dog",
        "Bark",
        "Howl",
    ]


def test_classes_of_ones_own_stay():
    rows = [row("Dog", 0, 2), row("Bark", 0, 2)]
    assert most_specific(rows, {}) == rows
