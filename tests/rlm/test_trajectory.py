"""What happened in a run survives JSON."""

from __future__ import annotations

import json
from dataclasses import replace

from rlm.errors import ProtocolError
from rlm.loop import RLM
from rlm.messages import Completion, Message, Times, Usage
from rlm.sandbox.base import CellResult, Final
from rlm.trajectory import Answer, Call, Cell, Trajectory, Turn
from tests.rlm.scripted import Scripted, code

DONE = Completion(
    "hi", Usage(7, 2, 1), "stop", 4096, True, Times(1.0, 0.1, 0.2, 0.3), (1, 2, 3), (4, 5)
)
OTHER = Completion("ho", Usage(3, 1, 1), "length", None, retries=("HTTP 503", "hung up"))
FIRST, SECOND = Message("system", "s"), Message("user", "u")
CELLS = (
    Cell(
        "FINAL(1)", CellResult("final", "out", 3, "", Final("1", "FINAL"), ("a",), ("re",), 0.5, 2)
    ),
    Cell("b", CellResult("error", error="E", seconds=0.25)),
)
TRAJECTORY = Trajectory(
    "v1",
    (
        Call("root", 1, (FIRST, SECOND), DONE),
        Call("sub", 1, (SECOND,), None, "PromptTooLong: no"),
        Call.answered("last", 2, (FIRST, SECOND, SECOND), OTHER),
    ),
    (Turn(1, "reply", CELLS, "told", "first_turn", (1, 2)), Turn(2, "bye", ())),
)


def test_survives_json() -> None:
    assert Trajectory.from_dict(json.loads(json.dumps(TRAJECTORY.to_dict()))) == TRAJECTORY


def test_each_message_is_stored_once() -> None:
    row = TRAJECTORY.to_dict()
    assert [message["content"] for message in row["messages"]] == ["s", "u"]
    assert [call["messages"] for call in row["calls"]] == [[0, 1], [1], [0, 1, 1]]


def test_sums() -> None:
    assert TRAJECTORY.usage == Usage(10, 3, 2)
    assert TRAJECTORY.times == Times(1.0, 0.1, 0.2, 0.3)
    assert TRAJECTORY.sandbox_seconds == 0.75
    assert TRAJECTORY.sub_calls == 1
    assert TRAJECTORY.truncated
    assert TRAJECTORY.retries == 2


def test_call_that_failed_counts_its_retries_too() -> None:
    error = ProtocolError("the answer was aborted")
    error.retries = ("HTTP 503",)
    call = Call.failed("sub", 1, (SECOND,), error)
    assert (call.error, call.completion) == ("ProtocolError: the answer was aborted", None)
    assert replace(TRAJECTORY, calls=(*TRAJECTORY.calls, call)).retries == 3


def test_trajectory_from_before_retries_were_noted() -> None:
    row = json.loads(json.dumps(TRAJECTORY.to_dict()))
    for call in row["calls"]:
        del call["retries"]
        if call["completion"]:
            del call["completion"]["retries"]
    assert Trajectory.from_dict(row).retries == 0


def test_real_run_survives_json() -> None:
    script = [code("print(llm_query('é'))"), "ä\ud800", "no code \ud800", code("FINAL('ß')")]
    trajectory = RLM(Scripted(script)).completion("text", "q").trajectory
    assert len(trajectory.turns) == 3
    assert Trajectory.from_dict(json.loads(json.dumps(trajectory.to_dict()))) == trajectory


def test_answer_as_plain_data() -> None:
    answer = Answer(
        "x", 2, 1, TRAJECTORY, Usage(1, 2, 3), "final", Times(1.0), 2.0, 0.5, True, "CallTimeout: x"
    )
    row = json.loads(json.dumps(answer.to_dict()))
    assert row == {
        "answer": "x",
        "iterations": 2,
        "sub_calls": 1,
        "trajectory": json.loads(json.dumps(TRAJECTORY.to_dict())),
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "calls": 3},
        "ended_by": "final",
        "times": {"wall": 1.0, "queue": 0.0, "prefill": 0.0, "decode": 0.0},
        "wall": 2.0,
        "sandbox_seconds": 0.5,
        "truncated": True,
        "fault": "CallTimeout: x",
    }
