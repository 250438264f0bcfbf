"""The metrics of HEAR by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np

from hear_core.errors import ConfigError, unknown
from hear_core.metrics.events import EventArrays, Matching, match_events, segment_error_rate
from hear_core.metrics.ranking import accuracy, area_under_roc, d_prime, mean_average_precision

_OCTAVE = 12  # the classes of a pitch task are semitones


class Metric(NamedTuple):
    """A metric of predictions against targets.

    Args:
        compute: For clips, a function of predictions (..., clips, classes) and targets
            (clips, classes) that returns one value per model. For events, a function of the
            estimated and the reference `EventArrays` that returns one value for each of `parts`.
        events: Whether it is a metric of events.
        parts: Names of the values of a metric of events; the first is the main one.
        maximise: Whether higher is better.
    """

    compute: Callable[..., np.ndarray]
    events: bool = False
    parts: tuple[str, ...] = ()
    maximise: bool = True


def _f_measure(matching: Matching, estimated: EventArrays, reference: EventArrays) -> np.ndarray:
    return np.array(match_events(estimated, reference, matching))


def _error_rate(estimated: EventArrays, reference: EventArrays) -> np.ndarray:
    return np.array([segment_error_rate(estimated, reference)])


def _event_based(matching: Matching) -> Metric:
    parts = ("f_measure", "precision", "recall")
    return Metric(partial(_f_measure, matching), events=True, parts=parts)


# The names are those of HEAR; the numbers in them are the tolerances.
METRICS = {
    "top1_acc": Metric(accuracy),
    "pitch_acc": Metric(accuracy),
    "chroma_acc": Metric(partial(accuracy, octave=_OCTAVE)),
    "mAP": Metric(mean_average_precision),
    "d_prime": Metric(d_prime),
    "aucroc": Metric(area_under_roc),
    "event_onset_200ms_fms": _event_based(Matching(0.2)),
    "event_onset_50ms_fms": _event_based(Matching(0.05)),
    "event_onset_offset_50ms_20perc_fms": _event_based(Matching(0.05, 0.2)),
    "segment_1s_er": Metric(_error_rate, events=True, parts=("error_rate",), maximise=False),
}


def find_metrics(names: Iterable[str], *, events: bool) -> dict[str, Metric]:
    """Return metrics by name.

    Args:
        names: Keys of `METRICS`.
        events: Whether events are predicted, rather than classes of clips.

    Raises:
        ConfigError: A name is unknown, or is a metric of the other kind of prediction.
    """
    found = {}
    for name in names:
        if name not in METRICS:
            raise ConfigError(unknown("metric", name, METRICS))
        found[name] = METRICS[name]
        if found[name].events != events:
            kinds = ("clips", "events") if events else ("events", "clips")
            msg = f"{name} is a metric of {kinds[0]}, but {kinds[1]} are predicted"
            raise ConfigError(msg)
    return found
