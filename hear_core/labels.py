"""Names of the classes that networks tell apart."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources


@cache
def audioset_labels() -> tuple[str, ...]:
    """Return the 527 classes of AudioSet, in the order of its logits.

    From Gemmeke et al., "Audio Set" (ICASSP 2017), as in ``class_labels_indices.csv``.
    """
    text = resources.files("hear_core").joinpath("audioset_527.csv").read_text(encoding="utf-8")
    return tuple(row["display_name"] for row in csv.DictReader(text.splitlines()))
