"""Several processes that share a run: real ones, started by torchrun, connected by gloo."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import tiny_file, tiny_folder, tiny_samples
from training import sft
from training.trainer import CHECKPOINT, LOG, RESULT, Settings, SftError, Trainer
from training.workers import Workers

ROOT = Path(__file__).parent.parent.parent
TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
"""What the command ``torchrun --nproc-per-node 2`` is."""
MORE = ("--optimizer", "muon", "--epochs", "4", "--rank", "4", "--save-every", "4")
DROPOUT = ("--dropout", "0.2", "--quantization", "none")
CLOSE = 1e-5
"""Sums in another order, through 22 steps; seen: 9e-8 of a loss."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_file(tmp_path_factory.mktemp("samples") / "samples.jsonl.gz")


def line(folder: Path, file: Path, out: Path, *more: str) -> list[str]:
    files = ("--model", str(folder), "--samples", str(file), "--out", str(out))
    return ["-m", "training.sft", *files, *MORE, *DROPOUT, *more]


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as child:
        try:
            yield child
        finally:
            child.terminate()  # torchrun then ends its workers; of one that has ended, nothing


def ended(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = child.communicate(timeout=1200)
    return child.returncode, out, err


def result_of(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / RESULT).read_text(encoding="utf-8")))


def steps_of(out: Path) -> list[dict[str, Any]]:
    lines = (out / LOG).read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if "norm" in row]


def workers_of(parent: int) -> list[int]:
    """Processes that train, among the children of torchrun."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    told = {int(c): Path(f"/proc/{c}/cmdline").read_bytes() for c in children}
    return [child for child, command in told.items() if b"training.sft" in command]


def test_two_processes_take_the_steps_of_one(folder: Path, file: Path, tmp_path: Path) -> None:
    """With dropout: losses and adapter are those of one process but for the order of sums.

    Then one of two is killed in the middle, and the same line goes on to the same bytes; without
    torchrun it goes on in one process.
    """
    alone, both, killed, fewer = (tmp_path / name for name in ("alone", "both", "killed", "fewer"))
    with (
        started(sys.executable, *line(folder, file, alone)) as first,
        started(*TWO, *line(folder, file, both)) as second,
    ):
        ends = ended(first), ended(second)
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert ends[1][1].count("memory: ") == 1
    assert "22 samples, 2 held out, 22 steps, at 0, 2 processes" in ends[1][1]
    for mine, theirs in zip(steps_of(alone), steps_of(both), strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], rel=CLOSE), mine["step"]
        assert theirs["norm"] == pytest.approx(mine["norm"], rel=10 * CLOSE), mine["step"]
        assert (theirs["tokens"], theirs["lr"]) == (mine["tokens"], mine["lr"])
    results = result_of(alone), result_of(both)
    for name in ("initial_adapter", "samples", "order", "settings", "steps", "learned"):
        assert results[0][name] == results[1][name], name
    for mine, theirs in zip(*(result["evaluations"] for result in results), strict=True):
        assert theirs == pytest.approx(mine, rel=CLOSE)
    kill_one(folder, file, killed)
    shutil.copytree(killed, fewer)
    with started(*TWO, *line(folder, file, killed)) as again:
        code, out, err = ended(again)
    assert code == 0, err
    assert "22 steps, at 0, " not in out
    assert result_of(killed)["final_adapter"] == results[1]["final_adapter"]
    assert [row["loss"] for row in steps_of(killed)] == [row["loss"] for row in steps_of(both)]
    sft.main(line(folder, file, fewer)[2:])
    losses = [[row["loss"] for row in steps_of(out)] for out in (fewer, both)]
    assert losses[0] == pytest.approx(losses[1], rel=CLOSE)


def kill_one(folder: Path, file: Path, out: Path) -> None:
    """Start two, kill the second after six steps; torchrun then ends the other."""
    with started(*TWO, *line(folder, file, out)) as child:
        deadline = time.monotonic() + 1200
        while not ((out / LOG).exists() and len(steps_of_torn(out)) >= 6):
            assert child.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(workers_of(child.pid)[-1], signal.SIGKILL)
        code, _, err = ended(child)
    assert code != 0, err
    assert (out / CHECKPOINT).exists()
    assert not (out / RESULT).exists()


def steps_of_torn(out: Path) -> list[str]:
    """Lines of steps in a log that is being written."""
    return [row for row in (out / LOG).read_text(encoding="utf-8").split("\n") if '"norm"' in row]


def test_a_window_that_does_not_divide_is_refused(folder: Path, tmp_path: Path) -> None:
    told = (
        "--accumulation 4 does not divide among 3 processes: give --accumulation 6, or start as "
        "many processes as divide it"
    )
    with pytest.raises(SftError, match=told):
        Trainer(tmp_path / "run", Settings(str(folder)), tiny_samples(), Workers(2, 3))
    assert not (tmp_path / "run").exists()


class Apart(Workers):
    """The other process has a folder of its own, and a checkpoint there."""

    def gather(self, told: Any) -> list[Any]:
        return [told, (20, *told[1:])]


def test_processes_that_do_not_see_one_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    chosen = Settings(str(folder), quantization="none")
    with pytest.raises(SftError, match=r"process 1 \(step 20, here 0\) begins elsewhere: all need"):
        Trainer(tmp_path / "run", chosen, tiny_samples(), Apart(0, 2))


def test_each_process_has_a_card_of_its_own() -> None:
    """The choice alone: there is no card here."""
    assert Workers().device("cuda:1") == "cuda:1"
    assert Workers(5, 8, 1, 4).device("cuda:0") == "cuda:1"
    assert Workers(5, 8, 1, 4).device("cpu") == "cpu"


def test_dropout_follows_from_seed_step_and_place(folder: Path, tmp_path: Path) -> None:
    """Guards what makes several processes one run: no two rows of a run share their dropout."""
    trainer = Trainer(tmp_path / "run", Settings(str(folder), quantization="none"), tiny_samples())
    seeds = set()
    for step in range(5):
        trainer.progress.step = step
        seeds |= {trainer._dropout_seed(place) for place in range(4)}
    assert len(seeds) == 20
    other = Settings(str(folder), quantization="none", seed=1)
    trainer = Trainer(tmp_path / "other", other, tiny_samples())
    assert trainer._dropout_seed(0) not in seeds
