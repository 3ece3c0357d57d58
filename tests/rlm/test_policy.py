"""The rules of the loop, one by one, and the text of a feedback."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlm.limits import SandboxLimits
from rlm.policy import Policy, feedback
from rlm.sandbox.base import CellResult, Final

POLICY = Policy()
REPLY = "```python\nw = keyword_windows('harbour', window=100)\nprint(w)\n```"


def reject(**changed: int) -> str:
    at = {"turn": 2, "chars": 16_000, "sub_calls": 0, "rejected": 0} | changed
    return POLICY.rejection(**at)


def test_final_on_the_first_turn_is_rejected() -> None:
    assert reject(turn=1, sub_calls=3) == "first_turn"


def test_final_without_sub_call_is_rejected() -> None:
    assert reject(turn=2) == "no_sub_call"


def test_final_after_a_sub_call_is_accepted() -> None:
    assert reject(sub_calls=1) == ""


def test_short_document_needs_no_sub_call() -> None:
    assert reject(turn=1, chars=15_999) == ""


def test_one_rejection_is_not_the_end() -> None:
    assert reject(rejected=1) == "no_sub_call"


def test_lets_go_after_two_rejections() -> None:
    assert reject(rejected=2) == ""


def test_repeat_of_the_same_reply() -> None:
    assert POLICY.repeats(REPLY, REPLY)


def test_repeat_of_nearly_the_same_reply() -> None:
    assert POLICY.repeats(REPLY.replace("100", "200"), REPLY)


def test_other_keyword_and_plan_is_no_repeat() -> None:
    assert not POLICY.repeats("```python\nprint(head(2000))\n```", REPLY)


@pytest.mark.parametrize(("changed", "repeats"), [(8, True), (9, False)])
def test_similarity_is_the_ratio_of_difflib(changed: int, repeats: bool) -> None:
    before = "a" * 100
    after = "a" * (100 - changed) + "b" * changed
    assert POLICY.repeats(after, before) is repeats


def test_repeat_of_long_replies_made_of_few_letters() -> None:
    """difflib's autojunk takes every letter of such texts for noise and finds no similarity."""
    before = "x" + "ab" * 300
    assert POLICY.repeats("y" + "ab" * 300, before)


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        (["error", "error"], True),
        (["error", "ok", "timeout"], True),
        (["died", "ok", "error"], True),
        (["error"], False),
        (["ok", "final", "error"], False),
        (["error", "error", "ok", "ok"], False),
        ([], False),
    ],
)
def test_simpler_plan_after_two_failures_of_three(statuses: list[str], told: bool) -> None:
    assert POLICY.needs_simpler(statuses, new=1, just_told=False) is told


def test_simpler_plan_is_not_repeated_on_the_next_turn() -> None:
    assert not POLICY.needs_simpler(["error", "error", "ok"], new=1, just_told=True)


def test_simpler_plan_is_not_repeated_after_a_turn_without_cells() -> None:
    assert not POLICY.needs_simpler(["error", "error"], new=0, just_told=True)


def test_simpler_plan_comes_again_after_a_new_failure() -> None:
    assert POLICY.needs_simpler(["error", "error", "error"], new=1, just_told=True)


OK = CellResult("ok")


def told(*results: CellResult, **options: object) -> str:
    given: dict = {"limits": SandboxLimits(seconds=2.5), "output_chars": 600} | options
    return feedback(results, **given)


def printed(text: str, **fields: object) -> CellResult:
    return replace(OK, stdout=text, stdout_chars=len(text), **fields)


def test_output_with_its_true_length() -> None:
    assert told(printed("hello\n")) == "Output (6 characters):\nhello"


def test_silence() -> None:
    assert told(OK) == "Output: none."


def test_error_alone_is_not_called_silent() -> None:
    assert told(replace(OK, status="error", error="NameError: x")) == "Error:\nNameError: x"


def test_output_stands_before_its_error() -> None:
    assert told(printed("a\n", status="error", error="E")) == (
        "Output (2 characters):\na\nError:\nE"
    )


def test_timeout() -> None:
    assert told(replace(OK, status="timeout", error="KeyboardInterrupt")) == (
        "The cell was stopped after 2.5 seconds. Variables are kept."
    )


def test_death() -> None:
    assert told(replace(OK, status="died", error="killed")) == (
        "The session ended (killed) and was started again. "
        "Variables are gone; `context` is still there."
    )


def test_rebound_names_stand_first() -> None:
    assert told(replace(OK, rebound=("context", "head"))) == (
        "Restored, do not overwrite: context, head\nOutput: none."
    )


def test_variables_of_the_last_cell_once() -> None:
    results = replace(OK, variables=("a",)), replace(OK, variables=("a", "b"))
    assert told(*results) == "Output: none.\nOutput: none.\nVariables: a, b"


def test_notes_stand_last() -> None:
    assert told(replace(OK, variables=("a",)), notes=["one", "two"]) == (
        "Output: none.\nVariables: a\none\ntwo"
    )


def test_rejected_final_without_output_is_silent() -> None:
    result = replace(OK, status="final", final=Final("x", "FINAL"))
    assert told(result, notes=["no"]) == "Output: none.\nno"


def test_six_hundred_characters_are_not_clipped() -> None:
    assert told(printed("a" * 600 + "\n")) == "Output (601 characters):\n" + "a" * 600


def test_long_output_keeps_head_and_tail() -> None:
    assert told(printed("a" * 400 + "b" * 50 + "c" * 200 + "\n")) == (
        "Output (651 characters):\n"
        + "a" * 400
        + "\n[... 51 characters not shown ...]\n"
        + "c" * 200
    )


def test_true_length_counts_what_the_sandbox_did_not_keep() -> None:
    result = replace(OK, stdout="a" * 700, stdout_chars=9_000)
    assert "Output (9000 characters)" in told(result)
    assert "[... 8400 characters not shown ...]" in told(result)


def test_cells_that_printed_share_the_room() -> None:
    text = told(printed("a" * 301), OK, printed("b" * 300))
    assert text == (
        "Output (301 characters):\n"
        + "a" * 200
        + "\n[... 1 characters not shown ...]\n"
        + "a" * 100
        + "\nOutput: none.\nOutput (300 characters):\n"
        + "b" * 300
    )
