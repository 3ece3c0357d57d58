"""A fine-tuning loop that takes a step for each line on stdin: ours, or TRL's on the same run.

    python benchmarks/micro/sft_arm.py ours|trl FOLDER SAMPLES nf4|none STEPS

It prints a JSON object once it is ready, and one after each step.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import torch
from transformers import TrainerCallback

from tests.training.trl_arm import trl_trainer
from training import samples
from training.trainer import Settings, Trainer

LINES: TextIO = sys.stdout


def tell(**facts: float) -> None:
    """One line: CPU seconds and largest memory so far, and what else is known."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu": time.process_time(), "peak_mib": peak, **facts}), file=LINES)
    LINES.flush()


class Told(TrainerCallback):
    """Waits before each step of TRL's trainer, and tells its loss after it."""

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        sys.stdin.readline()

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        if "loss" in logs:
            tell(loss=logs["loss"])


def main() -> None:
    """Open the model and take the steps."""
    arm, folder, file, quantization, steps = sys.argv[1:]
    _, rows = samples.read(Path(file))
    epochs = math.nextafter(int(steps) * 4 / len(rows), 0)
    options: Any = {"quantization": quantization, "epochs": epochs, "validation": 0.0}
    with TemporaryDirectory() as out:
        trainer = Trainer(Path(out) / "run", Settings(folder, **options), rows)
        theirs = trl_trainer(trainer, Path(out) / "trl") if arm == "trl" else None
        windows = (trainer._window(step) for step in range(trainer.steps))
        tell(tokens=sum(len(row.ids) for window in windows for row in window))
        if theirs:
            theirs.add_callback(Told())
            theirs.train()
        else:
            for _ in range(trainer.steps):
                sys.stdin.readline()
                tell(loss=trainer.step()["loss"] or 0.0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout = sys.stderr  # TRL prints what it logs
    main()
