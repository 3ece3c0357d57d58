"""How long a report takes: to be made, and then in a browser, on the page's own clock.

    pytest benchmarks/micro/test_report_speed.py -m micro               # 1,000 cells
    pytest benchmarks/micro/test_report_speed.py -m "micro and slow"    # 10,000, some minutes

Needs selenium, Chromium and its driver, but for the first row. The documents are real, the answers
invented.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from rlm.bench.report import page
from tests.rlm.bench import synthetic_run

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.micro

SIZES: Final = (1_000, pytest.param(10_000, marks=pytest.mark.slow))
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS: Final = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
TRIES: Final = 5

LOADED: Final = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
SQUARE: Final = "return document.querySelector('svg.map a').getAttribute('href')"
SHOW: Final = """
const [address, css, done] = arguments, began = performance.now();
document.getElementById("view").replaceChildren();
location.hash = address;
const look = () => document.querySelector(css)
  ? requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)))
  : setTimeout(look, 1);
look();
"""

Measure = Callable[..., Any]


class PageClock:
    """Seconds that pages said they took; the way to the browser and back is none of theirs."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def add(self, milliseconds: float) -> None:
        self._seconds += milliseconds / 1000


PAGE: Final = PageClock()


@pytest.fixture(scope="module", params=SIZES, ids="{:,}".format)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of that many cells."""
    folder = tmp_path_factory.mktemp("report") / f"{request.param:,} cells"
    synthetic_run.write(folder, request.param)
    return folder


@pytest.fixture(scope="module")
def file(run: Path) -> Path:
    """Its report."""
    out = run / "report.html"
    if not out.exists():
        page.write([str(run)], out)
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    if not (CHROMIUM and DRIVER and find_spec("selenium")):
        pytest.skip("needs selenium, chromium and chromedriver")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS:
        options.add_argument(flag)
    driver = Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Chrome, file: Path) -> Chrome:
    """The browser, with a page of which nothing is unpacked yet."""
    browser.get("about:blank")
    browser.get(file.as_uri())
    return browser


def show(browser: Chrome, address: str, css: str) -> None:
    """Go there, until it is drawn."""
    PAGE.add(browser.execute_async_script(SHOW, address, css))


def test_make(measure: Measure, run: Path, benchmark: Any) -> None:
    size = measure(f"make, {run.name}", lambda: page.write([str(run)], run / "report.html"))
    benchmark.extra_info.update(megabytes=size / 1e6)
    assert size == (run / "report.html").stat().st_size


@pytest.mark.benchmark(timer=PAGE)
def test_open(measure: Measure, browser: Chrome, file: Path) -> None:
    def load() -> None:
        browser.get("about:blank")
        browser.get(file.as_uri())
        PAGE.add(browser.execute_script(LOADED))

    measure(f"open, {file.parent.name}", load, rounds=TRIES)
    assert browser.execute_script(SQUARE).startswith("#/")


@pytest.mark.benchmark(timer=PAGE)
def test_first_list(measure: Measure, browser: Chrome, file: Path) -> None:
    """The index is unpacked for it, so each try has a page of its own."""

    def fresh() -> tuple[tuple[str], dict[str, Any]]:
        browser.get("about:blank")
        browser.get(file.as_uri())
        return (browser.execute_script(SQUARE),), {}

    row = f"first list of items, {file.parent.name}"
    measure(row, lambda place: show(browser, place, "tr[data-row]"), setup=fresh, rounds=TRIES)


@pytest.mark.benchmark(timer=PAGE)
def test_trajectory(measure: Measure, opened: Chrome, file: Path) -> None:
    """Each is of another chunk, which is unpacked for it."""
    show(opened, "#/item/0", ".side")
    items = count(100, 37)
    row = f"a trajectory, {file.parent.name}"
    measure(row, lambda: show(opened, f"#/item/{next(items)}", ".side"), rounds=TRIES)


@pytest.mark.benchmark(timer=PAGE)
def test_next_trajectory(measure: Measure, opened: Chrome, file: Path) -> None:
    """Of the same chunk."""
    show(opened, "#/item/100", ".side")
    items = count(101)
    row = f"the next trajectory, {file.parent.name}"
    measure(row, lambda: show(opened, f"#/item/{next(items)}", ".side"), rounds=TRIES)
