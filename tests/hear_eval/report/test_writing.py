"""Reports as files."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from hear_core.errors import ConfigError, FileError
from hear_eval.report.leaderboard import ScoredModel, TaskScore, best_of_2021, leaderboard
from hear_eval.report.pictures import pictures
from hear_eval.report.results import FoundResults
from hear_eval.report.standings import compare_models
from hear_eval.report.writing import write_report

NAME = "hear_mn.<b>|*odd* $x$ & co"
MODELS = (
    ScoredModel(
        "plain", {"ESC-50": TaskScore(0.8, 0.01, "top1_acc"), "Libricount": TaskScore(0.6)}
    ),
    ScoredModel(
        NAME,
        {
            "ESC-50": TaskScore(0.9),
            "esc10": TaskScore(0.7),
            "noise_er": TaskScore(0.3, None, "er", True),
        },
    ),
)
RESULTS = FoundResults(MODELS, (Path("m/esc50"),), ("A note.",), ("x.json is <broken>",))
FILES = ["report.md", "report.csv", "report.html", "categories.svg", "categories.png"]
FILES += ["tasks.svg", "tasks.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    files = write_report(RESULTS, folder, against=leaderboard())
    assert [file.name for file in files] == FILES
    return folder


def test_every_score_is_a_line_of_the_csv(folder):
    with (folder / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = {
        (model.name, task): score.value
        for model in (*MODELS, *leaderboard())
        for task, score in model.scores.items()
    }
    found = {(row["model"], row["task"]): float(row["score"]) for row in rows}
    assert len(rows) == len(wanted)
    assert found == pytest.approx(wanted, abs=1e-6)
    (mine,) = [row for row in rows if (row["model"], row["task"]) == ("plain", "ESC-50")]
    assert mine == {
        "model": "plain",
        "task": "ESC-50",
        "metric": "top1_acc",
        "score": "0.8",
        "std": "0.01",
        "normalised": f"{0.8 / 0.947499991:.6f}",
        "category": "general",
        "source": "evaluated",
    }
    (own,) = [row for row in rows if row["task"] == "esc10"]
    assert (own["normalised"], own["category"]) == ("", "")
    assert {row["source"] for row in rows if row["model"] == "OpenL3"} == {"leaderboard, HEAR 2021"}


def test_the_tables_of_the_markdown_are_complete(folder):
    text = (folder / "report.md").read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 2
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1
    assert "**hear_mn.&lt;b&gt;\\|\\*odd\\* $x$ &amp; co**" in tables[0]
    share = 100 * 0.8 / best_of_2021()["ESC-50"]
    assert f"| 80.0 ± 1.0 ({share:.1f}) |" in tables[1]
    assert "30.0 (lower is better)" in tables[1]
    assert "- m: esc50\n" in text
    assert "- x.json is &lt;broken&gt;\n" in text
    for name in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (folder / name).is_file()


def test_the_report_states_what_can_be_compared(folder):
    text = (folder / "report.md").read_text()
    assert "2 models evaluated on 4 tasks, beside 34 of the leaderboard." in text
    assert "the mean over the tasks that every evaluated model has: ESC-50." in text


def test_pictures_are_drawings_that_say_what_they_show(folder):
    for name in ("categories", "tasks"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        root = ET.parse(folder / f"{name}.svg").getroot()
        texts = {"".join(element.itertext()) for element in root.iter() if "text" in element.tag}
        assert {NAME, "plain", "RedRice ced_base"} <= texts
    page = (folder / "report.html").read_text()
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawn) == 2
    for text in drawn:
        root = ET.fromstring(text.replace("xlink:", ""))
        title, description = root[0].text, root[1].text
        assert root[0].get("id") == root.get("aria-labelledby")
        assert root[1].get("id") == root.get("aria-describedby")
        assert title.startswith(("Normalised scores by category", "Scores by task"))
        assert f"plain: {'all' if 'category' in title else 'ESC-50'} 8" in description
    names = re.findall(r'\bid="([^"]*)"', page)
    assert len(names) == len(set(names))
    used = re.findall(r'(?:url\(|href=")#([^")]*)', page)
    assert used
    assert set(used) <= set(names)


def test_a_bar_is_as_high_as_its_score(folder):
    """The bars of the best evaluated model, in units of the line at 100."""
    root = ET.parse(folder / "tasks.svg").getroot()
    paths = [path for path in root.iter() if path.tag.endswith("path") and path.get("style")]

    def edges(path):
        heights = [float(y) for y in re.findall(r"[\d.]+ ([\d.]+)", path.get("d"))]
        return max(heights), min(heights)

    full = next(edges(path)[1] for path in paths if "stroke-dasharray" in path.get("style"))
    blue = [edges(path) for path in paths if "fill: #0072b2" in path.get("style")]
    floor = max(low for low, _ in blue)
    heights = sorted((floor - high) / (floor - full) for low, high in blue if low == floor)
    assert heights == pytest.approx([0.3, 0.7, 0.9 / best_of_2021()["ESC-50"]], abs=1e-4)


def test_the_same_results_are_the_same_bytes(folder, tmp_path):
    write_report(RESULTS, tmp_path, against=leaderboard())
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_without_matplotlib_there_are_no_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr("hear_eval.report.pictures.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="install the extra 'plot'"):
        write_report(RESULTS, tmp_path)
    assert not list(tmp_path.iterdir())
    files = write_report(RESULTS, tmp_path, draw=False)
    assert [file.name for file in files] == FILES[:3]
    assert "beside" not in (tmp_path / "report.md").read_text()


def test_a_report_of_own_tasks_only_has_nothing_of_the_leaderboard(tmp_path):
    models = tuple(
        ScoredModel(name, {"esc10": TaskScore(score, 0.02, "top1_acc"), "hums": TaskScore(0.5)})
        for name, score in (("first", 0.9512), ("second", 0.8))
    )
    files = write_report(FoundResults(models, (), (), ()), tmp_path, against=leaderboard())
    assert "tasks.svg" in [file.name for file in files]
    assert "categories.svg" not in [file.name for file in files]
    text = (tmp_path / "report.md").read_text()
    assert "2 models evaluated on 2 tasks.\n" in text
    assert "None of the evaluated tasks is one of HEAR's 19" in text
    assert "## Means" not in text
    assert "| esc10 | 95.1 ± 2.0 | 80.0 ± 2.0 |" in text
    page = (tmp_path / "report.html").read_text()
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    assert body.count("<tr") == 2
    assert body.count('class="count" data-value="2">2<') == 2
    assert ">95.1</td>" in body  # in percent, as in the picture
    assert "means, normalised" not in page
    assert (tmp_path / "report.csv").read_text().count("\n") == 5


def test_bars_have_lines_for_deviations_over_folds(folder):
    """Two bars of a model with folds; the middle of the line is the height of the bar."""
    from matplotlib.container import ErrorbarContainer

    drawn = list(pictures(compare_models(MODELS)))[1].figure.axes
    bars = [c for axes in drawn for c in axes.containers if isinstance(c, ErrorbarContainer)]
    assert len(bars) == 1
    (line,) = bars[0][2][0].get_segments()
    share = 100 / best_of_2021()["ESC-50"]
    assert line[:, 1] == pytest.approx([0.79 * share, 0.81 * share])


def test_an_older_report_is_replaced_completely_or_not_at_all(tmp_path, monkeypatch):
    write_report(RESULTS, tmp_path, against=leaderboard())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    own = FoundResults((ScoredModel("m", {"esc10": TaskScore(0.5)}),), (), (), ())
    (tmp_path / "report.html").unlink()
    (tmp_path / "report.html").mkdir()
    with pytest.raises(FileError, match=r"report\.html"):
        write_report(own, tmp_path)
    (tmp_path / "report.html").rmdir()
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert kept == {name: content for name, content in before.items() if name != "report.html"}
    files = write_report(own, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {file.name for file in files}


def test_the_common_tasks_of_models():
    found = compare_models(MODELS, leaderboard())
    assert found.common == ("ESC-50",)
    assert found.evaluated == ("ESC-50", "Libricount")
    assert found.own_tasks == ("esc10", "noise_er")
    by_name = {row.model.name: row.common for row in found.rows}
    assert by_name["plain"] == pytest.approx(0.8 / best_of_2021()["ESC-50"])
    assert by_name["RedRice ced_base"] == pytest.approx(0.9665 / best_of_2021()["ESC-50"])
    order = [row.common for row in found.rows if row.common is not None]
    assert order == sorted(order, reverse=True)
    # AMAAI's speech and DDSP has no GTZAN; it is compared on what it has.
    gtzan = compare_models((ScoredModel("m", {"GTZAN Genre": TaskScore(0.8)}),), leaderboard())
    lacking = [row.model.name for row in gtzan.rows if row.common is None]
    assert lacking == ["AMAAI Lab wav2vec2+DDSP"]
