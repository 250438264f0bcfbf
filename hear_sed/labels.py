"""Labels of AudioSet Strong."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from importlib import resources


@cache
def strong_labels() -> tuple[str, ...]:
    """Return the 447 classes of AudioSet Strong, in the order of the logits: by name.

    From Hershey et al., "The Benefit of Temporally-Strong Labels in Audio Event Classification"
    (ICASSP 2021). Some names differ from those in AudioSet itself; the identifiers are the same.
    """
    return tuple(row["display_name"] for row in _rows())


@cache
def strong_mids() -> Mapping[str, str]:
    """Return the AudioSet identifier of every class, such as ``/m/09x0r``, by its name."""
    return {row["display_name"]: row["mid"] for row in _rows()}


def _rows() -> list[dict[str, str]]:
    text = resources.files("hear_sed").joinpath("audioset_strong_447.csv")
    return list(csv.DictReader(text.read_text(encoding="utf-8").splitlines()))
