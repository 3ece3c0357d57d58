"""What cells ask of the host: answers, limits, refusals, failures."""

from __future__ import annotations

import time

import pytest

from rlm.errors import BudgetExceeded, CallRefused


def test_each_kind_of_call_is_answered(run, echo):
    result = run("print(llm_query('a'), llm_query_batched(['b', 'c']), rlm_query('text', 'q'))")
    assert result.stdout == "<a> ['<b>', '<c>'] q: 4\n"
    assert (result.calls, echo.asked) == (4, ["a", ["b", "c"], ("text", "q")])


def test_an_empty_batch_is_no_call(run, echo):
    assert run("print(llm_query_batched([]))").stdout == "[]\n"
    assert echo.asked == []


def test_query_chunks_is_one_batch(run, echo):
    result = run("print(len(query_chunks(chunk_text(30, 0), '{query} {chunk}')))")
    assert (result.stdout, result.calls, len(echo.asked)) == ("3\n", 3, 1)
    assert echo.asked[0][0] == "Which passcode? The harbour is grey. The secre"


def test_texts_arrive_whole(run, echo):
    text = 'é\U0001f600\0"\\\n' * 50_000
    echo.effect = lambda prompt: prompt
    run("text = " + repr(text))
    assert run("print(llm_query(text) == text)").stdout == "True\n"


def test_lone_surrogates_in_a_prompt_are_replaced(run, echo):
    run("llm_query('a\\ud800')")
    assert echo.asked == ["a?"]


def test_an_answer_with_a_lone_surrogate_arrives(run, echo):
    echo.effect = lambda prompt: "\ud800"
    assert run("print(hex(ord(llm_query(''))))").stdout == "0xd800\n"


@pytest.mark.parametrize("error", [CallRefused("no"), BudgetExceeded("no", resource="calls")])
def test_a_refusal_is_an_exception_in_the_cell(run, echo, error):
    def refuse(prompt: str) -> str:
        raise error

    echo.effect = refuse
    result = run("try:\n    llm_query('a')\nexcept RuntimeError as problem:\n    print(problem)")
    assert (result.status, result.stdout) == ("ok", "no\n")
    assert run("llm_query('a')").error.endswith("\nRuntimeError: no")


def test_any_other_exception_reaches_the_host_and_variables_stay(run, echo):
    def fail(prompt: str) -> str:
        raise ZeroDivisionError("in the host")

    run("x = 1")
    echo.effect = fail
    with pytest.raises(ZeroDivisionError, match="in the host"):
        run("try: llm_query('a')\nexcept Exception: x = 2\nwhile True: pass")
    assert run("print(x)").stdout == "1\n"


def test_the_host_s_ctrl_c_in_a_call_comes_through(run, echo):
    def fail(prompt: str) -> str:
        raise KeyboardInterrupt

    echo.effect = fail
    with pytest.raises(KeyboardInterrupt):
        run("llm_query('a')")
    assert run("print(1)").stdout == "1\n"


def test_the_call_limit_is_for_each_cell(start, echo):
    run = start(calls=3)
    result = run("llm_query('a')\nllm_query_batched(['b', 'c'])\nllm_query('d')")
    assert result.error.endswith(
        "RuntimeError: this cell has used its 3 model calls; print what you have and go on in the "
        "next cell"
    )
    assert (result.calls, len(echo.asked)) == (3, 2)
    assert run("llm_query('e')").status == "ok"


def test_a_batch_over_the_call_limit_is_refused_whole(start, echo):
    assert start(calls=3)("llm_query_batched(['a'] * 4)").status == "error"
    assert echo.asked == []


def test_the_prompt_limit(start, echo):
    run = start(prompt_chars=5)
    assert run("llm_query('12345')").status == "ok"
    assert run("llm_query_batched(['1', '123456'])").error.endswith(
        "the prompt has 6 characters, more than the 5 allowed; pass a shorter passage"
    )
    assert echo.asked == ["12345"]


def test_the_prompt_limit_is_not_for_the_context_of_a_sub_session(start):
    assert start(prompt_chars=5)("print(rlm_query('a' * 2_000_000, 'q'))").stdout == "q: 2000000\n"


def test_the_prompt_limit_is_for_the_query_of_a_sub_session(start, echo):
    """Guards against arguments that are swapped: the query stands whole in an opening."""
    run = start(prompt_chars=5)
    assert run("rlm_query('q', 'a' * 2_000_000)").error.endswith(
        "the prompt has 2000000 characters, more than the 5 allowed; pass a shorter passage"
    )
    assert echo.asked == []
    assert run("print(rlm_query('context', 'query'[:5]))").stdout == "query: 7\n"


def test_a_batch_too_large_for_a_frame_is_refused(run, echo):
    result = run("llm_query_batched(['a' * 900_000] * 20)")
    assert "the prompt has 18000020 characters, more than" in result.error
    assert echo.asked == []


def test_the_batch_limit(start):
    assert start(batch=2)("llm_query_batched(['a'] * 3)").error.endswith(
        "3 prompts in one batch, more than the 2 allowed; pass fewer"
    )


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("llm_query(['a'])", "prompt must be a string, not list"),
        ("llm_query_batched(['a', None])", "prompts[1] must be a string, not NoneType"),
        ("rlm_query(3, 'a')", "context must be a string, not int"),
    ],
)
def test_prompts_are_strings(run, echo, code, text):
    assert run(code).error.endswith(f"\nValueError: {text}")
    assert echo.asked == []


def test_many_threads_ask_at_once_and_get_their_own_answers(run):
    # Guards: replies without ids, and thread stacks that do not fit the address space.
    result = run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(16) as pool:\n"
        "    answers = list(pool.map(llm_query, map(str, range(100))))\n"
        "print(answers == [f'<{i}>' for i in range(100)])"
    )
    assert (result.stdout, result.calls) == ("True\n", 100)


def test_the_clock_stands_still_during_a_call(start, echo):
    def slow(prompt: str) -> str:
        time.sleep(0.4)
        return "late"

    echo.effect = slow
    result = start(seconds=0.3)("print(llm_query('a'), llm_query('b'))")
    assert (result.status, result.stdout) == ("ok", "late late\n")
    assert result.seconds < 0.3


def test_a_cell_stopped_while_it_asks_keeps_the_channel_in_step(start, echo):
    # Guards: an interrupt between a question and its answer, which the next question would get.
    run = start(seconds=0.15, calls=10**9)
    for _ in range(4):
        assert run("while True: llm_query('x' * 5000)").status == "timeout"
    assert run("print(llm_query('mine'))").stdout == "<mine>\n"
