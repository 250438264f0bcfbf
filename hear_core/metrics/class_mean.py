"""A metric of every class, and its mean over the classes for which it is defined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple


class ClassMean(NamedTuple):
    """A metric of every class, and its mean.

    Attributes:
        mean: Mean over the classes for which the metric is defined; NaN if it is for none.
        per_class: Metric of every class by name, NaN where it is not defined.
    """

    mean: float
    per_class: Mapping[str, float]


def class_mean(per_class: Mapping[str, float]) -> ClassMean:
    """Return a metric of classes with its mean.

    >>> class_mean({"dog": 0.5, "cat": 1.0, "owl": float("nan")}).mean
    0.75
    """
    defined = [value for value in per_class.values() if not math.isnan(value)]
    return ClassMean(sum(defined) / len(defined) if defined else math.nan, per_class)
