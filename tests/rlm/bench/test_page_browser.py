"""The HTML report in a real browser: clicks, keys, hostile text, and that nothing is fetched.

Needs Chromium and its driver (Debian: chromium, chromium-driver) and selenium. Without them the
whole module is skipped, unless ``RLM_REQUIRE`` names ``browser``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from rlm.bench.report import logs, page, question
from tests.rlm.bench import deep_run, synthetic_run
from tests.rlm.bench import test_question_page as asked
from tests.rlm.bench.test_visualizer import THEIRS, written

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = not (CHROMIUM and DRIVER and find_spec("selenium"))
if MISSING and "browser" not in os.environ.get("RLM_REQUIRE", "").split(","):
    reason = "needs selenium, chromium and chromedriver: apt-get install chromium chromium-driver"
    pytest.skip(reason, allow_module_level=True)

from selenium import webdriver  # noqa: E402 - without it the module is skipped above
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.remote.webelement import WebElement  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

SECONDS = 60
SQUARE = "svg.map a.square"
PHONE = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run whose every text is hostile."""
    root = tmp_path_factory.mktemp("browser")
    synthetic_run.write(root / "hostile", 96, lengths=(1024, 32768), hostile=True)
    page.write([str(root / "hostile")], root / "report.html")
    return root / "report.html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    flags = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
    for flag in (*flags, "--window-size=1280,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome, file: Path) -> webdriver.Chrome:
    """A browser that has just opened the file from disk."""
    chromium.get("about:blank")
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    chromium.get(file.as_uri())
    return chromium


def wait(browser: webdriver.Chrome, ready: Callable[[], object]) -> None:
    stale = [StaleElementReferenceException]  # replaced between two looks: look again
    WebDriverWait(browser, SECONDS, ignored_exceptions=stale).until(lambda _: ready())


def all_of(browser: webdriver.Chrome, css: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, css)


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def title(browser: webdriver.Chrome) -> str:
    """The heading of what is open; by script, as the element may be replaced in between."""
    told = browser.execute_script("return document.querySelector('#view h2')?.textContent")
    return str(told or "")


def marked(browser: webdriver.Chrome) -> int:
    """Which turn or row is chosen; -1 if none is."""
    rows = "[...document.querySelectorAll('tr[data-row], .turn')]"
    return int(browser.execute_script(f"return {rows}.findIndex((r) => r.matches('.on'))"))


def open_first_square(browser: webdriver.Chrome) -> None:
    all_of(browser, SQUARE)[0].click()
    wait(browser, lambda: all_of(browser, "tr[data-row]"))


def open_item(browser: webdriver.Chrome) -> None:
    open_first_square(browser)
    press(browser, Keys.ENTER)
    wait(browser, lambda: all_of(browser, ".turn"))


def test_from_square_to_item_to_trajectory_and_back(browser):
    assert not browser.find_element(By.ID, "view").is_displayed()
    open_first_square(browser)
    assert title(browser) == "niah 1k, depth 10 %: 4 items"
    assert not browser.find_element(By.ID, "report").is_displayed()
    told = [found.text.partition(",")[0] for found in all_of(browser, "#view p.note")]
    assert told == ["vanilla", "rlm", "rlm minus vanilla"]  # a finger cannot hover
    all_of(browser, "tr[data-row] a")[1].click()
    wait(browser, lambda: all_of(browser, ".turn"))
    assert title(browser) == "niah 1k, depth 10 %, sample 1"
    left, right = all_of(browser, ".side")
    assert left.text.startswith("vanilla")
    assert right.text.startswith("rlm")
    assert "The secret" in left.text or "The " in left.text
    assert all_of(browser, ".mini rect.needle")
    assert all_of(browser, ".mini rect.printed")
    assert all_of(browser, ".turn pre.code .k")
    assert all_of(browser, ".tree details summary")
    assert all_of(browser, "pre mark")
    press(browser, Keys.ESCAPE)
    wait(browser, lambda: title(browser) == "niah 1k, depth 10 %: 4 items")
    assert marked(browser) == 1
    press(browser, Keys.ESCAPE)
    wait(browser, lambda: browser.find_element(By.ID, "report").is_displayed())


def test_keys_go_through_items_and_turns(browser):
    open_first_square(browser)
    assert marked(browser) == 0
    press(browser, "j")
    assert marked(browser) == 1
    press(browser, Keys.ARROW_DOWN, "k", Keys.ARROW_UP)
    assert marked(browser) == 0
    press(browser, Keys.ENTER)
    wait(browser, lambda: title(browser).endswith("sample 0"))
    press(browser, Keys.ARROW_RIGHT)
    wait(browser, lambda: title(browser).endswith("sample 1"))
    press(browser, Keys.ARROW_LEFT)
    wait(browser, lambda: title(browser).endswith("sample 0"))
    assert marked(browser) == -1
    press(browser, "j", "j")
    assert marked(browser) == 1
    press(browser, "k")
    assert marked(browser) == 0


def test_the_browsers_own_back_works(browser):
    open_item(browser)
    browser.back()
    wait(browser, lambda: all_of(browser, "tr[data-row]"))
    browser.back()
    wait(browser, lambda: browser.find_element(By.ID, "report").is_displayed())


def test_a_cause_opens_the_items_that_failed_of_it(browser):
    link = all_of(browser, "td.n a")[0]
    count = int(link.text)
    browser.execute_script("arguments[0].click()", link)
    wait(browser, lambda: all_of(browser, "tr[data-row]"))
    rows = all_of(browser, "tr[data-row]")
    assert len(rows) == count
    assert all("(" in row.text.splitlines()[-1] for row in rows)


def test_squares_say_n_and_interval_on_hover_and_focus(browser):
    square, tip = all_of(browser, SQUARE)[0], browser.find_element(By.ID, "tip")
    assert not tip.is_displayed()
    ActionChains(browser).move_to_element(square).perform()
    wait(browser, tip.is_displayed)
    assert tip.text.startswith("vanilla, 1k, depth 10 %: ")
    assert "%]; n = 4" in tip.text
    browser.execute_script("arguments[0].focus()", all_of(browser, SQUARE)[1])
    wait(browser, lambda: tip.text.startswith("vanilla, 32k, depth 10 %: no answer: 4 truncated"))


def test_hostile_text_is_text_everywhere(browser):
    items = len(browser.execute_script("return unpack('index')"))
    assert items == 48
    seen = ""
    go = "document.getElementById('view').replaceChildren(); location.hash = arguments[0]"
    for number in range(0, items, 3):
        browser.execute_script(go, f"#/item/{number}")
        wait(browser, lambda: all_of(browser, ".turn"))
        seen += browser.execute_script("return document.getElementById('view').textContent")
        assert not all_of(browser, "#view script, #view img, #view iframe, #view [onerror]")
    assert browser.execute_script("return window.hacked === undefined")
    assert "<script>window.hacked = 1</script><img src=x onerror=" in seen
    assert "⟨U+001B⟩[31mred⟨U+001B⟩[0m ⟨U+0000⟩⟨U+0007⟩⟨U+202E⟩gnp.exe⟨U+2028⟩" in seen
    assert "{{ 7 * 7 }} ⟨U+D800⟩" in seen
    assert not set(seen) & set("\x00\x07\x1b\u202e\u2028")


def test_nothing_is_fetched_and_nothing_fails(browser, file):
    open_item(browser)
    press(browser, "j", Keys.ESCAPE, Keys.ESCAPE)
    asked = [
        entry["message"]
        for entry in browser.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert len(asked) == 1
    assert file.as_uri() in asked[0]
    assert browser.get_log("browser") == []


def test_the_policy_refuses_what_a_script_would_fetch(browser):
    """Guards the policy itself: were it missing, this would reach for the network."""
    blocked = browser.execute_async_script(
        "const done = arguments[0], seen = [];"
        "addEventListener('securitypolicyviolation', (e) => seen.push(e.effectiveDirective));"
        "const image = new Image(); image.src = 'http://127.0.0.1:9/x.png';"
        "fetch('http://127.0.0.1:9/').catch(() => setTimeout(() => done(seen), 50));"
    )
    assert set(blocked) == {"img-src", "connect-src"}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_themes_follow_the_system(browser, theme):
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if theme == "light" else "rgb(21, 23, 26)")


@pytest.mark.parametrize("place", ["#/", "#/list/0/niah", "#/item/0"])
def test_a_phone_needs_no_scrolling_to_the_side(browser, place):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        browser.execute_script("location.hash = arguments[0]", place)
        css = {"#/": SQUARE, "#/item/0": ".turn"}.get(place, "tr[data-row]")
        wait(browser, lambda: any(found.is_displayed() for found in all_of(browser, css)))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_loops_below_stand_in_their_cell_and_a_cut_is_told(browser, tmp_path):
    deep_run.write(tmp_path / "deep", deep_run.ITEM.gold)
    page.write([str(tmp_path / "deep")], tmp_path / "deep.html")
    browser.get((tmp_path / "deep.html").as_uri() + "#/item/0")
    wait(browser, lambda: all_of(browser, ".turn"))
    vanilla, loop = all_of(browser, ".side")
    assert "cut on purpose, evidence lost" in vanilla.text
    assert "head kept: characters 0 to " in vanilla.text
    assert "left out on purpose: " in vanilla.text
    assert "sample of the document, for the server's count of its tokens" in vanilla.text
    assert len(all_of(browser, ".mini rect.kept")) == 2  # what stayed, and its key
    assert len(loop.find_elements(By.CSS_SELECTOR, ":scope > .turn")) == 2
    below = ":scope > .turn details.loop"
    (inner,) = loop.find_elements(By.CSS_SELECTOR, below)
    turns = inner.find_elements(By.CSS_SELECTOR, ".turn h4")
    assert [turn.text.split(" ok")[0] for turn in turns[:2]] == ["turn 1", "turn 2"]
    assert "ended by final" in inner.find_element(By.CSS_SELECTOR, "summary").text
    press(browser, "j", "j", "j")  # j and k go through the turns of the loop itself
    assert len(all_of(browser, ".turn.on")) == 1
    assert all_of(browser, ".side > .turn")[1].get_attribute("class") == "turn on"
    assert browser.get_log("browser") == []


def test_it_prints(browser):
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert printed["data"].startswith("JVBERi")  # %PDF


def test_the_page_of_a_question_opens_at_its_trajectory(browser, tmp_path):
    sides = [asked.vanilla(window=3_000, overflow="head"), asked.loop(*asked.REPLIES)]
    question.write(asked.ASKED, sides, tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    wait(browser, lambda: all_of(browser, ".turn"))
    assert browser.find_element(By.ID, "report").is_displayed()
    assert title(browser) == "what each side saw and did"
    vanilla, loop = all_of(browser, ".side")
    assert "head kept: characters 0 to " in vanilla.text
    assert "FINAL: 48213" in loop.text
    assert not all_of(browser, ".mini rect.needle")  # nobody knows where the evidence stands
    assert all_of(browser, ".mini rect.printed")
    assert not all_of(browser, "#view button")  # there is no other item
    press(browser, "j", "j", Keys.ESCAPE, Keys.ARROW_RIGHT, Keys.ENTER)
    assert marked(browser) == 1
    assert title(browser) == "what each side saw and did"
    assert browser.get_log("browser") == []
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_imported_logs_are_opened_and_look_like_no_result(chromium, tmp_path):
    files = [written(tmp_path / f"log{i}.jsonl", THEIRS) for i in range(2)]
    logs.write(files, tmp_path / "logs.html")
    chromium.get((tmp_path / "logs.html").as_uri())
    assert "nothing in them was scored" in chromium.find_element(By.ID, "report").text
    all_of(chromium, "td a")[0].click()
    wait(chromium, lambda: all_of(chromium, ".turn"))
    assert title(chromium) == "log0"
    told = chromium.find_element(By.ID, "view").text
    assert "Which tree?" in told
    assert "imported, not scored" in told
    assert "gold" not in told
    assert "0 + 0 tokens" not in told
    assert "an elm (20 + 2 tokens, 1.00 s)" in told
    assert [verdict.text for verdict in all_of(chromium, ".side .verdict")] == [""]
    press(chromium, Keys.ARROW_RIGHT)
    wait(chromium, lambda: title(chromium) == "log1")
    press(chromium, Keys.ESCAPE)
    wait(chromium, lambda: chromium.find_element(By.ID, "report").is_displayed())
    severe = [row for row in chromium.get_log("browser") if row["level"] == "SEVERE"]
    assert not severe
