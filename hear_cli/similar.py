"""``hear similar``: recordings that sound like examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hear_cli import options
from hear_cli.numbers import number
from hear_cli.outputs import Results
from hear_eval.embeddings.similarity import embed_queries, most_similar, open_embeddings


def similar(
    queries: Annotated[
        list[Path],
        typer.Argument(metavar="QUERIES", help="Recordings of the sound to look for.", exists=True),
    ],
    embeddings: Annotated[
        Path,
        typer.Argument(
            metavar="EMBEDDINGS",
            help="Folder of embeddings that hear embed wrote.",
            exists=True,
            file_okay=False,
        ),
    ],
    unlike: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Recording of a sound that is not wanted; repeat it for several.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    top: Annotated[int, number("Number of results.", 1, 1_000_000)] = 50,
    model: options.Model = None,
    format_: options.Format = "table",
    output: options.Output = None,
) -> None:
    """Find the recordings, or the moments in them, that sound most like examples.

    The search is exact, by the cosine similarity of embeddings. The results can be listened to
    with hear clips, to which the folder that was embedded is given as --audio.
    """
    table = open_embeddings(embeddings)
    rejected = list(unlike or [])
    found = embed_queries(table, [*queries, *rejected], str(model or ""))
    like, others = np.split(found, [len(queries)])
    rows = most_similar(table, like, others, top)
    names = {row.file for row in rows}
    if format_ == "audacity" and len(names) > 1:
        msg = f"A track of Audacity is of one recording, and {len(names)} are found; write csv."
        raise typer.BadParameter(msg, param_hint="--format")
    results = Results(format_, output, [Path(row.file) for row in rows[:1]])
    with results.opened():
        for row in rows:
            results.add(Path(row.file), [row])
