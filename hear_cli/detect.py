"""``hear detect``: sound events in audio files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hear_cli import options
from hear_cli.formats import FORMATS, Tag, check_format, write
from hear_cli.recordings import Recordings
from hear_core.events.decoding import EventDecoding, decode_events
from hear_core.zoo.labels import group_scores, read_thresholds
from hear_sed.detector import Detector


def detect(
    files: Annotated[list[Path], typer.Argument(help="Audio files.")],
    detector: Annotated[
        str | None, typer.Option("--detector", "-d", help="Such as 'fmn10' or 'fmn10+tf:256'.")
    ] = None,
    threshold: options.Threshold = 0.5,
    thresholds: options.Thresholds = None,
    release: options.Release = 1.0,
    median: Annotated[
        int, typer.Option(help="Scores are the median of so many frames, an odd number.")
    ] = 9,
    merge_gap: options.MergeGap = 0,
    min_duration: options.MinDuration = 0,
    only: options.Only = None,
    groups: options.Groups = None,
    window: Annotated[float, typer.Option(help="Seconds that are heard at a time.")] = 10.0,
    hop: Annotated[float, typer.Option(help="Seconds between windows.")] = 5.0,
    pieces: Annotated[
        bool, typer.Option("--pieces", help="Hear pieces of 10 s one by one, as EfficientSED does.")
    ] = False,
    format_: Annotated[
        str, typer.Option("--format", help=f"table, {', '.join(FORMATS)}.")
    ] = "table",
    output: options.Output = None,
    plot: Annotated[
        Path | None, typer.Option(help="Folder for a picture of every file: log-mel and classes.")
    ] = None,
    top: Annotated[int, typer.Option(help="Classes to show in a picture.")] = 10,
    model: options.Model = None,
    device: options.Device = "cpu",
    random_weights: options.RandomWeights = False,
) -> None:
    """Find sound events in audio files of any length: what sounds, from when to when.

    Times are exact to a frame of 40 ms. Files that cannot be read are reported and left out; the
    exit code is 1 then.
    """
    check_format(format_, output)
    found = Detector(
        detector,
        device,
        window=window,
        hop=hop,
        pieces=pieces,
        **options.weights(model, random=random_weights),
    )
    classes = options.classes(found.labels, only, groups)
    rule = EventDecoding(
        threshold=threshold,
        thresholds=read_thresholds(thresholds, list(classes)) if thresholds else None,
        release=release,
        median=median,
        merge_gap=merge_gap,
        min_duration=min_duration,
    )
    tags: list[Tag] = []
    recordings = Recordings(files, found.sample_rate)
    for file, waveform in recordings:
        heard = found.frames(waveform)
        scores = group_scores(heard.scores, found.labels, classes)
        events = decode_events(list(classes), rule, scores, heard.onset, heard.offset)
        tags += [Tag.of(file, event) for event in events]
        if plot:
            from hear_cli.timeline import draw

            edges = np.append(heard.onset, heard.offset[-1])
            picture = plot / f"{file.stem}.png"
            draw(picture, found.log_mel(waveform), edges, scores, list(classes), top)
    write(tags, format_, output)
    recordings.finish()
