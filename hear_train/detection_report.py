"""Reports on detectors: metrics, classes, and timelines of the worst recordings."""

from __future__ import annotations

import csv
import json
import logging
import math
from pathlib import Path

from hear_core.errors import ConfigError
from hear_core.events.event import Event
from hear_core.io.files import atomic_write
from hear_core.metrics.events import EventArrays, match_events
from hear_train.detection import NEAR_ONSETS, DetectionPredictions
from hear_train.evaluation import write_per_class

_log = logging.getLogger(__name__)

METRICS = (
    *("psds1_macro_averaged", "psds1", "psds2", "frame_mAP", "segment_pauroc"),
    *("event_onset_200ms_fms", "event_onset_50ms_fms", "segment_1s_er"),
)


def write_detection_report(folder: Path, predictions: DetectionPredictions, worst: int = 5) -> None:
    """Write a report on a detector to a folder.

    It has ``metrics.json``, ``classes.csv``, ``recordings.csv`` with the errors of every recording,
    the worst one first, and, if matplotlib is installed, timelines of the worst recordings with
    annotated events above detected ones.

    Args:
        folder: Folder to write to.
        predictions: Predictions for recordings that the detector was not trained on.
        worst: Number of timelines.

    Raises:
        FileError: A file cannot be written.
    """
    found = predictions.metrics(METRICS)
    finite = {name: value for name, value in found.items() if math.isfinite(value)}
    with atomic_write(folder / "metrics.json") as part:
        part.write_text(json.dumps(finite, indent=1) + "\n", encoding="utf-8")
    write_per_class(folder / "classes.csv", predictions.labels, predictions)
    detected = predictions.decode()
    rows = []
    for index, name in enumerate(predictions.names):
        truth = predictions.annotated(index)
        given, there = (
            EventArrays.of([each], predictions.labels) for each in (detected[index], truth)
        )
        _, _, recall = match_events(given, there, NEAR_ONSETS)
        hits = round(recall * len(truth)) if truth else 0
        rows.append((len(truth) - hits + len(detected[index]) - hits, index, name, hits))
    rows.sort(key=lambda row: (-row[0], row[1]))
    with (
        atomic_write(folder / "recordings.csv") as part,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["recording", "events", "detected", "correct", "errors"])
        for errors, index, name, hits in rows:
            events = len(predictions.events[index]), len(detected[index])
            writer.writerow([name, *events, hits, errors])
    for rank, (errors, index, name, _) in enumerate(rows[:worst], 1):
        if errors:
            path = folder / f"worst-{rank}.png"
            try:
                plot_comparison(path, name, predictions, index, detected[index])
            except ConfigError as error:
                _log.warning("timelines are left out: %s", error)
                return


def plot_comparison(
    path: Path, name: str, predictions: DetectionPredictions, index: int, detected: list[Event]
) -> None:
    """Write a timeline of a recording: scores, and annotated above detected events.

    Args:
        path: PNG file to write.
        name: Title.
        predictions: Predictions of a detector.
        index: Index of the recording.
        detected: Its detected events.

    Raises:
        ConfigError: matplotlib is not installed.
        FileError: The file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        msg = "plotting needs matplotlib: install the extra 'plot'"
        raise ConfigError(msg) from None
    truth = predictions.annotated(index)
    shown = sorted({event.label for event in (*truth, *detected)}, key=predictions.labels.index)
    timed = predictions.timed_scores(index)
    figure = Figure(figsize=(10, 1.5 + 0.6 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for row, label in enumerate(shown):
        scores = timed.scores[:, predictions.labels.index(label)]
        axes.plot(timed.onset, row + 0.4 - 0.8 * scores, color="0.6", linewidth=0.8)
        for events, below, colour in ((truth, -0.4, "tab:green"), (detected, 0.0, "tab:red")):
            spans = [(e.onset, e.offset - e.onset) for e in events if e.label == label]
            axes.broken_barh(spans, (row + below, 0.36), color=colour, alpha=0.6)
    axes.set_yticks(range(len(shown)), shown)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(0, predictions.seconds[index])
    axes.set_xlabel("seconds")
    axes.set_title(f"{name}: annotated (green) above detected (red), score in grey", fontsize=9)
    with atomic_write(path) as part:
        figure.savefig(part, format="png", dpi=100)
