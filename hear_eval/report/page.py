"""The web page of a report: one file without dependencies, to sort and filter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template

from hear_eval.report.leaderboard import CATEGORIES, categories
from hear_eval.report.pictures import Picture, inline
from hear_eval.report.standings import Standings, StandingsRow, percent, score_source

_OWN = "own"


def render_page(
    standings: Standings,
    lead: Sequence[str],
    sections: Mapping[str, Sequence[str]],
    footer: str,
    drawn: Sequence[Picture],
) -> str:
    """Return the page as HTML.

    Args:
        standings: Models in comparison.
        lead: Paragraphs of introduction.
        sections: Notes by heading.
        footer: Source of the numbers.
        drawn: Pictures of the comparison.
    """
    template = resources.files("hear_eval.report").joinpath("page.html").read_text(encoding="utf-8")
    groups = _groups(standings)
    return Template(template).substitute(
        lead="".join(f"<p>{escape(text)}</p>" for text in lead),
        switches="".join(_switch(name) for name, tasks in groups if tasks),
        means=_means_head(len(standings.means)),
        groups="".join(_group_head(name, len(tasks)) for name, tasks in groups if tasks),
        heads="".join(_heads(standings, groups)),
        rows="\n".join(_row(row, standings, groups) for row in standings.rows),
        pictures="\n".join(map(_figure, drawn)),
        sections="\n".join(_section(heading, lines) for heading, lines in sections.items()),
        footer=escape(footer),
    )


def _groups(standings: Standings) -> list[tuple[str, list[str]]]:
    """Return the tasks by the group of their columns."""
    groups = [
        (name, [task for task in standings.tasks if categories().get(task) == name])
        for name in CATEGORIES
    ]
    return [(_OWN, list(standings.own_tasks)), *groups]


def _means_head(columns: int) -> str:
    if not columns:
        return ""
    return f'<th scope="colgroup" colspan="{columns}" class="mean first">means, normalised</th>'


def _switch(name: str) -> str:
    return f'<label><input type="checkbox" data-group="{name}" checked> {name} tasks</label>\n'


def _group_head(name: str, columns: int) -> str:
    return f'<th scope="colgroup" colspan="{columns}" class="{name} first">{name} tasks</th>'


def _heads(standings: Standings, groups: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Return the heads of all columns but the first two; the table is sorted by one of them."""
    columns = standings.means
    heads = [_head("tasks", "count")]
    for name in columns:
        first = " first" * (name == columns[0])
        order = "descending" if name == columns[0] and standings.evaluated else "none"
        heads.append(_head(name, f"mean{first}", order))
    for group, tasks in groups:
        heads += [_head(task, f"{group}{' first' * (task == tasks[0])}") for task in tasks]
    return heads


def _head(name: str, kind: str, order: str = "none") -> str:
    button = f'<button type="button">{_broken(name)}</button>'
    return f'<th scope="col" class="{kind}" aria-sort="{order}">{button}</th>'


def _broken(name: str) -> str:
    """Escape a name, and let lines break between its parts."""
    return re.sub("([._/])", r"\1<wbr>", escape(name))


def _row(
    row: StandingsRow, standings: Standings, groups: Sequence[tuple[str, Sequence[str]]]
) -> str:
    name, where = _broken(row.model.name), escape(score_source(row.model))
    if row.model.url:
        name = f'<a href="{escape(row.model.url)}" rel="noreferrer">{name}</a>'
    kind = "other" if row.model.submitted else "own-row"
    columns, count = standings.means, len(row.model.scores)
    cells = [f'<td class="count" data-value="{count}">{count}</td>']
    for column in columns:
        first = " first" * (column == columns[0])
        cells.append(_cell(f"mean{first}", row.mean(column)))
    for group, tasks in groups:
        cells += [
            _task_cell(row, task, f"{group}{' first' * (task == tasks[0])}") for task in tasks
        ]
    return (
        f'<tr class="{kind}"><th scope="row">{name}</th>'
        f'<td class="source">{where}</td>{"".join(cells)}</tr>'
    )


def _cell(kind: str, value: float | None, more: str = "") -> str:
    if value is None:
        return f'<td class="{kind}"{more}></td>'
    shade = f' style="--share:{max(0.0, min(100.0, 100 * value)):.1f}%"'
    return f'<td class="{kind}" data-value="{value:.6f}"{shade}{more}>{percent(value)}</td>'


def _task_cell(row: StandingsRow, task: str, kind: str) -> str:
    """Return a cell with a score in percent, normalised if possible."""
    score = row.model.scores.get(task)
    if score is None:
        return _cell(kind, None)
    spread = f" ± {score.std:.4f}" if score.std is not None else ""
    lower = ", lower is better" if score.lower_is_better else ""
    title = escape(f"{task}: {score.value:.4f}{spread} {score.metric}".strip() + lower)
    more = f' data-raw="{score.value:.6f}" title="{title}"'
    return _cell(kind, row.normalised.get(task, score.value), more)


def _figure(picture: Picture) -> str:
    return (
        f"<figure><h2>{escape(picture.title)}</h2>"
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(picture.title)}">'
        f"{inline(picture)}</div></figure>"
    )


def _section(heading: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<section><h2>{escape(heading)}</h2><ul>{items}</ul></section>"
