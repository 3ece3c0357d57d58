"""What of a reply is code, and what is an answer outside code."""

from __future__ import annotations

import pytest

from rlm.blocks import code_blocks, final_call, last_answer, text_final


@pytest.mark.parametrize("tag", ["python", "py", "repl", "", "Python", " python title"])
def test_fence_is_code(tag: str) -> None:
    assert code_blocks(f"Look:\n```{tag}\nprint(1)\n```\nDone.") == ["print(1)"]


def test_fences_come_in_order() -> None:
    assert code_blocks("```py\na = 1\n```\nthen\n```\nb = 2\n```") == ["a = 1", "b = 2"]


def test_unclosed_last_fence_is_code() -> None:
    assert code_blocks("```\na = 1\n```\n```python\nb = 2\nc = 3") == ["a = 1", "b = 2\nc = 3"]


def test_other_language_is_no_code() -> None:
    assert code_blocks('```json\n{"a": 1}\n```') == []


def test_other_language_beside_code() -> None:
    assert code_blocks("```bash\nls\n```\n```python\nprint(1)\n```") == ["print(1)"]


def test_empty_fence_is_no_code() -> None:
    assert code_blocks("```python\n\n```") == []


def test_indented_fence_is_dedented() -> None:
    assert code_blocks("1. so\n   ```python\n   for a in b:\n       a()\n   ```") == [
        "for a in b:\n    a()"
    ]


@pytest.mark.parametrize(
    "line",
    ["```python print(1)```", "```print(1)```", "``` py print(1) ```", "````repl print(1)```` so"],
)
def test_fence_on_one_line_is_code(line: str) -> None:
    assert code_blocks(f"Look:\n{line}\n```\na = 1\n```") == ["print(1)", "a = 1"]


@pytest.mark.parametrize("line", ['```json {"a": 1}```', "```print```", "```bash ls -l```"])
def test_fence_on_one_line_around_something_else_is_no_code(line: str) -> None:
    assert code_blocks(line) == []


@pytest.mark.parametrize("mark", ["\u2028", "\x0c", "\x85", "\x1c"])
def test_mark_inside_a_string_does_not_break_the_line(mark: str) -> None:
    """Guards against `str.splitlines`, which knows more line ends than Python's grammar."""
    assert code_blocks(f"```python\na = 'x{mark}y'\n```") == [f"a = 'x{mark}y'"]


def test_lines_may_end_as_on_windows() -> None:
    assert code_blocks("```python\r\na = 1\r\nb = 2\r\n```\r\n") == ["a = 1\nb = 2"]


def test_longer_fence_is_a_fence() -> None:
    assert code_blocks("````python\nprint(1)\n````") == ["print(1)"]


@pytest.mark.parametrize(
    "reply",
    [
        "print(1)",
        "a = 5",
        "for i in range(3):\n    print(i)",
        "FINAL(48213)",
        "import re",
        "re.findall('\\d+', context)",
        "x\nprint(x)",
    ],
)
def test_reply_that_is_python_is_code(reply: str) -> None:
    assert code_blocks(reply) == [reply]


@pytest.mark.parametrize(
    "reply",
    [
        "48213",
        "harbour",
        "'harbour'",
        "not found",
        "The answer is 48213.",
        "I will call print(x) now",
        "",
        "a\0b",
        "(" * 10_000,
    ],
)
def test_reply_that_is_prose_is_no_code(reply: str) -> None:
    assert code_blocks(reply) == []


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("FINAL(the red harbour)", "the red harbour"),
        ("I am sure.\nFINAL(the red harbour)", "the red harbour"),
        ("So:\n  FINAL(Oslo (Norway)) is it (I think)", "Oslo (Norway)"),
        ('I think:\nFINAL("48213")', "48213"),
        ("FINAL(1,234 ships", "1,234 ships"),
        ("It is\nFINAL(1,234)", "1,234"),
        ("FINAL(two\nlines)", "two\nlines"),
    ],
)
def test_final_outside_code(reply: str, answer: str) -> None:
    assert code_blocks(reply) == []
    assert text_final(reply) == answer


@pytest.mark.parametrize("reply", ["I call FINAL(x) soon", "FINAL_VAR(x) it is", "no answer yet"])
def test_no_final_outside_code(reply: str) -> None:
    assert text_final(reply) is None


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (" 48213\n", "48213"),
        ('FINAL("48213")', "48213"),
        ("```python\nFINAL('48213')\n```", "48213"),
        ("It is FINAL(48213), surely", "48213"),
        ('FINAL("a (b")', "a (b"),
        ("FINAL('a) b') it is", "a) b"),
        ('FINAL("say \\")\\" twice")', 'say ")" twice'),
        ('FINAL("""two (\nlines""")', "two (\nlines"),
        ("FINAL(the captain's (old) ship) it's", "the captain's (old) ship"),
        ("", ""),
    ],
)
def test_reply_to_the_last_call(reply: str, answer: str) -> None:
    assert last_answer(reply) == answer


@pytest.mark.parametrize("code", ["FINAL_VAR(x)", "FINAL('48213')", "FINAL(str(x))"])
def test_reply_that_is_one_call_of_final(code: str) -> None:
    assert final_call(code) == code
    assert final_call(f" {code}\n") == code
    assert final_call(f"It is:\n```python\n{code}\n```") == code


@pytest.mark.parametrize(
    "reply",
    [
        "48213",
        "FINAL(the red one)",
        "x = 1\nFINAL(x)",
        "print(FINAL(x))",
        "print(1)",
        "```\nFINAL(1)\n```\n```\nFINAL(2)\n```",
    ],
)
def test_reply_that_is_more_or_less_than_one_call_of_final(reply: str) -> None:
    assert final_call(reply) is None
