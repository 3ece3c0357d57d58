"""How long a browser takes with a report: prints medians over some tries.

    python -m tests.rlm.bench.report_speed report.html

Needs selenium, chromium and chromedriver.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from statistics import median

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

TRIES = 5
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
LOADED = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
SHOW = """
const [address, css, done] = arguments, began = performance.now();
document.getElementById("view").replaceChildren();
location.hash = address;
const look = () => document.querySelector(css)
  ? requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)))
  : setTimeout(look, 1);
look();
"""


def main(file: Path) -> None:
    """Open the file, a list, and items of chunks that were not unpacked before."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in FLAGS:
        options.add_argument(flag)
    browser = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    opened, listed, shown, again = [], [], [], []
    try:
        for attempt in range(TRIES):
            browser.get("about:blank")
            browser.get(file.absolute().as_uri())
            opened.append(browser.execute_script(LOADED))
            place = browser.find_element("css selector", "svg.map a").get_dom_attribute("href")
            listed.append(browser.execute_async_script(SHOW, place, "tr[data-row]"))
            item = 100 + 37 * attempt
            shown.append(browser.execute_async_script(SHOW, f"#/item/{item}", ".side"))
            again.append(browser.execute_async_script(SHOW, f"#/item/{item + 1}", ".side"))
    finally:
        browser.quit()
    print(f"{'size':<38}{file.stat().st_size / 1e6:.1f} MB")
    for text, found in (
        ("open the page", opened),
        ("first list of items (index unpacked)", listed),
        ("a trajectory (chunk unpacked)", shown),
        ("the next trajectory", again),
    ):
        print(f"{text:<38}{median(found):.0f} ms, at most {max(found):.0f} ms")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
