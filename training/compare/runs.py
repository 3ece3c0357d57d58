"""One run of `training.sft`, as a process of its own, whose memory is free after it.

A kill costs what follows its last checkpoint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from training.compare.lots import CompareError, Lot
from training.compare.place import Place, last_words
from training.sft import DIVERGED, settings_of
from training.trainer import IGNORED, LOG, RESULT, Optimizer, facts_of

STOPPED: Final = "diverged.json"
SAID: Final = "said.txt"
MATCHED: Final = ("base", "initial_adapter", "samples", "order", "validation")
"""Hashes that must be equal in both arms of a seed."""


@dataclass(frozen=True, slots=True)
class Run:
    """One arm at one learning rate with one seed."""

    arm: Optimizer
    lr: float
    seed: int

    @property
    def name(self) -> str:
        """Such as ``muon-0.005-s0``."""
        return f"{self.arm}-{self.lr:g}-s{self.seed}"


@dataclass(frozen=True, slots=True)
class Point:
    """A validation: after how many tokens and seconds of training, and its loss by token."""

    step: int
    tokens: int
    seconds: float
    loss: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        run: which.
        folder: of `training.sft`.
        curve: its validations.
        right: share of the validation's replies that greed gets right, at the end.
        delta: norm of the change of all weights together.
        update_rms: mean over the steps of the root mean square of an update.
        steps, tokens, seconds: done; the seconds hold the validations.
        diverged: why it stopped; empty if it did not.
        hashes: of `MATCHED`; empty if it diverged before its first checkpoint.
    """

    run: Run
    folder: Path
    curve: tuple[Point, ...]
    right: float
    delta: float
    update_rms: float
    steps: int
    tokens: int
    seconds: float
    diverged: str
    hashes: dict[str, str]

    @property
    def loss(self) -> float:
        """On the validation set at the end; infinite if it diverged."""
        return math.inf if self.diverged else self.curve[-1].loss


def line(run: Run, lot: Lot, out: Path, options: Sequence[str]) -> list[str]:
    """The arguments of `training.sft` for a run."""
    told = ["--optimizer", run.arm, "--lr", repr(run.lr), "--seed", str(run.seed)]
    files = ["--samples", str(lot.file), "--out", str(out), "--validation", repr(lot.share)]
    return [*options, *files, *told]


def train(run: Run, lot: Lot, out: Path, options: Sequence[str], place: Place) -> Outcome:
    """Train, or go on, or read what is done.

    Args:
        run: which.
        lot: its samples.
        out: its folder.
        options: of `training.sft`, beside those that `line` gives.
        place: where processes are started.

    Raises:
        CompareError: it ended otherwise than by its last step or by diverging, or `out` holds
            another run.
    """
    arguments = line(run, lot, out, options)
    if (found := outcome(run, out, arguments)) is None:
        out.mkdir(parents=True, exist_ok=True)
        code = place.process(["training.sft", *arguments], out / SAID)
        if code == DIVERGED:
            why = (out / SAID).read_text(encoding="utf-8").strip().splitlines()[-1]
            stopped = {"settings": _settings(arguments), "why": why.partition("training.sft: ")[2]}
            _write(out / STOPPED, stopped)
        elif code != 0:
            raise CompareError(f"training {run.name} ended with {code}: {last_words(out / SAID)}")
        found = outcome(run, out, arguments)
    if found is None:
        raise CompareError(f"training {run.name} left no {RESULT} in {out}: see {out / SAID}")
    return found


def outcome(run: Run, out: Path, arguments: Sequence[str]) -> Outcome | None:
    """What is in the folder of a run; ``None`` if the run is not at its end.

    Raises:
        CompareError: it is another run.
    """
    for name in (RESULT, STOPPED):
        if (out / name).exists():
            found = json.loads((out / name).read_text(encoding="utf-8"))
            _require_same(out, found["settings"], _settings(arguments))
            return _finished(run, out, found) if name == RESULT else _stopped(run, out, found)
    return None


def _settings(arguments: Sequence[str]) -> dict[str, Any]:
    """Those that decide the adapter."""
    return {k: v for k, v in asdict(settings_of(arguments)).items() if k not in IGNORED}


def _require_same(out: Path, has: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        if has.get(name) != value:
            raise CompareError(
                f"{out} holds a run with {name} {has.get(name)} instead of {value}: choose another "
                "--out, or delete it"
            )


def _stopped(run: Run, out: Path, stopped: dict[str, Any]) -> Outcome:
    facts = facts_of(out)
    return _outcome(run, out, stopped["why"], {name: facts[name] for name in MATCHED if facts})


def _finished(run: Run, out: Path, result: dict[str, Any]) -> Outcome:
    last = result["evaluations"][-1]["loss"]
    diverged = "" if math.isfinite(last) else f"validation loss {last} at step {result['steps']}"
    return _outcome(run, out, diverged, {name: result[name] for name in MATCHED})


def _outcome(run: Run, out: Path, diverged: str, hashes: dict[str, str]) -> Outcome:
    """From the log, which diverged runs have too."""
    log = out / LOG
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    rows = [json.loads(each) for each in text.splitlines()]
    steps = {0: {"tokens": 0, "seconds": 0.0}, **{r["step"]: r for r in rows if "step" in r}}
    validations = [row["validation"] for row in rows if "validation" in row]
    curve = tuple(
        Point(v["step"], steps[v["step"]]["tokens"], steps[v["step"]]["seconds"], v["loss"])
        for v in validations
    )
    moved = [row["update_rms"] for row in rows if "update_rms" in row]
    last = max(steps)
    return Outcome(
        run=run,
        folder=out,
        curve=curve,
        right=validations[-1]["right"] if validations else 0.0,
        delta=steps[last].get("delta", 0.0),
        update_rms=sum(moved) / max(len(moved), 1),
        steps=last,
        tokens=int(steps[last]["tokens"]),
        seconds=float(steps[last]["seconds"]),
        diverged=diverged,
        hashes=hashes,
    )


def _write(path: Path, data: dict[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
