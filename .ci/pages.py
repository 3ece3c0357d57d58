"""What the site shows beside docs/: files of the repository, and the help of the commands.

A hook of mkdocs (see mkdocs.yml). Pages of docs/ also read well where this does not run.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from rlm import cli

ROOT: Final = Path(__file__).parents[1]
SHOWN: Final = {
    "rlm/models/nano/MODEL_CARD.md": "model-card.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
"""Files outside docs/ that are pages of the site, and as which."""
WIDTH: Final = "88"
"""Columns of a help; a page has room for them."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `SHOWN`."""
    for source, page in SHOWN.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Point links at the pages of `SHOWN`, and fill `GAPS`."""
    up = "../" * (page.file.src_uri.count("/") + 1)
    for source, shown in SHOWN.items():
        markdown = markdown.replace(f"]({up}{source}", f"]({up.removeprefix('../')}{shown}")
    for gap, fill in GAPS.items():
        if gap in markdown:
            markdown = markdown.replace(gap, fill())
    return markdown


def _commands() -> str:
    """A section for each command of `rlm`."""
    listed = _printed("--help")
    names = re.findall(r"^    (\w+)  ", listed, re.MULTILINE)
    sections = [f"### rlm {name}\n\n{_block(_printed(name, '--help'))}" for name in names]
    return "\n\n".join([_block(listed), *sections])


def _printed(*words: str) -> str:
    """What a command of `rlm` prints."""
    os.environ.update(COLUMNS=WIDTH, NO_COLOR="1")
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        cli.main(words)
    return printed.getvalue()


def _options() -> str:
    """The options that the plugin adds to pytest, as pytest prints them."""
    command = [sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"]
    width = {**os.environ, "COLUMNS": WIDTH, "NO_COLOR": "1"}
    printed = subprocess.run(
        command, cwd=ROOT, env=width, capture_output=True, text=True, check=True
    ).stdout
    group = re.search(r"^benchmark cells \(rlm-bench\):\n(.*?)(?=^\S)", printed, re.M | re.S)
    assert group, "pytest --help has no options of rlm-bench: install this package"
    return _block(group[1])


def _columns() -> str:
    return _block(_printed("table", "--columns"))


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


GAPS: Final[dict[str, Callable[[], str]]] = {
    "<!-- the help of every command -->": _commands,
    "<!-- the options of pytest -->": _options,
    "<!-- the columns of the data frame -->": _columns,
}
"""What stands in a page for that which is made when it is built."""
