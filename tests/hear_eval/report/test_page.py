"""The page of a report in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hear_eval.report.leaderboard import ScoredModel, TaskScore, leaderboard
from hear_eval.report.results import FoundResults
from hear_eval.report.writing import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

if not CHROMIUM or not DRIVER:
    pytest.skip("there is no chromium, or no chromedriver", allow_module_level=True)

EVIL = "<img src=x onerror=document.title='broken'>"
MODELS = (
    ScoredModel(
        "mine.best", {"ESC-50": TaskScore(0.99, 0.01, "top1_acc"), "esc10": TaskScore(0.7)}
    ),
    ScoredModel(
        EVIL, {"ESC-50": TaskScore(0.09), "Libricount": TaskScore(0.5), "esc10": TaskScore(0.06)}
    ),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    results = FoundResults(MODELS, (Path("m/<i>esc50"),), (), ("<b>damaged</b>",))
    write_report(results, folder, against=leaderboard())
    # Beside the page there is nothing: it is whole by itself.
    for file in folder.iterdir():
        if file.name != "report.html":
            file.unlink()
    return (folder / "report.html").as_uri()


@pytest.fixture
def page(browser, address):
    browser.get(address)
    return browser


def head(page, name):
    return page.find_element("xpath", f"//thead//th[button[normalize-space()='{name}']]")


def click(page, name):
    page.execute_script(
        "arguments[0].click()", head(page, name).find_element("css selector", "button")
    )
    return head(page, name).get_attribute("aria-sort")


def rows(page):
    """Return the rows that can be seen, as texts of their cells."""
    return page.execute_script(
        "return [...document.querySelectorAll('tbody tr')].filter((row) => row.offsetHeight)"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )


def column(page, name):
    index = page.execute_script("return arguments[0].cellIndex", head(page, name))
    return [row[index] for row in rows(page)]


def switch(page, selector):
    page.find_element("css selector", selector).click()


def test_the_page_is_complete_and_fetches_nothing(page):
    assert page.title == "HEAR report"
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert page.get_log("browser") == []
    assert len(rows(page)) == 36


def test_a_column_sorts_numbers_as_numbers_and_the_empty_last(page):
    assert head(page, "common").get_attribute("aria-sort") == "descending"
    assert click(page, "Beehive") == "descending"
    assert head(page, "common").get_attribute("aria-sort") == "none"
    shown = column(page, "Beehive")
    filled = [float(value) for value in shown if value]
    assert filled == sorted(filled, reverse=True)
    assert max(filled) == 100
    assert 10 < len(filled) < 36
    assert shown[len(filled) :] == [""] * (36 - len(filled))
    assert click(page, "Beehive") == "ascending"
    again = column(page, "Beehive")
    assert [float(value) for value in again if value] == filled[::-1]
    assert not any(again[len(filled) :])


def test_a_hundred_is_more_than_ninety(page):
    click(page, "ESC-50")
    assert rows(page)[0][0] == "mine.best"
    assert column(page, "ESC-50")[0] == f"{99 / 0.947499991:.1f}"
    click(page, "ESC-50")
    assert rows(page)[0][0] == EVIL


def test_names_sort_as_names(page):
    assert click(page, "model") == "ascending"
    names = [row[0] for row in rows(page)]
    plain = [name for name in names if name[0].isalpha()]
    assert plain == sorted(plain, key=str.lower)


def test_typing_filters(page):
    page.find_element("id", "filter").send_keys("gura FUSE")
    names = [row[0] for row in rows(page)]
    assert len(names) == 4
    assert all(name.startswith("GURA Fuse") for name in names)
    assert page.find_element("id", "shown").text == "4 of 36"
    page.find_element("id", "filter").send_keys(" nothing")
    assert rows(page) == []


def test_switches(page):
    switch(page, "#others")
    assert {row[0] for row in rows(page)} == {"mine.best", EVIL}
    assert column(page, "ESC-50")[0] == f"{99 / 0.947499991:.1f}"
    switch(page, "#raw")
    assert column(page, "ESC-50") == ["0.9900", "0.0900"]
    switch(page, "#raw")
    assert column(page, "ESC-50")[0] == f"{99 / 0.947499991:.1f}"
    assert head(page, "Maestro 5h").is_displayed()
    switch(page, "[data-group=music]")
    assert not head(page, "Maestro 5h").is_displayed()
    assert head(page, "Libricount").is_displayed()


def test_the_score_itself_can_be_read(page):
    click(page, "ESC-50")
    cell = page.find_element("css selector", "tbody tr:first-child td[title^='ESC-50']")
    assert cell.get_attribute("title") == "ESC-50: 0.9900 ± 0.0100 top1_acc"


def test_names_are_text(page):
    assert EVIL in [row[0] for row in rows(page)]
    assert page.find_elements("css selector", "img, li b") == []
    listed = [item.text for item in page.find_elements("css selector", "li")]
    assert listed == ["m: <i>esc50", "<b>damaged</b>"]


def test_the_pictures_can_be_seen(page):
    pictures = page.find_elements("css selector", "figure svg")
    assert len(pictures) == 2
    for picture in pictures:
        assert picture.is_displayed()
        assert picture.size["width"] > 500
        assert picture.size["height"] > 200
        assert picture.accessible_name in {"Normalised scores by category", "Scores by task"}
        bars = page.execute_script(
            "return [...arguments[0].querySelectorAll('path')].filter((bar) =>"
            "getComputedStyle(bar).fill === 'rgb(0, 114, 178)').map((bar) =>"
            "bar.getBoundingClientRect().height)",
            picture,
        )
        assert max(bars) > 50


@pytest.mark.parametrize(("scheme", "paper"), [("light", 255), ("dark", 20)])
def test_by_day_and_by_night_the_pictures_go_with_the_page(page, scheme, paper):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        colours = page.execute_script(
            "const svg = document.querySelector('figure svg'), text = svg.querySelector('text');"
            "const paper = svg.querySelector('path');"
            "return [getComputedStyle(document.body).backgroundColor,"
            "getComputedStyle(paper).fill, getComputedStyle(text).fill,"
            "getComputedStyle(document.body).color]"
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert colours[0].startswith(f"rgb({paper},")
    assert colours[1] == colours[0]
    assert colours[2] == colours[3] != colours[0]


def test_a_narrow_window_scrolls_the_table_and_not_the_page(page):
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wide, window = page.execute_script(
            "return [document.documentElement.scrollWidth, innerWidth]"
        )
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= window
