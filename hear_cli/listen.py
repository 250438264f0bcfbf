"""``hear listen``: events in a live source."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, BinaryIO

import numpy as np
import typer

from hear_cli import options
from hear_core.audio.reading import resample_chunks
from hear_core.events.decoding import EventDecoder, EventDecoding
from hear_core.events.event import Event
from hear_core.events.timed_scores import TimedScores
from hear_core.zoo.labels import group_scores, read_thresholds, select_classes
from hear_mn.streaming import TagStream
from hear_mn.tagger import EATagger


def listen(
    backbone: options.Backbones = None,
    window: Annotated[float, typer.Option(help="Seconds that are heard at a time.")] = 2.0,
    hop: Annotated[float, typer.Option(help="Seconds between windows.")] = 0.5,
    threshold: options.Threshold = 0.3,
    thresholds: options.Thresholds = None,
    release: options.Release = 0.8,
    smoothing: options.Smoothing = 2,
    merge_gap: options.MergeGap = 1,
    min_duration: options.MinDuration = 0,
    only: Annotated[
        str | None, typer.Option(help="Classes to look for, such as 'Speech,Music'.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line.")] = False,
    rate: Annotated[int, typer.Option(help="Of the sound that comes in, in Hz.")] = 32000,
    model: options.Model = None,
    random_weights: options.RandomWeights = False,
) -> None:
    """Print events as they end in sound that comes in on standard input.

    The sound is raw PCM: mono, signed 16 bit, little-endian. To listen to a stream, or to a
    microphone that ffmpeg knows:

    ffmpeg -i SOURCE -ac 1 -ar 32000 -f s16le - | hear listen
    """
    tagger = EATagger(backbone or None, **options.weights(model, random=random_weights))
    stream = TagStream(tagger, window, hop)
    names = select_classes(only, tagger.labels) if only else list(tagger.labels)
    own = read_thresholds(thresholds, names) if thresholds else None
    rule = EventDecoding(
        threshold=threshold,
        thresholds=own,
        release=release,
        smoothing=smoothing,
        merge_gap=merge_gap,
        min_duration=min_duration,
    )
    finder = EventDecoder(names, rule)

    def find(heard: TimedScores) -> list[Event]:
        scores = group_scores(heard.scores, tagger.labels, {name: [name] for name in names})
        return finder.feed(scores, heard.onset, heard.offset)

    for chunk in resample_chunks(_chunks(sys.stdin.buffer), rate, tagger.sample_rate):
        _print(find(stream.feed(chunk)), as_json=as_json)
    _print(find(stream.finish()), as_json=as_json)
    _print(finder.finish(), as_json=as_json)


def _chunks(source: BinaryIO) -> Iterator[np.ndarray]:
    """Yield what has come in, as soon as it has; samples may be cut in two on the way."""
    left = b""
    while data := source.read1(1 << 16):  # type: ignore[attr-defined]
        left += data
        whole = len(left) // 2 * 2
        yield np.frombuffer(left[:whole], "<i2").astype(np.float32) / 32768
        left = left[whole:]


def _print(events: list[Event], *, as_json: bool) -> None:
    for e in events:
        line = f"{e.onset:9.2f} {e.offset:9.2f}  {e.score:.3f}  {e.label}"
        typer.echo(json.dumps(e._asdict(), ensure_ascii=False) if as_json else line)
    sys.stdout.flush()
