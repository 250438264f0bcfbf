"""``hear tag``: what is heard in audio files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hear_cli import options
from hear_cli.formats import FORMATS, Tag, check_format, write
from hear_cli.recordings import Recordings
from hear_core.events.decoding import EventDecoding, decode_events
from hear_core.zoo.labels import group_scores, read_thresholds
from hear_mn.tagger import EATagger


def tag(
    files: Annotated[list[Path], typer.Argument(help="Audio files.")],
    backbone: options.Backbones = None,
    window: Annotated[
        float | None, typer.Option(help="Tag windows of so many seconds, not the file as a whole.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Seconds between windows; default: the window.")
    ] = None,
    events: Annotated[
        bool, typer.Option("--events", help="Join windows to events, with the options below.")
    ] = False,
    threshold: options.Threshold = 0.3,
    thresholds: options.Thresholds = None,
    release: options.Release = 0.8,
    smoothing: options.Smoothing = 1,
    merge_gap: options.MergeGap = 0,
    min_duration: options.MinDuration = 0,
    top: Annotated[int, typer.Option(help="Classes to name for a file or window.")] = 10,
    only: options.Only = None,
    groups: options.Groups = None,
    format_: Annotated[
        str, typer.Option("--format", help=f"table, {', '.join(FORMATS)}.")
    ] = "table",
    output: options.Output = None,
    plot: Annotated[
        Path | None, typer.Option(help="Folder for a picture of every file: log-mel and classes.")
    ] = None,
    model: options.Model = None,
    device: options.Device = "cpu",
    random_weights: options.RandomWeights = False,
) -> None:
    """Name what is heard in audio files: in each as a whole, in windows, or as events in time.

    Files that cannot be read are reported and left out; the exit code is 1 then.
    """
    check_format(format_, output)
    if (events or plot) and window is None:
        window = 1.0
    tagger = EATagger(backbone or None, device, **options.weights(model, random=random_weights))
    classes = options.classes(tagger.labels, only, groups)
    own = read_thresholds(thresholds, list(classes)) if thresholds else None
    rule = EventDecoding(
        threshold=threshold,
        thresholds=own,
        release=release,
        smoothing=smoothing,
        merge_gap=merge_gap,
        min_duration=min_duration,
    )

    tags: list[Tag] = []
    recordings = Recordings(files, tagger.sample_rate)
    for file, waveform in recordings:
        if window is None:
            whole = group_scores(tagger.tag(waveform)[0][None], tagger.labels, classes)
            end = np.array([len(waveform) / tagger.sample_rate])
            tags += _highest(str(file), list(classes), whole, np.zeros(1), end, top)
            continue
        heard = tagger.windows(waveform, window, hop or window)
        scores = group_scores(heard.scores, tagger.labels, classes)
        if events:
            found = decode_events(list(classes), rule, scores, heard.onset, heard.offset)
            tags += [Tag.of(file, event) for event in found]
        else:
            tags += _highest(str(file), list(classes), scores, heard.start, heard.end, top)
        if plot:
            from hear_cli.timeline import draw

            picture = plot / f"{file.stem}.png"
            edges = np.append(heard.onset, heard.offset[-1])
            draw(picture, tagger.log_mel(waveform), edges, scores, list(classes), top)

    write(tags, format_, output)
    recordings.finish()


def _highest(
    file: str,
    names: Sequence[str],
    scores: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    top: int,
) -> Iterator[Tag]:
    for row, begin, stop in zip(scores, start.tolist(), end.tolist(), strict=True):
        for index in np.argsort(-row, kind="stable")[:top].tolist():
            yield Tag(file, begin, stop, names[index], round(float(row[index]), 6))
