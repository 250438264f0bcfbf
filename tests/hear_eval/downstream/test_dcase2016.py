"""DCASE 2016 task 2 in the setting of EfficientSED, from logits to scores."""

from __future__ import annotations

import numpy as np
import pytest

from hear_core.metrics.events import event_arrays
from hear_core.metrics.registry import METRICS
from hear_eval.downstream.event_decoding import RowDecoder, events_by_file
from tests import goldens


@pytest.fixture(scope="module")
def golden():
    return goldens.facts("sed/metrics")["dcase2016"]


@pytest.fixture(scope="module")
def decoded(golden):
    """The events in the logits, to which the threshold is applied as they are."""
    logits = goldens.arrays("sed/dcase2016")["logits"]
    centres = 20 + 40.0 * np.arange(logits.shape[1])
    names = [file for file in golden["reference"] for _ in centres]
    decoder = RowDecoder(names, np.tile(centres, len(logits)))
    setting = (*golden["postprocessing"].items(), ("threshold", golden["threshold"]))
    return decoder, decoder.decode(logits.reshape(-1, logits.shape[2]), setting)


def test_events(golden, decoded):
    decoder, events = decoded
    found = events_by_file(events, decoder.files, golden["labels"])
    for file, wanted in golden["events"].items():
        rows = [(e["label"], round(e["start"], 6), round(e["end"], 6)) for e in found[file]]
        assert sorted(rows) == sorted(map(tuple, wanted))


def test_scores(golden, decoded):
    decoder, events = decoded
    reference = event_arrays(golden["reference"], decoder.files, golden["labels"])
    for name, wanted in golden["scores"].items():
        found = dict(
            zip(METRICS[name].parts, METRICS[name].compute(events, reference), strict=True)
        )
        assert found == pytest.approx(wanted, abs=1e-9)
