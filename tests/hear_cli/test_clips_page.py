"""The page of ``hear clips``, in a browser without a window."""

from __future__ import annotations

import csv
import io
import shutil

import numpy as np
import pytest
import soundfile

from hear_train.data.datasets import read_labelled_table
from tests.hear_cli.command import hear

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of nine clips of two classes in two recordings."""
    folder = tmp_path_factory.mktemp("clips")
    rows = ["file,onset,offset,label,score"]
    for name in ("A_20260501_050000", "B_20260501_060000"):
        tone = 0.3 * np.sin(np.arange(12 * 16000) / 16000 * 2 * np.pi * 440)
        soundfile.write(folder / f"{name}.wav", tone, 16000)
        for second in range(1, 6):
            label = "Dog </script><b>" if second % 2 else 'Rain, "heavy"'
            rows.append(f'{folder / name}.wav,{second},{second + 1},"{label}",0.{second}')
    (folder / "events.csv").write_text("\n".join(rows).replace('"heavy""', '""heavy"""') + "\n")
    hear("clips", folder / "events.csv", "-o", folder / "out")
    return folder / "out" / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium with chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    downloads = tmp_path_factory.mktemp("downloads")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--autoplay-policy=no-user-gesture-required",
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    service = webdriver.ChromeService(driver)
    with webdriver.Chrome(options, service) as found:
        found.downloads = downloads
        yield found


def shown(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('article')].map(a => "
        "[a.querySelector('.label').textContent, a.className])"
    )


def press(browser, *keys):
    for key in keys:
        browser.execute_script(
            "document.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0]}))", key
        )


def choose(browser, name, value):
    browser.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event('input'))",
        name,
        value,
    )


def test_the_page_sorts_filters_plays_and_downloads(browser, page):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(page.as_uri())
    assert [row[0] for row in shown(browser)] == ["Dog </script><b>"] * 6 + ['Rain, "heavy"'] * 4
    choose(browser, "label", 'Rain, "heavy"')
    assert len(shown(browser)) == 4
    choose(browser, "score", "0.4")
    assert len(shown(browser)) == 2
    choose(browser, "file", "b_2026")
    assert len(shown(browser)) == 1
    for name, value in (("label", ""), ("score", "0"), ("file", ""), ("sort", "time")):
        choose(browser, name, value)
    assert len({row[0] for row in shown(browser)[:2]}) == 2
    press(browser, "y", "j", "n", "j", "y", "u")
    assert [row[1] for row in shown(browser)[:3]] == ["accepted", "rejected", "current"]
    press(browser, " ")
    wait = WebDriverWait(browser, 20)
    playing = "return document.querySelectorAll('audio')[2].currentTime > 0"
    wait.until(lambda b: b.execute_script(playing))
    images = "return [...document.images].every(i => i.complete && i.naturalWidth === 480)"
    browser.execute_script("for (const image of document.images) image.loading = 'eager'")
    wait.until(lambda b: b.execute_script(images))
    browser.execute_script("document.getElementById('download').click()")
    target = browser.downloads / "verdicts.csv"
    wait.until(lambda _: target.exists() and target.stat().st_size)
    rows = list(csv.DictReader(io.StringIO(target.read_text())))
    assert sorted((row["predicted"], row["label"], row["verdict"]) for row in rows) == [
        ("Dog </script><b>", "Dog </script><b>", "accepted"),
        ('Rain, "heavy"', "background", "rejected"),
    ]
    assert {file.path for file in read_labelled_table(target, page.parent)} == {
        page.parent / row["filename"] for row in rows
    }
    assert all((page.parent / row["filename"]).is_file() for row in rows)
    browser.refresh()
    assert sorted(row[1] for row in shown(browser))[-1] == "rejected"
    browser.set_window_size(390, 800)
    width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(width) == 0
