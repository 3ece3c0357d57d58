"""What a terminal shows of a run, event by event; on a real terminal: test_ask_terminal.py."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from rlm.live import CALLS, OUTPUT_LINES, Lines, Screen
from rlm.loop import RLM
from tests.rlm.scripted import Script, Scripted, code

TEXT = "The harbour is quiet. " * 20
BATCH = "\n".join(
    ("found = llm_query_batched([f'Piece {i}?' for i in range(20)])", "print(len(found))")
)


def screen(script: Script, *, verbose: bool = False, concurrency: int = 1) -> str:
    """What a terminal of 100 columns is sent, without its colours."""
    console = Console(
        file=io.StringIO(), width=100, force_terminal=True, color_system=None, markup=False
    )
    view = Screen(console, verbose=verbose)  # its last line is not started: only what stays
    client = Scripted(script)
    RLM(client, concurrency=concurrency, watch=view.watch).completion(TEXT, "Which?")
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def test_a_long_output_is_shown_by_its_beginning() -> None:
    script = [code("for i in range(1000): print(f'line {i}')"), code("FINAL(1)")]
    told = screen(script)
    assert f"│ line {OUTPUT_LINES - 1}\n│ … 8,890 characters\n" in told
    assert f"line {OUTPUT_LINES}\n" not in told
    assert "│ line 999\n" in screen(script, verbose=True)


def test_a_long_line_is_shown_by_its_beginning() -> None:
    told = screen([code("print('x' * 50_000)"), code("FINAL(1)")])
    assert 400 <= told.count("x") < 420
    assert "… 50,001 characters" in told


def test_line_ends_of_windows_are_line_ends() -> None:
    told = screen([code("print('a\\r\\nb\\rc')"), code("FINAL(1)")])
    assert "│ a\n│ b⟨U+000D⟩c\n" in told


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_batch_is_counted_and_shown_by_its_beginning(concurrency: int) -> None:
    replies = iter([code(BATCH), code("FINAL(1)")])
    lock = threading.Lock()

    def reply(messages: object) -> str:
        prompt = messages[-1].content
        if prompt.startswith("Piece"):
            return f"It is {prompt[6:-1]}."
        with lock:
            return next(replies)

    told = screen(reply, concurrency=concurrency)
    shown = re.findall(r"^sub-call (\d+) Piece \d+\? → It is \d+\.", told, re.MULTILINE)
    assert shown == [str(number) for number in range(1, CALLS + 1)]
    assert "… and 14 sub-calls more\n│ 20\n" in told


def test_a_turn_without_code_and_a_final_that_is_rejected_are_told() -> None:
    client = ["I wonder.\nAnd wonder.", code("FINAL('a')")]
    told = screen(client)
    assert "no code:\n│ I wonder.\n│ And wonder.\n" in told
    long = "The harbour is quiet. " * 1000
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    replies = [code("FINAL('a')"), code("print(llm_query('q'))"), "a", code("FINAL('a')")]
    RLM(Scripted(replies), watch=Screen(console).watch).completion(long, "Which?")
    assert "\nFINAL was rejected: " in console.file.getvalue()


def test_an_error_is_shown_by_its_end_and_a_failed_call_with_its_reason() -> None:
    from rlm.errors import CallTimeout

    script = [code("print(llm_query('Which?'))"), CallTimeout("no answer in 5 s"), code("FINAL(1)")]
    told = screen(script)
    assert "sub-call 1 Which? → failed  CallTimeout: no answer in 5 s\n" in told
    assert re.search(r"│ RuntimeError: .*no answer in 5 s", told)


def test_the_last_call_is_told() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    client = Scripted([code("print(1)"), "48213"])
    answer = RLM(client, max_iterations=1, watch=Screen(console).watch).completion(TEXT, "Which?")
    assert answer.answer == "48213"
    assert "last call  " in console.file.getvalue()


def test_the_line_at_the_bottom_says_what_is_done_and_goes_away() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)

    def slow(script: Iterator[str]) -> Script:
        def reply(_: object) -> str:
            time.sleep(0.4)
            return next(script)

        return reply

    replies = iter([code("print(llm_query('q'))"), "a", code("FINAL(1)")])
    with Screen(console) as view:
        RLM(Scripted(slow(replies)), watch=view.watch).completion(TEXT, "Which?")
        with view.reading("vanilla reads"):
            time.sleep(0.4)
    told = console.file.getvalue()
    assert "turn 1 · the model writes code · 0 sub-calls, 0 tokens" in told
    assert re.search(r"turn 1 · sub-call · 0 sub-calls, \d+ tokens", told)
    assert re.search(r"turn 2 · the model writes code · 1 sub-call, \d+ tokens", told)
    assert "vanilla reads · 1 sub-call" in told
    assert told.endswith("\x1b[2K")  # erased


def test_lines_are_short_and_escaped() -> None:
    lines: list[str] = []
    script = [code("print('\\x1b[31mred')"), "a\x1b[2Jb", code("FINAL(1)")]
    RLM(Scripted(script), watch=Lines(lines.append).watch).completion(TEXT, "Which?")
    assert len(lines) == 3
    lines.clear()
    RLM(Scripted(script), watch=Lines(lines.append, verbose=True).watch).completion(TEXT, "Which?")
    assert "⟨U+001B⟩[31mred" in lines
    assert "a⟨U+001B⟩[2Jb" in lines
