"""``pytest -m training``: both arms on the kept trajectories, merged, evaluated, compared.

Without the training extra it is skipped, unless ``RLM_REQUIRE`` names ``training``.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
from pathlib import Path

import pytest

pytestmark = pytest.mark.training

MISSING = [name for name in ("torch", "peft", "bitsandbytes") if not importlib.util.find_spec(name)]

HOW = """\
the kept trajectories are those of embedded/base; another model needs its own, as token ids differ:
  pytest benchmarks --rlm-model {spec} --rlm-split train --rlm-temperature 0.7 --rlm-arch rlm \
--rlm-tasks long_doc_qa --rlm-lengths 1k --rlm-samples 200 --rlm-run of_this_model
  python -m training.samples of_this_model -o of_this_model.jsonl.gz
  pytest -m training --rlm-train-model {model} --rlm-train-samples of_this_model.jsonl.gz"""


@pytest.fixture
def model(pytestconfig: pytest.Config) -> Path | None:
    if MISSING and "training" not in os.environ.get("RLM_REQUIRE", "").split(","):
        pytest.skip(
            f"the training pipeline was NOT run: {', '.join(MISSING)} is missing; "
            "pip install -e '.[dev,training]'"
        )
    given = pytestconfig.getoption("--rlm-train-model")
    return None if given is None else Path(given).absolute()


@pytest.fixture
def kept(pytestconfig: pytest.Config, model: Path | None) -> Path:
    from training.pipeline import KEPT

    given = pytestconfig.getoption("--rlm-train-samples")
    if model and given is None:
        told = HOW.format(spec=shlex.quote(f"hf/{model}"), model=shlex.quote(str(model)))
        pytest.fail(told, pytrace=False)
    return KEPT if given is None else Path(given).absolute()


def test_the_whole_circle(
    model: Path | None, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the accuracy: matched arms that learn, exact merges, cells that all run."""
    from training import pipeline

    outcome = pipeline.circle(tmp_path, pipeline.FULL, model, kept)
    with capsys.disabled():
        print(f"\n\n{pipeline.told(outcome)}\n")
    assert pipeline.faults(outcome) == []
