"""Tokens per second of the fine-tuning loop beside TRL's `SFTTrainer`, and the memory of each.

    pytest benchmarks/micro/test_sft_speed.py -m micro

Model, rows, their order, windows, adapter, dropout are the same. Each loop is a process of its own
(so each has a peak of its own), and they take their steps in turn: what else the machine does
falls on both. In NF4 TRL rounds the adapter to bfloat16; ours stays float32.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

import pytest

pytestmark = pytest.mark.micro

ROOT: Final = Path(__file__).parent.parent.parent
STEPS: Final = 12
NEEDED: Final = ("torch", "peft", "bitsandbytes", "trl", "datasets")
MISSING: Final = [name for name in NEEDED if importlib.util.find_spec(name) is None]


class Loop:
    """A process that takes a step when it is told to."""

    def __init__(self, arm: str, folder: Path, file: Path, quantization: str, stack: ExitStack):
        script = Path(__file__).with_name("sft_arm.py")
        command = [sys.executable, script, arm, folder, file, quantization, str(STEPS)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.said = folder.with_name(f"{arm}-{quantization}.txt")
        with self.said.open("wb") as said:
            child = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=said, **pipes)
        self.child = stack.enter_context(child)
        stack.callback(child.kill)
        self.losses: list[float] = []
        self.cpu: list[float] = []
        self.told = self._read()

    def _read(self) -> dict[str, float]:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line, f"it ended with {self.child.wait()}: {self._last_words()}"
        return dict(json.loads(line))

    def _last_words(self) -> str:
        lines = self.said.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-20:])

    def step(self) -> None:
        """One step, waited for."""
        assert self.child.stdin is not None
        before = self.told["cpu"]
        self.child.stdin.write("go\n")
        self.child.stdin.flush()
        self.told = {**self.told, **self._read()}
        self.losses.append(self.told["loss"])
        self.cpu.append(self.told["cpu"] - before)

    @property
    def rate(self) -> float:
        """Tokens for each second of the CPU."""
        return self.told["tokens"] / STEPS / median(self.cpu)


@pytest.fixture(scope="module")
def _has_trl() -> None:
    """Here, not at the top: a skip of the module would be told to all who run other cells."""
    if MISSING and "trl" not in os.environ.get("RLM_REQUIRE", "").split(","):
        pytest.skip(
            f"speed is NOT compared with TRL's: {', '.join(MISSING)} is missing; "
            "pip install -e '.[training,trl]'"
        )


@pytest.fixture(scope="module")
def folder(_has_trl: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from training.pipeline import BASE_FILE
    from training.restore import hf_folder

    return hf_folder(BASE_FILE, tmp_path_factory.mktemp("base"))


@pytest.fixture
def loops(
    folder: Path, request: pytest.FixtureRequest, pytestconfig: pytest.Config
) -> Iterator[tuple[Loop, Loop]]:
    from training.pipeline import KEPT

    file = pytestconfig.getoption("--rlm-train-samples") or KEPT
    quantization = request.node.callspec.params["quantization"]
    with ExitStack() as stack:
        ours, theirs = (
            Loop(arm, folder, Path(file).absolute(), quantization, stack) for arm in ("ours", "trl")
        )
        yield ours, theirs


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_steps_beside_those_of_trl(
    measure: Callable[..., Any],
    note: Callable[[str], None],
    loops: tuple[Loop, Loop],
    quantization: str,
) -> None:
    ours, theirs = loops
    measure(
        f"SFT step of four rows, {quantization}",
        ours.step,
        rival=("trl", theirs.step),
        rounds=STEPS,
    )
    if len(ours.losses) < STEPS:  # pytest-benchmark is off: one step of ours, none of TRL's
        return
    for mine, other in zip(ours.losses, theirs.losses, strict=True):
        assert mine == pytest.approx(other, rel=0.05)
    peaks = [loop.told["peak_mib"] for loop in loops]
    note(
        f"SFT, {quantization}: {ours.rate:,.0f} tokens a CPU second, TRL {theirs.rate:,.0f} "
        f"(ratio {ours.rate / theirs.rate:.2f}); peak {peaks[0]:.0f} MiB, TRL {peaks[1]:.0f}"
    )
