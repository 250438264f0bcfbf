"""``hear tag``: classes of sounds in audio files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hear_cli import options
from hear_cli.option_groups import with_groups
from hear_cli.options import EventOptions, OutputOptions, seconds
from hear_cli.outputs import Results, names_of_recordings, resumable
from hear_cli.recordings import Report, process, recordings_in, reported
from hear_core.audio.reading import read_audio
from hear_core.events.formats import EventRow
from hear_core.events.specific import most_specific
from hear_core.events.timed_scores import TimedScores, events_in
from hear_core.events.timeline import plot_timeline
from hear_core.plugins.timed_model import group_classes, join_scores
from hear_core.zoo.labels import audioset_mids, more_general
from hear_mn.tagger import MAX_WINDOW, EATagger

# Of 58 clips of ESC-10 in ten minutes of pink noise, mn04_as finds 72 % by these windows, and 41 %
# by windows of a second that do not overlap, at the default threshold.
_EVENT_WINDOW, _EVENT_HOP = 2.0, 0.5  # seconds
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
            show_default="each file as a whole if it is short; 2 for events, 1 for pictures",
        ),
    ] = None,
    hop: Annotated[
        float | None,
        seconds("Time from one window to the next.", show_default="the window; 0.5 for events"),
    ] = None,
    top: options.Top = 10,
    only: options.Only = None,
    groups: options.Groups = None,
    specific: options.Specific = False,
    outputs: OutputOptions = OutputOptions(),
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
    undivided: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="Tag long files as a whole, too: by the mean of their scores.",
            rich_help_panel="Events",
        ),
    ] = False,
    decoding: EventOptions = _EVENTS,
) -> None:
    """Tag audio files: as a whole, in windows, or as events in time.

    A file of up to 60 s is tagged as a whole, a longer one as events, unless --whole, --window or
    --events is given. Recordings of any length fit into memory.

    A run that writes to --output resumes when it is started again after an interruption. A file
    that cannot be processed does not stop the others: it is listed at the end, and the exit code
    is 1.
    """
    if (window or undivided) and not events and decoding != _EVENTS:
        defaults = _EVENTS._asdict()
        name = next(n for n, value in decoding._asdict().items() if value != defaults[n])
        msg = "It applies to events; add --events."
        raise typer.BadParameter(msg, param_hint=f"--{name.replace('_', '-')}")
    if undivided and (window or hop or events or outputs.plot):
        msg = "A file is tagged either as a whole, or in windows or events."
        raise typer.BadParameter(msg, param_hint="--whole")
    files = recordings_in(files)
    results = Results(outputs.format_, outputs.output, files, clock=outputs.clock)
    plot = outputs.plot
    tagger = EATagger(backbone or None, device, **options.weights(model, random=random_weights))
    classes = options.classes(tagger.labels, only, groups)
    parameters = decoding.decoding(list(classes), tagger.thresholds, options.given_options(context))
    general = more_general(audioset_mids()) if specific and not groups else {}
    pictures = names_of_recordings(files, ".png") if plot else {}

    def work(file: Path, report: Report) -> list[EventRow]:
        as_events, parts = events, None
        if not (window or events or plot):
            parts = _as_a_whole(tagger, file, every=undivided)
            as_events = parts is None
        if parts is None:
            size = window or tagger.window or (_EVENT_WINDOW if as_events else 1.0)
            step = size if window or not as_events else min(size, _EVENT_HOP)
            parts = tagger.iter_windows(file, size, hop or step)
        parts = reported(parts, report)
        found: Iterator[TimedScores] = (group_classes(part, classes) for part in parts)
        if plot:
            joined = join_scores([*found])
            log_mel = tagger.log_mel(read_audio(file, tagger.sample_rate).numpy())
            plot_timeline(plot / pictures[file], log_mel, joined, top)
            found = iter([joined])
        if as_events:
            rows = [
                EventRow.from_event(file, event) for event in events_in(found, classes, parameters)
            ]
        else:
            rows = [row for part in found for row in _highest(file, part, top)]
        return most_specific(rows, general)

    kept = resumable(context, results, outputs.output)
    process(files, work, results, kept, outputs.jobs)


def _as_a_whole(tagger: EATagger, file: Path, *, every: bool) -> Iterator[TimedScores] | None:
    """Return the scores of a file in one row; None if it is long, unless that makes no difference.

    Args:
        tagger: The tagger.
        file: The file.
        every: Whether to tag long files as a whole, too.
    """
    if every:
        return iter([tagger.clip(file)])
    head = [*islice(tagger.blocks(file), 2)]
    return iter([tagger.clip(head[0])]) if len(head) == 1 else None


def _highest(file: Path, found: TimedScores, top: int) -> Iterator[EventRow]:
    for row, start, end in zip(found.scores, found.start.tolist(), found.end.tolist(), strict=True):
        for index in np.argsort(-row, kind="stable")[:top].tolist():
            yield EventRow(str(file), start, end, found.labels[index], round(float(row[index]), 6))
