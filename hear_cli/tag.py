"""``hear tag``: what is heard in audio files."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from hear_cli import options
from hear_cli.tables import print_table
from hear_core.audio import read_audio
from hear_core.errors import AudioError, ConfigError, unknown
from hear_core.events import EventRule, find_events
from hear_core.labels import choose, group_scores, read_groups, read_thresholds
from hear_mn.tagger import EATagger


class Tag(NamedTuple):
    """A line of the output; times in seconds."""

    file: str
    start: float
    end: float
    label: str
    score: float


def _table(tags: Sequence[Tag]) -> None:
    rows = [[t.file, f"{t.start:.2f}", f"{t.end:.2f}", t.label, f"{t.score:.3f}"] for t in tags]
    print_table(Tag._fields, rows)


def _json(tags: Sequence[Tag]) -> str:
    return json.dumps([tag._asdict() for tag in tags], indent=1, ensure_ascii=False) + "\n"


def _csv(tags: Sequence[Tag]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([Tag._fields, *tags])
    return text.getvalue()


def _audacity(tags: Sequence[Tag]) -> str:
    """Return a label track: https://manual.audacityteam.org/man/importing_and_exporting_labels.html."""
    return "".join(f"{t.start:.6f}\t{t.end:.6f}\t{t.label}\n" for t in tags)


FORMATS: Mapping[str, Callable[[Sequence[Tag]], str]] = {
    "json": _json,
    "csv": _csv,
    "audacity": _audacity,
}


def tag(
    files: Annotated[list[Path], typer.Argument(help="Audio files.")],
    backbone: options.Backbones = ["mn10_as"],  # noqa: B006 - typer reads it
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
    only: Annotated[
        str | None, typer.Option(help="Classes or groups to look for, such as 'Speech,Music'.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="YAML with groups of classes: 'Rail: [Train, Subway]'.")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help=f"table, {', '.join(FORMATS)}.")
    ] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write to; else it is printed.")
    ] = None,
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
    if format_ not in ("table", *FORMATS):
        raise ConfigError(unknown("format", format_, ["table", *FORMATS]))
    if output and format_ == "table":
        msg = f"a table is for reading; write {output} with --format {', '.join(FORMATS)}"
        raise ConfigError(msg)
    if (events or plot) and window is None:
        window = 1.0
    tagger = EATagger(backbone, device, **options.weights(model, random=random_weights))
    classes = _classes(tagger.labels, only, groups)
    own = read_thresholds(thresholds, list(classes)) if thresholds else None
    rule = EventRule(
        threshold=threshold,
        thresholds=own,
        release=release,
        smoothing=smoothing,
        merge_gap=merge_gap,
        min_duration=min_duration,
    )

    tags: list[Tag] = []
    failures = 0
    for file in files:
        try:
            waveform = read_audio(file, tagger.sample_rate).numpy()
        except AudioError as error:
            typer.echo(f"hear: {error}", err=True)
            failures += 1
            continue
        if window is None:
            whole = group_scores(tagger.tag(waveform)[0][None], tagger.labels, classes)
            end = np.array([len(waveform) / tagger.sample_rate])
            tags += _highest(str(file), list(classes), whole, np.zeros(1), end, top)
            continue
        heard = tagger.tag_audio_window(waveform, window, hop or window)
        scores = group_scores(heard.scores, tagger.labels, classes)
        if events:
            found = find_events(list(classes), rule, scores, heard.onset, heard.offset)
            tags += [Tag(str(file), e.onset, e.offset, e.label, round(e.score, 6)) for e in found]
        else:
            tags += _highest(str(file), list(classes), scores, heard.start, heard.end, top)
        if plot:
            from hear_cli.timeline import draw

            draw(plot / f"{file.stem}.png", tagger, waveform, heard, scores, list(classes), top)

    if format_ == "table":
        _table(tags)
    elif output:
        output.write_text(FORMATS[format_](tags), encoding="utf-8")
    else:
        sys.stdout.write(FORMATS[format_](tags))
    if failures:
        typer.echo(f"hear: {failures} of {len(files)} files could not be read", err=True)
        raise typer.Exit(1)


def _classes(
    labels: Sequence[str], only: str | None, groups: Path | None
) -> Mapping[str, Sequence[str]]:
    """Return what is looked for, by name: groups of classes, or single ones."""
    known = read_groups(groups, labels) if groups else {label: [label] for label in labels}
    return {name: known[name] for name in choose(only, list(known))} if only else known


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
