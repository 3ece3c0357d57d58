"""The cells of this repository, and what its root conftest leaves out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlm.bench import tasks

ROOT = Path(__file__).parent.parent


def collect(*args: str) -> list[tuple[str, str, str]]:
    """(function, length, architecture) of each cell that pytest would run."""
    command = [sys.executable, "-m", "pytest", "benchmarks", "--co", "-q", "-pno:cacheprovider"]
    quick = ["-pno:hypothesispytest", "-pno:benchmark"]
    done = subprocess.run(
        [*command, *quick, *args], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"::(\w+)\[([LC]\w+)-.*-(\w+)\]", done.stdout)


@pytest.mark.parametrize(
    ("expression", "length", "architecture"),
    [
        ("128k and rlm", "L128k", "rlm"),
        ("128k and vanilla", "L128k", "vanilla"),
        ("l8k and rlm", "L8k", "rlm"),
    ],
)
def test_k_selects_what_it_says(expression: str, length: str, architecture: str) -> None:
    """Guards the names of everything under benchmarks/: `-k` matches parts of all of them."""
    cells = collect("-k", expression)
    assert {cell[1:] for cell in cells} == {(length, architecture)}
    assert len(cells) == 2 * 9


def count(*names: str) -> int:
    """Cells at one length with one architecture."""
    return sum(3 * max(1, len(tasks.get(name).depths)) for name in names)


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (("--rlm-tasks", "all"), tasks.names()),
        (("--rlm-tasks", "trace,niah"), ("trace", "niah")),
        (("-k", "aggregate_visible"), ("aggregate_visible",)),
        (("benchmarks/test_pairs.py",), ("niah", "long_doc_qa", "pairs")),
    ],
)
def test_other_families_run_where_they_are_named(
    args: tuple[str, ...], names: tuple[str, ...]
) -> None:
    """Guards the minutes of a plain ``pytest benchmarks``, and that no name is in vain."""
    grid = ("--rlm-lengths", "4k", "--rlm-arch", "rlm")
    assert len(collect(*grid, *args)) == count(*names)


def test_smoke_is_twelve_cells() -> None:
    assert len(collect("-m", "smoke")) == 12


@pytest.mark.parametrize(
    ("args", "passed", "deselected"),
    [
        ((), 1, 4),
        (("-m", "slow"), 1, 4),
        (("-m", "not slow"), 1, 4),
        (("-m", "slow or micro"), 2, 3),
    ],
)
def test_what_takes_long_runs_only_when_named(
    pytester: pytest.Pytester, args: tuple[str, ...], passed: int, deselected: int
) -> None:
    """Guards against an ``-m`` in addopts, which any ``-m`` of a user would replace."""
    rule = (ROOT / "conftest.py").read_text(encoding="utf-8")
    pytester.makeconftest(rule.replace('pytest_plugins = ["pytester"]', ""))
    marks = ("slow", "ollama", "training", "micro")
    pytester.makeini("[pytest]\nmarkers =\n" + "\n".join(f"    {m}: x" for m in marks))
    tests = [f"@pytest.mark.{m}\ndef test_{m}(): pass\n" for m in marks]
    pytester.makepyfile("import pytest\n" + "".join(tests) + "def test_plain(): pass\n")
    result = pytester.runpytest_inprocess("-pno:cacheprovider", *args)
    result.assert_outcomes(passed=passed, deselected=deselected)
