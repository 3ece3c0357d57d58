"""`rlm plot` of a folder that the real training loop wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rlm.bench.plots import learning, style
from rlm.cli import main
from tests.training.tiny import tiny_folder, tiny_samples
from training.trainer import Settings, Trainer


def test_the_curve_is_what_the_training_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    model = str(tiny_folder(Path("tiny")))
    chosen = Settings(model, epochs=2, rank=4, lr=0.01, quantization="none", validation=0.3)
    result = Trainer(Path("adamw"), chosen, tiny_samples()).run()
    with style.applied():
        left, right = learning.curves([learning.read("adamw", Path("adamw"))], 6.9).axes
    losses = [row["loss"] for row in result["evaluations"]]
    assert len(losses) == 3
    for axes, end in ((left, result["tokens"]), (right, result["seconds"])):
        (line,) = axes.lines
        assert list(line.get_ydata()) == losses
        assert line.get_xdata()[0] == 0
        assert line.get_xdata()[-1] == pytest.approx(end, abs=0.02)
    assert main(["plot", "adamw"]) == 0
    assert capsys.readouterr().out.endswith("plots/training.png\n")
