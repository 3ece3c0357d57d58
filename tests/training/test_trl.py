"""The loop's losses beside those of TRL's `SFTTrainer`, an implementation that others wrote.

Without the package this module is skipped, unless ``RLM_REQUIRE`` names ``trl``.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import tiny_folder, tiny_samples
from training.lora import adapter_state
from training.trainer import Settings, Trainer

MISSING = [name for name in ("trl", "datasets") if importlib.util.find_spec(name) is None]

if MISSING and "trl" not in os.environ.get("RLM_REQUIRE", "").split(","):
    pytest.skip(
        f"losses are NOT compared with TRL's: {', '.join(MISSING)} is missing; "
        "pip install -e '.[trl]'",
        allow_module_level=True,
    )

pytestmark = pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated")

CLOSE = 1e-5
"""Of float32 sums in another order; seen: 4e-7 of a loss after 12 steps."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


def run_of(folder: Path, out: Path) -> Trainer:
    """Not quantised, no dropout, all samples; with warm-up, weight decay and gradients clipped."""
    options: dict[str, Any] = {"quantization": "none", "dropout": 0.0, "validation": 0.0}
    chosen = Settings(str(folder), epochs=2, rank=4, lr=0.01, weight_decay=0.1, **options)
    return Trainer(out, chosen, tiny_samples())


def test_each_step_is_that_of_trl(folder: Path, tmp_path: Path) -> None:
    """Loss, norm of the gradient and learning rate of each step, and the adapter at the end."""
    from tests.training.trl_arm import trl_trainer

    other = run_of(folder, tmp_path / "other")
    theirs = trl_trainer(other, tmp_path / "trl")
    theirs.train()
    logged = [row for row in theirs.state.log_history if "loss" in row]
    ours = run_of(folder, tmp_path / "ours")
    steps = [ours.step() for _ in range(ours.steps)]
    assert len(steps) == len(logged) == 12
    for mine, row in zip(steps, logged, strict=True):
        assert mine["loss"] == pytest.approx(row["loss"], rel=CLOSE)
        assert mine["norm"] == pytest.approx(row["grad_norm"], rel=10 * CLOSE)
        assert mine["lr"] == pytest.approx(row["learning_rate"])
    assert any(row["grad_norm"] > ours.settings.clip for row in logged)
    assert float(steps[-1]["loss"] or 0) < 0.6 * float(steps[0]["loss"] or 0)
    ends = [adapter_state(trainer.model) for trainer in (ours, other)]
    for name, tensor in ends[0].items():
        torch.testing.assert_close(tensor, ends[1][name], rtol=1e-3, atol=1e-5)


def test_a_mean_of_means_would_be_seen(folder: Path, tmp_path: Path) -> None:
    """What the comparison above would find: the two ways of weighing differ by far more."""
    trainer = run_of(folder, tmp_path / "run")
    window = trainer._window(0)
    means = [trainer._backward([sample], sample.supervised) for sample in window]
    counts = [sample.supervised for sample in window]
    by_token = sum(m * n for m, n in zip(means, counts, strict=True)) / sum(counts)
    assert abs(sum(means) / len(means) - by_token) > 20 * CLOSE * by_token
