"""The whole circle with few steps and cells: real QLoRA, real merges, real evaluations."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlm.prompts import version_sha256
from training import pipeline, samples
from training.pipeline import Arm, Outcome, PipelineError, Sizes
from training.samples import SamplesError

SHORT = Sizes(fresh=6, steps=10, lengths="1k", depths="50", documents=2)


def test_the_whole_circle_in_short(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Once, and then what it tells, and that each of its faults would be seen."""
    kept = pytestconfig.getoption("--rlm-train-samples") or pipeline.KEPT
    outcome = pipeline.circle(tmp_path, SHORT, kept=Path(kept).absolute())
    told = pipeline.told(outcome)
    print(told)
    assert pipeline.faults(outcome) == []
    assert {cell.model.prompt for cells in outcome.cells.values() for cell in cells} == {"compact"}
    assert {cell.model.window for cells in outcome.cells.values() for cell in cells} == {4096}
    assert [len(outcome.cells[name]) for name in ("base", "adamw", "muon")] == [2, 2, 2]
    assert len({arm.result["final_adapter"] for arm in outcome.arms.values()}) == 2
    assert all(len(arm.losses) == SHORT.steps for arm in outcome.arms.values())
    _each_row_is_told(told)
    _each_fault_is_seen(outcome)


def _each_row_is_told(told: str) -> None:
    assert f"of {SHORT.fresh} trajectories kept" in told
    for run in ("base → adamw", "base → muon", "adamw → muon"):
        assert f"compared: {run}" in told
    rows = [
        line.split() for line in told.splitlines() if line.startswith(("base", "adamw", "muon"))
    ]
    assert [row[0] for row in rows] == ["base", "adamw", "muon"]
    assert rows[1][1] == rows[2][1] == str(SHORT.steps)


def _each_fault_is_seen(outcome: Outcome) -> None:
    arm: Arm = outcome.arms["muon"]
    assert pipeline.faults(_changed(outcome, losses=(*arm.losses, math.nan)))
    worse = [{"step": 0, "loss": 1.0}, {"step": 9, "loss": 1.0}]
    for result in ({"order": "another"}, {"evaluations": worse}):
        assert pipeline.faults(_changed(outcome, result={**arm.result, **result}))
    for merged in ({"difference": 0.1 * arm.merged["largest"]}, {"effect": 0.0}):
        assert pipeline.faults(_changed(outcome, merged={**arm.merged, **merged}))
    first, *rest = outcome.cells["adamw"]
    others = ({"prompt": "full"}, {"prompt_sha256": "f" * 64}, {"window": 16384}, {"server": "x"})
    otherwise = [[replace(first, model=replace(first.model, **other)), *rest] for other in others]
    for cells in ([replace(first, verdict="error"), *rest], rest, [], *otherwise):
        assert pipeline.faults(replace(outcome, cells={**outcome.cells, "adamw": cells}))


def _changed(outcome: Outcome, **parts: Any) -> Outcome:
    """The same, but for the arm of Muon."""
    return replace(outcome, arms={**outcome.arms, "muon": replace(outcome.arms["muon"], **parts)})


def test_the_kept_samples_are_of_the_shipped_base() -> None:
    """Guards a base, or texts that it sees, that change without samples collected anew."""
    pipeline._refuse_other_samples(pipeline.KEPT)
    header, rows = samples.read(pipeline.KEPT)
    assert header.prompts == (version_sha256(),)
    assert len({sample.document for sample in rows}) >= samples.FEW


def test_samples_of_another_base_are_refused(tmp_path: Path) -> None:
    """Before anything is trained; those that were rendered for another tokenizer are taken."""
    file = tmp_path / "other.jsonl.gz"
    header, rows = samples.read(pipeline.KEPT)
    samples.write(file, rows, replace(header, models=("sha256:other",)))
    with pytest.raises(SamplesError, match="written by sha256:other, but embedded/base is sha256:"):
        pipeline.circle(tmp_path / "out", SHORT, kept=file)
    assert not (tmp_path / "out").exists()
    samples.write(file, rows, replace(header, models=("sha256:other",), tokenizer="f" * 64))
    pipeline._refuse_other_samples(file)


def test_a_command_that_fails_says_what_it_printed() -> None:
    with pytest.raises(PipelineError, match=r"ended with 2:\n.*there is no Hugging Face folder"):
        pipeline._command("training.merge", "absent", "adapter", "out")


def test_another_model_is_told_what_it_needs(tmp_path: Path) -> None:
    """Guards ``--rlm-train-model``: it never trains on token ids of embedded/base."""
    line = [
        sys.executable,
        "-m",
        "pytest",
        "training",
        "-m",
        "training",
        "-q",
        "-pno:cacheprovider",
    ]
    environment = {**os.environ, "PYTHONPATH": str(pipeline.ROOT)}
    done = subprocess.run(
        [*line, f"--rlm-train-model={tmp_path}"],
        cwd=pipeline.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"pytest benchmarks --rlm-model hf/{tmp_path} --rlm-split train" in done.stdout
    assert f"--rlm-train-model {tmp_path} --rlm-train-samples" in done.stdout
