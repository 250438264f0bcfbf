"""``hear tag``: classes of sounds in audio files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hear_cli import options
from hear_cli.option_groups import with_groups
from hear_cli.options import EventOptions, seconds
from hear_cli.outputs import Results, names_of_recordings
from hear_cli.recordings import Recordings
from hear_core.audio.reading import read_audio
from hear_core.events.formats import EventRow
from hear_core.events.timed_scores import TimedScores, events_in
from hear_core.events.timeline import plot_timeline
from hear_core.plugins.timed_model import group_classes, join_scores
from hear_mn.tagger import MAX_WINDOW, EATagger

_EVENTS = EventOptions(threshold=0.3, release=0.8)


@with_groups
def tag(
    context: typer.Context,
    files: options.Files,
    backbone: options.Backbones = None,
    model: options.Model = None,
    window: Annotated[
        float | None,
        seconds(
            "Tag windows of this length.",
            high=MAX_WINDOW,
            show_default="each file as a whole; with --events or --plot that of the checkpoint, "
            "else 1",
        ),
    ] = None,
    hop: Annotated[
        float | None,
        seconds("Time from one window to the next.", show_default="the window"),
    ] = None,
    top: options.Top = 10,
    only: options.Only = None,
    groups: options.Groups = None,
    format_: options.Format = "table",
    output: options.Output = None,
    plot: options.Plot = None,
    device: options.Device = "cpu",
    random_weights: options.RandomWeights = False,
    events: Annotated[
        bool,
        typer.Option(
            "--events",
            help="Join windows to events with onset and offset.",
            rich_help_panel="Events",
        ),
    ] = False,
    decoding: EventOptions = _EVENTS,
) -> None:
    """Tag audio files: as a whole, in windows, or as events in time.

    A file of up to 60 s is processed in one piece; the scores of a longer one are the mean over
    windows of 10 s. Recordings of any length fit into memory.

    A file that cannot be processed does not stop the others: it is listed at the end, and the exit
    code is 1.
    """
    if not events and decoding != _EVENTS:
        defaults = _EVENTS._asdict()
        name = next(n for n, value in decoding._asdict().items() if value != defaults[n])
        msg = "It applies to events; add --events."
        raise typer.BadParameter(msg, param_hint=f"--{name.replace('_', '-')}")
    if hop is not None and not (window or events or plot):
        msg = "It applies to windows; add --window."
        raise typer.BadParameter(msg, param_hint="--hop")
    results = Results(format_, output, files)
    tagger = EATagger(backbone or None, device, **options.weights(model, random=random_weights))
    if (events or plot) and window is None:
        window = tagger.window or 1.0
    classes = options.classes(tagger.labels, only, groups)
    parameters = decoding.decoding(list(classes), tagger.thresholds, options.given_options(context))
    pictures = names_of_recordings(files, ".png") if plot else {}

    def work(file: Path) -> list[EventRow]:
        if window is None:
            clip = tagger.clip(file)
            if clip.end[0] > MAX_WINDOW:
                typer.echo(f"hear: {file}: scores are the mean over windows of 10 s", err=True)
            parts = iter([clip])
        else:
            parts = tagger.iter_windows(file, window, hop or window)
        found: Iterator[TimedScores] = (group_classes(part, classes) for part in parts)
        if plot:
            joined = join_scores([*found])
            log_mel = tagger.log_mel(read_audio(file, tagger.sample_rate).numpy())
            plot_timeline(plot / pictures[file], log_mel, joined, top)
            found = iter([joined])
        if events:
            return [
                EventRow.from_event(file, event) for event in events_in(found, classes, parameters)
            ]
        return [row for part in found for row in _highest(file, part, top)]

    recordings = Recordings(files)
    with results.opened():
        for file, rows in recordings.process(work):
            results.add(file, rows)
    recordings.finish()


def _highest(file: Path, found: TimedScores, top: int) -> Iterator[EventRow]:
    for row, start, end in zip(found.scores, found.start.tolist(), found.end.tolist(), strict=True):
        for index in np.argsort(-row, kind="stable")[:top].tolist():
            yield EventRow(str(file), start, end, found.labels[index], round(float(row[index]), 6))
