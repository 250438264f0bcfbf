"""``hear detect``: sound events in audio files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from hear_cli import options
from hear_cli.option_groups import with_groups
from hear_cli.options import LONGEST_WINDOW, EventOptions, OutputOptions, seconds
from hear_cli.outputs import Results, names_of_recordings, resumable
from hear_cli.recordings import Report, process, recordings_in, reported
from hear_core.audio.reading import read_audio
from hear_core.events.formats import EventRow
from hear_core.events.specific import most_specific
from hear_core.events.timed_scores import TimedScores, events_in
from hear_core.events.timeline import plot_timeline
from hear_core.plugins.timed_model import group_classes, join_scores
from hear_core.zoo.labels import more_general
from hear_sed.detector import DEFAULT_DECODING, Detector
from hear_sed.labels import strong_mids


@with_groups
def detect(
    context: typer.Context,
    files: options.Files,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            "-d",
            metavar="NAME",
            help="Detector, such as fmn10 or fmn10+tf:256.",
            show_default="that of --model, else fmn10",
        ),
    ] = None,
    model: options.Model = None,
    window: Annotated[
        float, seconds("Length of the windows that a recording is cut into.", high=LONGEST_WINDOW)
    ] = 10.0,
    hop: Annotated[float, seconds("Time from one window to the next.")] = 5.0,
    pieces: Annotated[
        bool,
        typer.Option(
            "--pieces", help="Use windows of 10 s that do not overlap, as EfficientSED does."
        ),
    ] = False,
    top: options.Top = 10,
    only: options.Only = None,
    groups: options.Groups = None,
    specific: options.Specific = False,
    outputs: OutputOptions = OutputOptions(),
    device: options.Device = "cpu",
    random_weights: options.RandomWeights = False,
    decoding: EventOptions = EventOptions(
        threshold=DEFAULT_DECODING.threshold,
        release=DEFAULT_DECODING.release,
        median=DEFAULT_DECODING.median,
    ),
) -> None:
    """Detect sound events in audio files, with onset and offset.

    Recordings may have any length. Times are multiples of the hop of the network's frames: 40 ms,
    or 320 ms with the networks of PANNs, such as cnn14_att.

    A run that writes to --output resumes when it is started again after an interruption. A file
    that cannot be processed does not stop the others: it is listed at the end, and the exit code
    is 1.
    """
    files = recordings_in(files)
    results = Results(outputs.format_, outputs.output, files, clock=outputs.clock)
    plot = outputs.plot
    if not pieces and hop > window:
        msg = f"The hop of {hop:g} s is longer than the window of {window:g} s, and leaves gaps."
        raise typer.BadParameter(msg, param_hint="--hop")
    found = Detector(
        detector,
        device,
        window=window,
        hop=hop,
        pieces=pieces,
        **options.weights(model, random=random_weights),
    )
    classes = options.classes(found.labels, only, groups)
    parameters = decoding.decoding(
        list(classes), found.thresholds, options.given_options(context), found.tuned_decoding
    )
    general = more_general(strong_mids()) if specific and not groups else {}
    pictures = names_of_recordings(files, ".png") if plot else {}

    def work(file: Path, report: Report) -> list[EventRow]:
        parts: Iterator[TimedScores] = (
            group_classes(part, classes) for part in reported(found.iter_frames(file), report)
        )
        if plot:
            joined = join_scores([*parts])
            log_mel = found.log_mel(read_audio(file, found.sample_rate).numpy())
            plot_timeline(plot / pictures[file], log_mel, joined, top)
            parts = iter([joined])
        rows = [EventRow.from_event(file, event) for event in events_in(parts, classes, parameters)]
        return most_specific(rows, general)

    kept = resumable(context, results, outputs.output)
    process(files, work, results, kept, outputs.jobs)
