"""``hear clips``: the best moments of every class as audio files."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated

import soundfile
import typer

from hear_cli.failures import describe_failure
from hear_cli.numbers import number
from hear_cli.options import seconds
from hear_cli.outputs import check_output_folder
from hear_cli.progress import progress_bar
from hear_core.audio.excerpts import faded, read_excerpt
from hear_core.audio.spectrogram_image import spectrogram_png
from hear_core.events.formats import EventRow
from hear_core.events.found_events import read_event_rows
from hear_core.io.files import atomic_write
from hear_core.io.names import shortened

_INDEX, _PAGE = "clips.csv", "index.html"


def clips(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS",
            help="Files of events that hear tag or hear detect wrote, or tables of Raven or DCASE.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for the clips, one folder per class, and their table.",
            callback=check_output_folder,
        ),
    ],
    top: Annotated[
        int, number("Number of clips of every class, the highest scores first.", 1, 1_000_000)
    ] = 20,
    padding: Annotated[
        float, seconds("Time before and after each event that is in its clip.", 0)
    ] = 1.0,
    longest: Annotated[
        float, seconds("Length of the longest clip; of a longer event, the beginning is taken.")
    ] = 30.0,
    audio: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder that the names of the recordings are relative to.",
            show_default="the working directory",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Cut the best moments of every class out of the recordings, to listen to them.

    A clip has the sample rate and the channels of its recording, and fades in and out. The folder
    gets a table of the clips, clips.csv, and a page to listen to them in a browser, index.html,
    where each can be accepted or rejected.
    """
    if longest <= padding:
        msg = (
            f"{longest:g} s hold none of an event after {padding:g} s of padding; lower --padding."
        )
        raise typer.BadParameter(msg, param_hint="--longest")
    events = [row for path in results for row in read_event_rows(path)]
    chosen = list(highest_of_labels(events, top))
    if not chosen:
        msg = f"There are no events in {', '.join(map(str, results))}."
        raise typer.BadParameter(msg, param_hint="RESULTS")
    folders = _folders(row.label for _, row in chosen)
    written: list[tuple[str, EventRow]] = []
    failures: dict[str, str] = {}
    with progress_bar() as progress:
        bar = progress.add_task("", total=len(chosen), now="")
        for rank, row in chosen:
            name = _name(folders[row.label], rank, row)
            try:
                _cut((audio or Path()) / row.file, row, output / name, padding, longest)
            except Exception as error:  # whatever it is, the other clips are not to blame
                failures[row.file] = describe_failure(error)
            else:
                written.append((name, row))
            progress.advance(bar)
    with (
        atomic_write(output / _INDEX) as part,
        part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as table,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["clip", *EventRow._fields])
        writer.writerows([name, *row] for name, row in written)
    with atomic_write(output / _PAGE) as part:
        part.write_text(page_of(written), encoding="utf-8")
    typer.echo(f"{len(written)} clips are in {output}: open {output / _PAGE} to listen to them")
    if failures:
        typer.echo(f"hear: {len(failures)} recordings could not be read:", err=True)
        for file, reason in failures.items():
            typer.echo(f"  {reason if file in reason else f'{file}: {reason}'}", err=True)
        raise typer.Exit(1)


def highest_of_labels(rows: Iterable[EventRow], top: int) -> Iterator[tuple[int, EventRow]]:
    """Yield the rank, from 1, and the row of the highest scores of every class.

    Args:
        rows: Events of any recordings.
        top: Number of rows of every class.
    """
    ranks = Counter[str]()
    for row in sorted(rows, key=lambda row: (row.label, -row.score, row.file, row.onset)):
        if ranks[row.label] < top:
            ranks[row.label] += 1
            yield ranks[row.label], row


def _name(folder: str, rank: int, row: EventRow) -> str:
    """Return the path of a clip below the folder of outputs."""
    minutes, rest = divmod(round(row.onset, 2), 60)
    place = f"{int(minutes):02d}m{rest:05.2f}s"
    name = f"{rank:03d}_{row.score:.3f}_{Path(row.file).stem}_{place}.wav"
    return f"{folder}/{shortened(_plain(name), 32)}"


def _folders(labels: Iterable[str]) -> dict[str, str]:
    """Return a folder for every class, which differ even where names cannot hold the difference."""
    folders: dict[str, str] = {}
    taken = set[str]()
    for label in sorted(set(labels)):
        folder = shortened(_plain(label), 32)
        if folder.casefold() in taken:
            digest = hashlib.sha256(label.encode(errors="backslashreplace")).hexdigest()
            folder = shortened(f"{folder}-{digest[:8]}", 32)
        taken.add(folder.casefold())
        folders[label] = folder
    return folders


def _plain(text: str) -> str:
    """Return text with only characters that every file system takes in a name."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", text).strip(" .") or "_"


def page_of(written: Sequence[tuple[str, EventRow]]) -> str:
    """Return the page on which clips are listened to.

    Args:
        written: Path of each clip, relative to the page, and its event.
    """
    rows = [
        {"clip": name, **row._asdict(), "when": " ".join(row.clock()).strip()[:19]}
        for name, row in written
    ]
    # In a script, "</" would end it.
    text = json.dumps(rows).replace("</", "<\\/")
    template = resources.files("hear_cli").joinpath("clips.html").read_text(encoding="utf-8")
    return template.replace("__ROWS__", text)


def _cut(recording: Path, row: EventRow, path: Path, padding: float, longest: float) -> None:
    end = min(row.offset + padding, row.onset - padding + longest)
    samples, sample_rate = read_excerpt(recording, row.onset - padding, max(end, row.onset))
    with atomic_write(path.with_suffix(".png")) as part:
        part.write_bytes(spectrogram_png(samples, sample_rate))
    with atomic_write(path) as part:
        soundfile.write(part, faded(samples, sample_rate), sample_rate, "PCM_16", format="WAV")
