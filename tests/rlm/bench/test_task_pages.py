"""The examples on the pages of the task families."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[3] / "docs" / "tasks"
SHOWN = re.compile(r'```bash\npython -c "(.*?)"\n```\n(.*?)```\n(.*?)```', re.DOTALL)
EXAMPLES = [
    pytest.param(*match.groups(), id=page.stem)
    for page in sorted(PAGES.glob("*.md"))
    for match in SHOWN.finditer(page.read_text(encoding="utf-8"))
]


def test_pages_have_examples():
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize(("code", "between", "shown"), EXAMPLES)
def test_an_example_is_what_its_command_prints(code, between, shown):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    printed = " ".join(done.stdout.split())
    for part in re.split(r"\[?…\]?", shown):
        assert " ".join(part.split()) in printed, between
