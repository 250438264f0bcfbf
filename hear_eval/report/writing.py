"""Writing of a report as Markdown, CSV, a web page and pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from html import escape
from pathlib import Path

from hear_core.io.files import atomic_write
from hear_eval.report.leaderboard import ScoredModel, best_of_2021, categories
from hear_eval.report.page import render_page
from hear_eval.report.pictures import PICTURES, Picture, file_bytes, pictures
from hear_eval.report.results import FoundResults
from hear_eval.report.standings import (
    Standings,
    StandingsRow,
    compare_models,
    percent,
    remarks,
    score_source,
)

_COLUMNS = ("model", "task", "metric", "score", "std", "normalised", "category", "source")
_PICTURE_FILES = {f"{name}.{kind}" for name in PICTURES for kind in ("svg", "png")}
_SOURCE = (
    "Normalised scores are a score divided by the best of the challenge of 2021 in that task, in "
    "percent. Scores of other models are those of the HEAR leaderboard (https://hearbenchmark.com, "
    "Apache-2.0)."
)


def write_report(
    results: FoundResults, folder: Path, *, against: Sequence[ScoredModel] = (), draw: bool = True
) -> list[Path]:
    """Write ``report.md``, ``report.csv``, ``report.html``, and pictures as SVG and PNG.

    Args:
        results: Scores of the evaluated models.
        folder: Folder to write to. An older report in it is replaced completely, or not at all.
        against: Models to compare with, such as those of the leaderboard.
        draw: Whether to draw pictures.

    Returns:
        Paths of the files.

    Raises:
        ConfigError: `draw` is true, and matplotlib is not installed.
        FileError: A file cannot be written.
    """
    standings = compare_models(results.models, against)
    drawn = list(pictures(standings)) if draw and results.models else []
    sections = _sections(results)
    files = {
        "report.md": _markdown(standings, sections, drawn).encode(),
        "report.csv": _csv(standings).encode(),
        "report.html": render_page(standings, _lead(standings), sections, _SOURCE, drawn).encode(),
    }
    for picture in drawn:
        files |= {f"{picture.name}.{kind}": file_bytes(picture, kind) for kind in ("svg", "png")}
    with ExitStack() as stack:  # renames the finished files together when it closes
        for name, content in files.items():
            stack.enter_context(atomic_write(folder / name)).write_bytes(content)
    for name in _PICTURE_FILES - files.keys():
        (folder / name).unlink(missing_ok=True)
    return [folder / name for name in files]


def _lead(standings: Standings) -> list[str]:
    own, others = len(standings.own_rows), len(standings.rows) - len(standings.own_rows)
    beside = f", beside {others} of the leaderboard" if others else ""
    tasks = {task for row in standings.own_rows for task in row.model.scores}
    first = f"{_count(own, 'model')} evaluated on {_count(len(tasks), 'task')}{beside}."
    return [first, "Scores are in percent.", *remarks(standings)]


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


def _sections(results: FoundResults) -> dict[str, list[str]]:
    """Return the notes of a report by heading."""
    sections = {
        "Scores": list(results.notes),
        "Not evaluated yet": [
            f"{task.absolute().parent.name}: {task.name}" for task in results.waiting
        ],
        "Left out": list(results.problems),
    }
    return {heading: lines for heading, lines in sections.items() if lines}


def _markdown(
    standings: Standings, sections: Mapping[str, Sequence[str]], drawn: Sequence[Picture]
) -> str:
    parts = ["# HEAR report", *map(_text, _lead(standings))]
    if standings.means:
        parts += ["## Means", _means_table(standings)]
    parts += ["## Scores", _task_table(standings)]
    for picture in drawn:
        parts += [f"## {picture.title}", f"![{picture.title}]({picture.name}.svg)"]
    for heading, lines in sections.items():
        parts += [f"## {heading}", "\n".join(f"- {_text(line)}" for line in lines)]
    return "\n\n".join([*parts, _SOURCE]) + "\n"


def _means_table(standings: Standings) -> str:
    lines = [["model", "source", "tasks", *standings.means]]
    for row in standings.rows:
        name = _text(row.model.name)
        shown = [percent(row.mean(column)) for column in standings.means]
        own = not row.model.submitted
        lines.append(
            [
                f"**{name}**" if own else name,
                score_source(row.model),
                str(len(row.model.scores)),
                *shown,
            ]
        )
    return _table(lines, left=2)


def _task_table(standings: Standings) -> str:
    """Return a table of the evaluated tasks: scores, with normalised ones in brackets."""
    rows = standings.own_rows
    tasks = [task for task in standings.tasks if any(task in row.model.scores for row in rows)]
    facts = ["category", "best of 2021"] if standings.evaluated else []
    lines = [["task", *facts, *(_text(row.model.name) for row in rows)]]
    for task in tasks:
        known = [categories().get(task, ""), percent(best_of_2021().get(task))] if facts else []
        lines.append([_text(task), *known, *(_shown(row, task) for row in rows)])
    return _table(lines, left=2 if facts else 1)


def _shown(row: StandingsRow, task: str) -> str:
    if task not in row.model.scores:
        return ""
    score = row.model.scores[task]
    spread = f" ± {percent(score.std)}" if score.std is not None else ""
    share = f" ({percent(row.normalised[task])})" if task in row.normalised else ""
    return f"{percent(score.value)}{spread}{share}" + " (lower is better)" * score.lower_is_better


def _table(lines: Sequence[Sequence[str]], *, left: int) -> str:
    rule = ["---" if i < left else "---:" for i in range(len(lines[0]))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def _text(text: str) -> str:
    """Return a name without anything that Markdown takes for markup."""
    plain = escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{sign}" if sign in "\\|*`[]" else sign for sign in plain)


def _csv(standings: Standings) -> str:
    """Return a table with one line per score."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in standings.rows:
        for task in standings.tasks:
            if score := row.model.scores.get(task):
                normalised = row.normalised.get(task)
                writer.writerow(
                    [
                        row.model.name,
                        task,
                        score.metric,
                        round(score.value, 6),
                        "" if score.std is None else round(score.std, 6),
                        "" if normalised is None else round(normalised, 6),
                        categories().get(task, ""),
                        score_source(row.model),
                    ]
                )
    return file.getvalue()
