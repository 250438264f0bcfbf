"""The most specific classes: an event of a general class is left out where a specific one is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hear_core.events.formats import EventRow

_SHARE = 0.5  # of a general event's time and score that specific ones must have to replace it


def most_specific(
    rows: Sequence[EventRow], more_general: Mapping[str, Collection[str]]
) -> list[EventRow]:
    """Return the rows without those that say less than others do.

    A row is left out if rows of more specific classes, with at least half of its score, cover at
    least half of its time: "Animal" where there is "Dog", and "Dog" where there is "Bark".

    Args:
        rows: Events of one recording.
        more_general: Labels that are more general, by label; see
            `hear_core.zoo.labels.more_general`. Other labels are kept.
    """
    below: dict[str, list[EventRow]] = {}
    for row in rows:
        for label in more_general.get(row.label, ()):
            below.setdefault(label, []).append(row)
    return [row for row in rows if not _is_hidden(row, below.get(row.label, ()))]


def _is_hidden(row: EventRow, specific: Sequence[EventRow]) -> bool:
    """Return whether rows of more specific classes cover enough of a row."""
    covered, until = 0.0, row.onset
    for other in sorted(specific, key=lambda each: each.onset):
        if other.score >= _SHARE * row.score:
            begin, end = max(other.onset, until), min(other.offset, row.offset)
            if end > begin:
                covered, until = covered + end - begin, end
    length = row.offset - row.onset
    return covered > 0 and covered >= _SHARE * length
