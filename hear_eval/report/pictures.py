"""Pictures of a report: scores by category and by task."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.util import find_spec
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from hear_core.errors import ConfigError
from hear_eval.report.leaderboard import CATEGORIES, categories, means
from hear_eval.report.standings import Standings, StandingsRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Models of the leaderboard that are drawn beside evaluated ones: the best of 2021, the best since
# then with all tasks, the transformer that taught our networks, and one of these.
REFERENCES = (
    "GURA Fuse Cat H+w+C",
    "RedRice ced_base",
    "CP-JKU PaSST base",
    "CP-JKU mn40_as (e1+l+all_se)",
)
PICTURES = ("categories", "tasks")
"""Names of the pictures."""

_MOST = 8
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8a63d2", "#b59b00")
_GREYS = ("#6f7680", "#8f959d", "#adb2b9", "#c9cdd2")
# On the web page, these become the colours of its text, lines and background, light or dark.
_INK, _LINE, _PAPER = "#1d2126", "#d3d8de", "#ffffff"
_PAGE_COLOURS = {_INK: "currentColor", _LINE: "var(--line)", _PAPER: "var(--paper)"}


class Picture(NamedTuple):
    """A picture, its title and a description in words; the figure is of matplotlib."""

    name: str
    title: str
    description: str
    figure: Figure


class _Bars(NamedTuple):
    """The bars of a model: normalised scores by task, and scores in the user's own tasks.

    The deviations are those over folds, in the unit of the scores.
    """

    label: str
    colour: str
    scores: dict[str, float]
    raw: dict[str, float]
    deviations: dict[str, float]


def pictures(standings: Standings) -> Iterator[Picture]:
    """Draw models in comparison; scores by category only with a task of HEAR.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        msg = "the pictures of a report need matplotlib: install the extra 'plot'"
        raise ConfigError(msg)
    drawn = _drawn(standings)
    if standings.evaluated:
        yield _by_category(standings, drawn)
    yield _by_task(standings, drawn)


def file_bytes(picture: Picture, kind: str) -> bytes:
    """Return a picture as a file, ``svg`` or ``png``; the same picture gives the same bytes."""
    from matplotlib import rc_context

    file = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None, "Title": picture.title} if kind == "svg" else {}
    with rc_context({"svg.hashsalt": picture.name, "svg.fonttype": "none"}):
        picture.figure.savefig(file, format=kind, metadata=metadata, dpi=120)
    return file.getvalue()


def inline(picture: Picture) -> str:
    """Return a picture as an element of the web page, which scales, and adapts to dark mode."""
    text = file_bytes(picture, "svg").decode()
    text = text[text.index("<svg") :]
    body = text[text.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<title>.*?</title>", "", body, flags=re.DOTALL)
    for colour, on_page in _PAGE_COLOURS.items():
        body = body.replace(colour, on_page)
    # Ids must be unique on a page with several pictures.
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{picture.name}-", body)
    (box,) = re.findall(r'viewBox="[^"]*"', text[: text.index(">")])
    return (
        f'<svg {box} role="img" aria-labelledby="{picture.name}-title"'
        f' aria-describedby="{picture.name}-desc">'
        f'<title id="{picture.name}-title">{escape(picture.title)}</title>'
        f'<desc id="{picture.name}-desc">{escape(picture.description)}</desc>{body}'
    )


def _drawn(standings: Standings) -> list[_Bars]:
    """Return the bars of the best evaluated models, and of references in the same tasks."""
    own = standings.own_rows[:_MOST]
    found = {row.model.name: row for row in standings.rows if row.model.submitted}
    others = [found[name] for name in REFERENCES if name in found]
    bars = [_bars(row, colour, row.normalised) for row, colour in zip(own, _COLOURS, strict=False)]
    for row, colour in zip(others, _GREYS, strict=False):
        scores = {t: row.normalised[t] for t in standings.evaluated if t in row.normalised}
        if scores:
            bars.append(_bars(row, colour, scores))
    return bars


def _bars(row: StandingsRow, colour: str, scores: dict[str, float]) -> _Bars:
    names = categories()
    raw = {name: score.value for name, score in row.model.scores.items() if name not in names}
    deviations = {
        name: score.std * row.normalised.get(name, score.value) / score.value
        for name, score in row.model.scores.items()
        if score.std and score.value
    }
    return _Bars(row.model.name, colour, scores, raw, deviations)


def _by_category(standings: Standings, drawn: Sequence[_Bars]) -> Picture:
    present = {"all", *(categories()[task] for task in standings.evaluated)}
    groups = [name for name in ("all", *CATEGORIES) if name in present]
    figure, panels = _figure([[len(groups)]], 3.6)
    heights = [means(bars.scores) for bars in drawn]
    _grouped(panels[0], groups, drawn, heights)
    _dots(panels[0], groups, drawn)
    _finish(figure, panels, drawn, normalised=True)
    text = f"Bars are means, dots are tasks. {_description(drawn, heights)}"
    title = f"Normalised scores by category{_cut(standings)}"
    return Picture(PICTURES[0], title, text, figure)


def _by_task(standings: Standings, drawn: Sequence[_Bars]) -> Picture:
    by_category = {
        name: [task for task in standings.evaluated if categories()[task] == name]
        for name in CATEGORIES
    }
    panels = [(name, tasks) for name, tasks in by_category.items() if tasks]
    own = standings.own_tasks
    panels += [
        ("own tasks, not normalised", list(own[start : start + _MOST]))
        for start in range(0, len(own), _MOST)
    ]
    counts = [len(tasks) for _, tasks in panels]
    grid = [counts] if sum(counts) <= _MOST else [[count] for count in counts]
    figure, flat = _figure(grid, 2.7)
    heights = [bars.raw | bars.scores for bars in drawn]
    for axes, (name, tasks) in zip(flat, panels, strict=True):
        _grouped(axes, tasks, drawn, heights)
        _error_bars(axes, tasks, drawn, heights)
        axes.set_title(name, loc="left", fontsize=10, fontweight="bold", color=_INK)
    _finish(figure, flat, drawn, normalised=bool(standings.evaluated))
    text = f"Lines on bars are standard deviations over folds. {_description(drawn, heights)}"
    return Picture(PICTURES[1], f"Scores by task{_cut(standings)}", text, figure)


def _cut(standings: Standings) -> str:
    number = len(standings.own_rows)
    return f", the first {_MOST} of {number} models" if number > _MOST else ""


def _description(drawn: Sequence[_Bars], heights: Sequence[Mapping[str, float]]) -> str:
    """Return in words what bars show."""
    models = [
        f"{bars.label}: " + ", ".join(f"{name} {100 * value:.1f}" for name, value in found.items())
        for bars, found in zip(drawn, heights, strict=True)
        if found
    ]
    return "; ".join(models) + "."


def _figure(grid: Sequence[Sequence[int]], height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of lines of panels, each as wide as the number of its groups."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, height * len(grid)), layout="constrained")
    axes = figure.subplots(
        len(grid),
        len(grid[0]),
        squeeze=False,
        sharey=True,
        gridspec_kw={"width_ratios": grid[0] if len(grid) == 1 else None},
    )
    return figure, list(axes.flat)


def _grouped(
    axes: Axes,
    groups: Sequence[str],
    drawn: Sequence[_Bars],
    heights: Sequence[Mapping[str, float]],
) -> None:
    """Draw the bars of models in groups, in percent."""
    width = _width(drawn)
    for offset, bars, found in zip(_offsets(drawn), drawn, heights, strict=True):
        at = [j for j, group in enumerate(groups) if group in found]
        axes.bar(
            [j + offset for j in at],
            [100 * found[groups[j]] for j in at],
            0.9 * width,
            color=bars.colour,
            zorder=2,
        )
    axes.set_xticks(range(len(groups)), [fill(group, 15) for group in groups])
    axes.set_xlim(-0.55, len(groups) - 0.45)


def _error_bars(
    axes: Axes,
    groups: Sequence[str],
    drawn: Sequence[_Bars],
    heights: Sequence[Mapping[str, float]],
) -> None:
    """Draw the standard deviations over folds on the bars of tasks, in percent."""
    for offset, bars, found in zip(_offsets(drawn), drawn, heights, strict=True):
        at = [j for j, task in enumerate(groups) if task in found and task in bars.deviations]
        if at:
            axes.errorbar(
                [j + offset for j in at],
                [100 * found[groups[j]] for j in at],
                [100 * bars.deviations[groups[j]] for j in at],
                fmt="none",
                ecolor=_INK,
                elinewidth=0.9,
                capsize=2,
                zorder=3,
            )


def _dots(axes: Axes, groups: Sequence[str], drawn: Sequence[_Bars]) -> None:
    """Draw the scores of tasks as dots over the mean of their category."""
    for offset, bars in zip(_offsets(drawn), drawn, strict=True):
        places = [
            (j + offset, 100 * value)
            for j, group in enumerate(groups)
            for task, value in bars.scores.items()
            if group in ("all", categories()[task])
        ]
        axes.scatter(
            [x for x, _ in places],
            [y for _, y in places],
            s=11,
            facecolors=_PAPER,
            edgecolors=_INK,
            linewidths=0.7,
            zorder=3,
        )


def _offsets(drawn: Sequence[_Bars]) -> list[float]:
    """Return the positions of the bars of models in a group, relative to its middle."""
    return [(i - (len(drawn) - 1) / 2) * _width(drawn) for i in range(len(drawn))]


def _width(drawn: Sequence[_Bars]) -> float:
    return min(0.84 / len(drawn), 0.2)


def _finish(
    figure: Figure, panels: Sequence[Axes], drawn: Sequence[_Bars], *, normalised: bool
) -> None:
    """Style the panels, and add a legend of the models."""
    from matplotlib.patches import Patch

    figure.patch.set_facecolor(_PAPER)
    panels[0].set_ylabel(
        "% of the best of 2021" if normalised else "score in %", fontsize=9, color=_INK
    )
    for axes in panels:
        axes.patch.set_visible(False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=9, labelcolor=_INK, labelleft=True)
        axes.axhline(0, color=_LINE, linewidth=1)
        axes.grid(axis="y", color=_LINE, linewidth=0.8)
        if normalised:
            axes.axhline(100, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1.5)
        axes.set_axisbelow(True)
    handles = [Patch(color=bars.colour, label=bars.label) for bars in drawn]
    columns = max(1, min(4, 120 // (4 + max(len(bars.label) for bars in drawn))))
    figure.set_figheight(figure.get_figheight() + 0.19 * math.ceil(len(drawn) / columns))
    legend = figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
        handlelength=1,
        handleheight=1,
    )
    names = [*legend.get_texts(), *(text for axes in panels for text in axes.get_xticklabels())]
    for text in names:
        text.set_parse_math(False)  # a dollar in a name is a dollar
