"""Without the training extra this folder is passed over, with one loud line.

Where ``RLM_REQUIRE`` names ``training`` nothing is passed over: a missing part is an error.
"""

from __future__ import annotations

import importlib.util
import os

import pytest

MISSING = [
    name
    for name in ("torch", "transformers", "tokenizers", "peft", "bitsandbytes", "accelerate")
    if importlib.util.find_spec(name) is None
]

if MISSING and "training" not in os.environ.get("RLM_REQUIRE", "").split(","):
    collect_ignore_glob = ["test_*.py"]

    def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("tests/training was NOT run", sep="!", yellow=True)
        terminalreporter.line(
            f"missing: {', '.join(MISSING)}; to run it: pip install -e '.[dev,training]' "
            "(a bare torch is gigabytes of CUDA on Linux: choose a CPU wheel first)"
        )
