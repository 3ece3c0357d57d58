"""Test-only: what is left out unless it is asked for. Public fixtures live in the plugin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ON_REQUEST = ("training", "slow", "ollama", "micro")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What ``-m training`` trains."""
    group = parser.getgroup("training", "the training pipeline (-m training)")
    group.addoption(
        "--rlm-train-model",
        type=Path,
        metavar="FOLDER",
        help="Hugging Face folder to train instead of embedded/base; needs --rlm-train-samples",
    )
    group.addoption(
        "--rlm-train-samples",
        type=Path,
        metavar="FILE",
        help="of python -m training.samples; default: those kept in training/kept",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the marks of `ON_REQUEST` that ``-m`` does not name.

    An ``-m`` in addopts would do this too, but any ``-m`` of a user replaces it.
    """
    named = set(re.findall(r"\w+", config.option.markexpr))
    absent = [mark for mark in ON_REQUEST if mark not in named]
    out = [item for item in items if any(item.get_closest_marker(mark) for mark in absent)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
