"""What the site shows beside docs/: files of the repository, and the help of the commands.

A hook of mkdocs (see mkdocs.yml). Pages of docs/ also read well where this does not run.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
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
COMMANDS: Final = "<!-- the help of every command -->"
OPTIONS: Final = "<!-- the options of pytest -->"
COLUMNS: Final = "88"
"""Width of a help; a page has room for it."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `SHOWN`."""
    for source, page in SHOWN.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Point links at the pages of `SHOWN`, and fill in the helps."""
    up = "../" * (page.file.src_uri.count("/") + 1)
    for source, shown in SHOWN.items():
        markdown = markdown.replace(f"]({up}{source}", f"]({up.removeprefix('../')}{shown}")
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, _commands())
    if OPTIONS in markdown:
        markdown = markdown.replace(OPTIONS, _options())
    return markdown


def _commands() -> str:
    """A section for each command of `rlm`."""
    listed = _help()
    names = re.findall(r"^    (\w+)  ", listed, re.MULTILINE)
    sections = [f"```text\n{listed}```"]
    sections += [f"### rlm {name}\n\n```text\n{_help(name)}```" for name in names]
    return "\n\n".join(sections)


def _help(*command: str) -> str:
    """What ``rlm COMMAND --help`` prints."""
    os.environ.update(COLUMNS=COLUMNS, NO_COLOR="1")
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        cli.main([*command, "--help"])
    return printed.getvalue()


def _options() -> str:
    """The options that the plugin adds to pytest, as pytest prints them."""
    command = [sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"]
    width = {**os.environ, "COLUMNS": COLUMNS, "NO_COLOR": "1"}
    printed = subprocess.run(
        command, cwd=ROOT, env=width, capture_output=True, text=True, check=True
    ).stdout
    group = re.search(r"^benchmark cells \(rlm-bench\):\n(.*?)(?=^\S)", printed, re.M | re.S)
    assert group, "pytest --help has no options of rlm-bench: install this package"
    return f"```text\n{group[1].rstrip()}\n```"
