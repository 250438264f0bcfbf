"""A report of scores: Markdown, a table for programs, a page for people, and pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from hear_eval.report.leaderboard import Model, best, categories
from hear_eval.report.page import page
from hear_eval.report.pictures import Picture, file_bytes, pictures
from hear_eval.report.results import Results
from hear_eval.report.standings import MEANS, Row, Standings, compare, percent, remarks, source

_COLUMNS = ("model", "task", "metric", "score", "std", "normalised", "category", "source")
_SOURCE = (
    "Normalised scores are a score divided by the best of the challenge of 2021 in that task, in "
    "percent. Scores of other models are those of the HEAR leaderboard (https://hearbenchmark.com, "
    "Apache-2.0)."
)


def write_report(
    results: Results, folder: Path, *, against: Sequence[Model] = (), draw: bool = True
) -> list[Path]:
    """Write ``report.md``, ``report.csv``, ``report.html``, and pictures as SVG and PNG.

    Args:
        results: What was evaluated.
        folder: To write to; what is there of an older report is replaced.
        against: Models to compare with, such as those of the leaderboard.
        draw: With pictures.

    Returns:
        The files.

    Raises:
        ConfigError: Pictures are wanted, and matplotlib is not installed.
    """
    standings = compare(results.models, against)
    drawn = list(pictures(standings)) if draw and results.models else []
    said = _sections(results)
    files = {
        "report.md": _markdown(standings, said, drawn).encode(),
        "report.csv": _csv(standings).encode(),
        "report.html": page(standings, _lead(standings), said, _SOURCE, drawn).encode(),
    }
    for picture in drawn:
        files |= {f"{picture.name}.{kind}": file_bytes(picture, kind) for kind in ("svg", "png")}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def _lead(standings: Standings) -> list[str]:
    own, others = len(standings.own_rows), len(standings.rows) - len(standings.own_rows)
    beside = f", beside {others} of the leaderboard" if others else ""
    tasks = {task for row in standings.own_rows for task in row.model.scores}
    first = f"{_count(own, 'model')} evaluated on {_count(len(tasks), 'task')}{beside}."
    return [first, *remarks(standings)]


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


def _sections(results: Results) -> dict[str, list[str]]:
    """Return what is said besides the numbers, by its heading."""
    sections = {
        "Scores": list(results.notes),
        "Not evaluated yet": [
            f"{task.absolute().parent.name}: {task.name}" for task in results.waiting
        ],
        "Left out": list(results.problems),
    }
    return {heading: lines for heading, lines in sections.items() if lines}


def _markdown(
    standings: Standings, said: Mapping[str, Sequence[str]], drawn: Sequence[Picture]
) -> str:
    parts = ["# HEAR report", *map(_text, _lead(standings)), "## Means", _means_table(standings)]
    parts += ["## Scores", _task_table(standings)]
    for picture in drawn:
        parts += [f"## {picture.title}", f"![{picture.title}]({picture.name}.svg)"]
    for heading, lines in said.items():
        parts += [f"## {heading}", "\n".join(f"- {_text(line)}" for line in lines)]
    return "\n\n".join([*parts, _SOURCE]) + "\n"


def _means_table(standings: Standings) -> str:
    lines = [["model", "source", "tasks", *MEANS]]
    for row in standings.rows:
        name = _text(row.model.name)
        shown = [percent(row.mean(column)) for column in MEANS]
        own = not row.model.submitted
        lines.append(
            [f"**{name}**" if own else name, source(row.model), str(len(row.normalised)), *shown]
        )
    return _table(lines, left=2)


def _task_table(standings: Standings) -> str:
    """Return the tasks that were evaluated here: scores, and normalised ones in brackets."""
    rows = standings.own_rows
    tasks = [task for task in standings.tasks if any(task in row.model.scores for row in rows)]
    lines = [["task", "category", "best of 2021", *(_text(row.model.name) for row in rows)]]
    for task in tasks:
        divisor = f"{best()[task]:.4f}" if task in best() else ""
        shown = [_shown(row, task) for row in rows]
        lines.append([_text(task), categories().get(task, ""), divisor, *shown])
    return _table(lines, left=2)


def _shown(row: Row, task: str) -> str:
    if task not in row.model.scores:
        return ""
    score = row.model.scores[task]
    spread = f" ± {score.std:.4f}" if score.std is not None else ""
    share = f" ({percent(row.normalised[task])})" if task in row.normalised else ""
    return f"{score.value:.4f}{spread}{share}" + " (lower is better)" * score.lower_is_better


def _table(lines: Sequence[Sequence[str]], *, left: int) -> str:
    rule = ["---" if i < left else "---:" for i in range(len(lines[0]))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def _text(text: str) -> str:
    """Write a name so that Markdown takes none of it for markup."""
    plain = escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{sign}" if sign in "\\|*`[]" else sign for sign in plain)


def _csv(standings: Standings) -> str:
    """Return one line for every score."""
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
                        source(row.model),
                    ]
                )
    return file.getvalue()
