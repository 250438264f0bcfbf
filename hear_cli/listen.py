"""``hear listen``: events in live audio on standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, BinaryIO

import numpy as np
import typer

from hear_cli import options
from hear_cli.option_groups import with_groups
from hear_cli.options import EventOptions, seconds
from hear_core.audio.reading import resample_chunks
from hear_core.errors import AudioError
from hear_core.events.decoding import EventDecoder
from hear_core.events.event import Event
from hear_core.events.timed_scores import TimedScores
from hear_core.plugins.timed_model import group_classes
from hear_mn.streaming import TagStream
from hear_mn.tagger import MAX_WINDOW, EATagger

_CONTAINERS = {b"RIFF": "wav", b"RF64": "wav", b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3"}


@with_groups
def listen(
    context: typer.Context,
    backbone: options.Backbones = None,
    model: options.Model = None,
    sample_rate: options.SampleRate = 32000,
    window: Annotated[
        float | None,
        seconds(
            "Length of the windows that are tagged.",
            high=MAX_WINDOW,
            show_default="that of the checkpoint, else 2",
        ),
    ] = None,
    hop: Annotated[float, seconds("Time from one window to the next.")] = 0.5,
    only: options.Only = None,
    groups: options.Groups = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every event as a line of JSON.")
    ] = False,
    device: options.Device = "cpu",
    random_weights: options.RandomWeights = False,
    decoding: EventOptions = EventOptions(threshold=0.3, release=0.8, smoothing="2", merge_gap=1.0),
) -> None:
    """Print events in live audio on standard input, as they end.

    The audio is raw PCM: mono, signed 16 bit, little-endian. ffmpeg makes it of any stream, file or
    microphone:

    ffmpeg -i SOURCE -ac 1 -ar 32000 -f s16le - | hear listen
    """
    tagger = EATagger(backbone or None, device, **options.weights(model, random=random_weights))
    stream = TagStream(tagger, window or tagger.window or 2.0, hop)
    classes = options.classes(tagger.labels, only, groups)
    parameters = decoding.decoding(list(classes), tagger.thresholds, options.given_options(context))
    decoder = EventDecoder(list(classes), parameters)

    def events_of(found: TimedScores) -> list[Event]:
        part = group_classes(found, classes)
        return decoder.feed(part.scores, part.onset, part.offset)

    for chunk in resample_chunks(_chunks(sys.stdin.buffer), sample_rate, tagger.sample_rate):
        _print(events_of(stream.feed(chunk)), as_json=as_json)
    _print([*events_of(stream.finish()), *decoder.finish()], as_json=as_json)


def _chunks(source: BinaryIO) -> Iterator[np.ndarray]:
    """Yield samples as soon as they arrive; a read may end within a sample.

    Raises:
        AudioError: The stream is an audio file with a header, not raw samples.
    """
    left, begun = b"", False
    while data := source.read1(1 << 16):  # type: ignore[attr-defined]
        left += data
        if not begun and len(left) >= 4:
            begun = True
            for start, name in _CONTAINERS.items():
                if left.startswith(start):
                    msg = (
                        f"standard input is a {name} file, and raw samples are needed: convert it "
                        f"with 'ffmpeg -i - -ac 1 -ar 32000 -f s16le - | hear listen', or use "
                        f"'hear tag FILE --events'"
                    )
                    raise AudioError(msg)
        complete = len(left) // 2 * 2
        yield np.frombuffer(left[:complete], "<i2").astype(np.float32) / 32768
        left = left[complete:]


def _print(events: list[Event], *, as_json: bool) -> None:
    for event in events:
        line = f"{event.onset:9.2f} {event.offset:9.2f}  {event.score:.3f}  {event.label}"
        typer.echo(json.dumps(event._asdict(), ensure_ascii=False) if as_json else line)
    sys.stdout.flush()
