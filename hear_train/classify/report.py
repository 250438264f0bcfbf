"""The report on a classifier: one page without dependencies, in HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np

from hear_train.classify.scoring import Scored, Units
from hear_train.classify.sounds import Sounds

_MISTAKES = 20
_BINS = 40  # of the histograms of scores
_FEW = 3000  # cells of a confusion matrix that a page can show


class ReportContent(NamedTuple):
    """Content of a report.

    Attributes:
        run: Folder of the run.
        module: Name of the module whose embeddings are classified.
        head: Description of the head.
        sounds: The clips.
        units: Labelled clips and windows of background that were scored.
        scores: Scores (units, classes).
        thresholds: Thresholds (units, classes).
        scored: Scores of the classifier.
        tested: Whether the units are those of a test set.
        folds: Number of folds that were validated.
        failed: Reasons why clips were skipped, by name.
        notes: Remarks on the data.
        version: Version of the package.
    """

    run: Path
    module: str
    head: str
    sounds: Sounds
    units: Units
    scores: np.ndarray
    thresholds: np.ndarray
    scored: Scored
    tested: bool
    folds: int
    failed: Mapping[str, str]
    notes: Sequence[str]
    version: str


def render_report(content: ReportContent) -> str:
    """Return the report as HTML."""
    scored, labels = content.scored, content.sounds.labels
    alarms = math.isfinite(scored.false_alarms)
    template = resources.files("hear_train.classify").joinpath("report.html").read_text("utf-8")
    several = int((content.units.targets.sum(1) > 1).sum())
    shown = (len(labels) + 1) ** 2 <= _FEW
    return Template(template).substitute(
        title=escape(f"Classifier {content.run.name}"),
        lead=escape(_lead(content)),
        cards="".join(_cards(content)),
        about_classes=_about_classes(alarms=alarms),
        alarms_head='<th scope="col">false alarms<br>per hour</th>' if alarms else "",
        classes="\n".join(_classes(content, alarms=alarms)),
        left_out=f" {several} clips of several classes are left out." if several else "",
        matrix_head="".join(
            f'<th scope="col">{escape(name)}</th>' for name in (*labels, "none") if shown
        ),
        matrix="\n".join(_matrix(scored.confusion, labels)) if shown else _too_large(labels),
        mistakes=_mistakes(content),
        notes=_notes(content),
        commands=escape(_commands(content.run)),
        footer=escape(
            f"efficient-hear {content.version} · {content.module} · {content.head} · "
            f"predictions.csv has the scores of every clip"
        ),
    )


def _lead(content: ReportContent) -> str:
    if content.tested:
        how = "All numbers are on the clips of the test set, which had no part in the training."
    elif content.folds > 1:
        how = (
            f"All numbers are from {content.folds}-fold cross-validation: each clip is scored by a "
            "head that was trained without it and without other clips of its recording, with "
            "thresholds that were chosen on the other folds."
        )
    else:
        how = (
            "All numbers are on the validation clips, on which the thresholds were chosen as well, "
            "so that they are somewhat optimistic."
        )
    return f"A {content.head} on the embeddings of {content.module}. {how}"


def _cards(content: ReportContent) -> Iterator[str]:
    scored, sounds = content.scored, content.sounds
    folds = list(scored.accuracies.values())
    spread = f"folds {min(folds):.1%} to {max(folds):.1%}" if len(folds) > 1 else ""
    if math.isfinite(scored.accuracy):
        yield _card("accuracy", f"{scored.accuracy:.1%}", spread)
    if math.isfinite(scored.mAP):
        yield _card("mean average precision", f"{scored.mAP:.3f}", "")
    if math.isfinite(scored.false_alarms):
        hours = f"of background; {60 * scored.background_hours:.1f} min were scored"
        yield _card("false alarms per hour", f"{scored.false_alarms:.1f}", hours)
    labelled = int((~sounds.background).sum())
    background = len(sounds.files) - labelled
    more = f"{len(set(sounds.recordings))} recordings"
    more += f", {background} clips of background" if background else ""
    more += f", {len(content.failed)} skipped" if content.failed else ""
    yield _card("labelled clips", f"{labelled}", f"{len(sounds.labels)} classes, {more}")


def _card(name: str, value: str, more: str) -> str:
    small = f"<small>{escape(more)}</small>" if more else ""
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{small}</dd></div>"


def _about_classes(*, alarms: bool) -> str:
    keys = [("good", "clips of the class"), ("quiet", "other clips")]
    keys += [("bad", "background")] if alarms else []
    legend = "".join(
        f'<span class="key" style="background:var(--{colour})"></span>{name}'
        for colour, name in keys
    )
    return (
        "Precision and recall are those of the thresholds; AP, the average precision, does not "
        f"depend on them.<br>Scores:{legend}; the line is the threshold."
    )


def _classes(content: ReportContent, *, alarms: bool) -> Iterator[str]:
    for index, row in enumerate(content.scored.classes):
        cells = "".join(map(_share, (row.precision, row.recall, row.f1, row.average_precision)))
        rate = f"{row.false_alarms:.1f}" if math.isfinite(row.false_alarms) else "&ndash;"
        yield (
            f'<tr><th scope="row">{escape(row.label)}</th><td>{row.clips}</td>{cells}'
            f"<td>{row.threshold:.3f}</td>{f'<td>{rate}</td>' if alarms else ''}"
            f'<td class="text">{_histogram(content, index, row.threshold)}</td></tr>'
        )


def _share(value: float) -> str:
    if not math.isfinite(value):
        return '<td class="none">&ndash;</td>'
    return f'<td class="bar" style="--share:{100 * value:.1f}%">{value:.3f}</td>'


def _histogram(content: ReportContent, index: int, threshold: float) -> str:
    """Return the distribution of a class's scores as SVG: clips of the class above the others."""
    scores, present = content.scores[:, index], content.units.targets[:, index] > 0
    background = content.units.background
    groups = (("own", present), ("others", ~present & ~background), ("background", background))
    bars = []
    for name, rows in groups:
        counts, _ = np.histogram(scores[rows], _BINS, (0, 1))
        # On a scale of logarithms, as most scores are near 0 or 1.
        heights = np.log1p(counts) / max(1e-9, np.log1p(counts).max())
        for place, height in enumerate(heights.tolist()):
            if height:
                length = 3 + 11 * height if name != "background" else 3 + 5 * height
                y = 15 - length if name == "own" else 15
                bars.append(
                    f'<rect class="{name}" x="{place}" y="{y:.1f}" width=".9" '
                    f'height="{length:.1f}"/>'
                )
    at = threshold * _BINS
    return (
        f'<svg viewBox="0 0 {_BINS} 30" preserveAspectRatio="none" role="img" '
        f'aria-label="distribution of scores">{"".join(bars)}'
        f'<line x1="{at:.2f}" x2="{at:.2f}" y1="0" y2="30" vector-effect="non-scaling-stroke"/>'
        "</svg>"
    )


def _matrix(confusion: np.ndarray, labels: Sequence[str]) -> Iterator[str]:
    for index, counts in enumerate(confusion.tolist()):
        total = sum(counts)
        if not total:
            continue
        name = labels[index] if index < len(labels) else "background"
        cells = "".join(
            f'<td class="{"right" if place == index else "wrong"}" '
            f'style="--share:{80 * count / total:.0f}%">{count or ""}</td>'
            for place, count in enumerate(counts)
        )
        yield f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _too_large(labels: Sequence[str]) -> str:
    return (
        f"<tr><td>{len(labels)} classes are too many for a matrix; see predictions.csv.</td></tr>"
    )


def _mistakes(content: ReportContent) -> str:
    """Return a table of the units whose wrong scores are farthest from the thresholds."""
    units, labels = content.units, content.sounds.labels
    present, detected = units.targets > 0, content.scores >= content.thresholds
    limits = _logit(content.thresholds)
    margins = np.where(present != detected, np.abs(_logit(content.scores) - limits), 0)
    worst = np.argsort(-margins.max(1), kind="stable")[:_MISTAKES]
    worst = worst[margins[worst].max(1) > 0]
    if not len(worst):
        return "<p>None: all clips are right.</p>"
    count = int((present != detected).any(1).sum())
    rows = []
    for row in worst.tolist():
        file = content.sounds.files[units.clips[row]]
        start, end = units.start[row], units.end[row]
        when = f" {start:.1f}&ndash;{end:.1f} s" if start else ""
        wanted = [
            f'<span class="{"" if detected[row, index] else "missed"}">{escape(labels[index])} '
            f"{content.scores[row, index]:.2f}</span>"
            for index in np.flatnonzero(present[row]).tolist()
        ]
        found = [
            f'<span class="{"" if present[row, index] else "extra"}">{escape(labels[index])} '
            f"{content.scores[row, index]:.2f}</span>"
            for index in np.argsort(-content.scores[row], kind="stable").tolist()
            if detected[row, index]
        ]
        rows.append(
            f'<tr><td class="text">{escape(file.name)}{when}</td>'
            f'<td class="text">{", ".join(wanted) or "background"}</td>'
            f'<td class="text">{", ".join(found) or "none"}</td></tr>'
        )
    return (
        f"<p>{count} of {len(margins)} clips have a class that is missed or detected wrongly. "
        "These are farthest from the thresholds: look at their labels first.</p>"
        '<div class="scroll" tabindex="0" role="group" aria-label="Worst mistakes"><table><thead>'
        '<tr><th scope="col" class="text">file</th><th scope="col" class="text">labelled</th>'
        '<th scope="col" class="text">detected</th></tr></thead><tbody>'
        f"{''.join(rows)}</tbody></table></div>"
    )


def _notes(content: ReportContent) -> str:
    lines = [*content.notes]
    lines += [f"{name} was skipped: {why}" for name, why in content.failed.items()]
    if not lines:
        return ""
    return f"<h2>Notes</h2><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _commands(run: Path) -> str:
    return (
        f"hear tag new/*.wav --model {run}\n"
        f"hear tag new/*.wav --model {run} --events --format audacity -o labels\n"
        f"hear listen --model {run}\n"
        f"hear export {run} {run.name}.onnx"
    )


def _logit(values: np.ndarray) -> np.ndarray:
    clipped = np.clip(values, 1e-9, 1 - 1e-9)
    found: np.ndarray = np.log(clipped / (1 - clipped))
    return found
