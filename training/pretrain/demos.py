"""Demonstrations of the root model's work: the real loop and sandbox, played by the teacher."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from rlm import RLM, open_sandbox
from rlm.bench.records import repair
from rlm.bench.tasks.stream import Stream
from rlm.messages import Message
from rlm.sandbox.base import Sandbox
from rlm.trajectory import Trajectory, Turn
from training.pretrain.errors import reading
from training.pretrain.pages import Level
from training.pretrain.play import Draw, page_play
from training.pretrain.teacher import NOISY, WINDOW, root_client

NOISY_PAGES = partial(page_play, level=Level(wild=0.2), errors=NOISY)
"""A teacher that errs; one of its errors hangs on the wording of a question."""
SMALL_WINDOW = 1200
"""Tokens; in a share of the demonstrations, so that the loop drops the outputs of old turns."""


@dataclass(frozen=True)
class Demo:
    """One conversation of the root model.

    Attributes:
        messages: system, opening, then replies and feedback in turn; ends with a reply.
        targets: for each reply, whether it is to be learned. One that failed, found nothing that
            was there to be found, or gave a FINAL that was rejected is not.
    """

    messages: tuple[Message, ...]
    targets: tuple[bool, ...]


def make_demo(seed: int, number: int, draw: Draw, sandbox: Sandbox) -> Demo | None:
    """Play what `draw` makes of a stream; ``None`` where the teacher did not reach the answer."""
    stream = Stream("demo", seed, number)
    play = draw(stream)
    narrow = stream.random() < 0.05
    rlm = RLM(
        root_client(play.plan, SMALL_WINDOW if narrow else WINDOW),
        play.sub,
        prompt="compact" if narrow or stream.random() > 0.04 else "full",
        sandbox=sandbox,
        recursive=play.recursive,
        max_iterations=8,
    )
    answer = rlm.completion(play.text, play.question)
    if answer.ended_by != "final" or not play.is_right(answer.answer):
        return None
    return _demo(answer.trajectory, in_vain=play.in_vain)


def _demo(trajectory: Trajectory, *, in_vain: bool) -> Demo:
    last = [call for call in trajectory.calls if call.kind == "root"][-1]
    reply = Message("assistant", trajectory.turns[-1].reply)
    good = tuple(_is_good(turn, in_vain=in_vain) for turn in trajectory.turns)
    return Demo((*last.messages, reply), good)


def _is_good(turn: Turn, *, in_vain: bool) -> bool:
    results = [cell.result for cell in turn.cells]
    failed = turn.rejected or any(r.status not in ("ok", "final") for r in results)
    return not failed and (in_vain or any(r.stdout or r.final for r in results))


def make_demos(
    path: Path, seed: int, count: int, *, draw: Draw = page_play, workers: int = 1
) -> None:
    """Play demonstrations until `path`, a JSONL file, is `count` numbers long; prints progress.

    Killed halfway, it goes on after the last whole one. The file does not depend on `workers`.
    """
    first = 0
    if path.exists():
        repair(path)
        first = max((number for number, _ in _numbered(path)), default=-1) + 1
    started = time.monotonic()
    with (
        ProcessPoolExecutor(workers, get_context("spawn")) as pool,
        path.open("a", encoding="utf-8", buffering=1) as out,
    ):
        for begin in range(first, count, CHUNK * workers):
            starts = range(begin, min(begin + CHUNK * workers, count), CHUNK)
            for lines in pool.map(
                _play, [(seed, at, min(at + CHUNK, count), draw) for at in starts]
            ):
                out.writelines(lines)
            done = min(begin + CHUNK * workers, count)
            rate = (done - first) / (time.monotonic() - started)
            print(f"demonstrations: {done} of {count}, {rate:.0f} a second", flush=True)


CHUNK = 250
"""Demonstrations that one worker plays at a time."""


def _play(job: tuple[int, int, int, Draw]) -> list[str]:
    """The lines of a range of demonstrations."""
    seed, begin, end, draw = job
    sandbox = open_sandbox()
    try:
        made = ((n, make_demo(seed, n, draw, sandbox)) for n in range(begin, end))
        return [json.dumps({"number": n, **asdict(d)}) + "\n" for n, d in made if d is not None]
    finally:
        sandbox.close()


def read_demos(path: Path) -> Iterator[Demo]:
    """The demonstrations of a file.

    Raises:
        PretrainError: a line is damaged.
    """
    return (demo for _, demo in _numbered(path))


def _numbered(path: Path) -> Iterator[tuple[int, Demo]]:
    remedy = "delete this line and all after it; they are played again"
    with path.open("rb") as lines:
        for at, line in enumerate(lines, 1):
            with reading(f"{path}:{at}", remedy):
                row = json.loads(line)
                number, messages = int(row["number"]), [Message(**m) for m in row["messages"]]
                demo = Demo(tuple(messages), tuple(row["targets"]))
            yield number, demo
