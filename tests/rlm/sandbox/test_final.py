"""FINAL and FINAL_VAR: recorded when called, the first one wins, whatever comes after."""

from __future__ import annotations

import pytest

from rlm.sandbox import Final


def test_final_stops_the_cell(run):
    result = run("print('a')\nFINAL(42)\nprint('b')")
    assert (result.status, result.stdout, result.error) == ("final", "a\n", "")
    assert result.final == Final("42", "FINAL")


@pytest.mark.parametrize(
    "after",
    ["except BaseException: pass", "except BaseException: 1/0", "finally: import os; os._exit(1)"],
)
def test_a_final_stays_recorded_whatever_comes_after(run, after):
    result = run(f"try:\n    FINAL('first')\n{after}")
    assert (result.status, result.final) == ("final", Final("first", "FINAL"))


def test_except_exception_does_not_catch_it(run):
    result = run("try:\n    FINAL('a')\nexcept Exception:\n    pass\nprint('on')")
    assert result.stdout == ""


def test_the_first_final_wins(run):
    result = run("try:\n    FINAL(1)\nexcept BaseException:\n    FINAL(2)")
    assert result.final == Final("1", "FINAL")


def test_a_final_from_a_thread(run):
    code = (
        "from threading import Thread\nt = Thread(target=FINAL, args=('t',))\nt.start(); t.join()"
    )
    result = run(code)
    assert (result.final, result.stdout, result.error) == (Final("t", "FINAL"), "", "")


def test_a_final_and_a_timeout(start):
    result = start(seconds=0.2)(
        "import time\ntry: FINAL('a')\nexcept BaseException: time.sleep(60)"
    )
    assert (result.status, result.error) == ("final", "stopped after 0.2 seconds")


def test_the_session_goes_on_after_a_final(run):
    run("x = 1\nFINAL(x)")
    result = run("print(x)")
    assert (result.status, result.stdout, result.final) == ("ok", "1\n", None)


def test_a_large_final_arrives_whole(run):
    assert run("FINAL('é' * 900_000)").final.value == "é" * 900_000


def test_a_value_without_text_is_an_error(run):
    result = run("class A:\n    def __str__(self): return 1/0\nFINAL(A())")
    assert (result.status, result.final) == ("error", None)


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("a = [1, 2]\nFINAL_VAR('a')", "[1, 2]"),
        ("a = [1, 2]\nFINAL_VAR(a)", "[1, 2]"),
        ("FINAL_VAR(7)", "7"),
        ("a = 'Paris'\nFINAL_VAR(a)", "Paris"),
        ("FINAL_VAR('12 May')", "12 May"),
        ("FINAL_VAR('48213')", "48213"),
        ("FINAL_VAR('class')", "class"),
        ("a = 'b'\nb = 'c'\nFINAL_VAR(a)", "c"),
    ],
)
def test_final_var_takes_a_name_or_a_value(run, code, value):
    assert run(code).final == Final(value, "FINAL_VAR")


def test_final_var_of_an_unknown_name_tells_those_that_exist(run):
    result = run("a = 1\nb = 2\nFINAL_VAR('answer')")
    assert (result.status, result.final) == ("error", None)
    assert result.error.endswith("NameError: there is no variable 'answer'; there are: a, b")


def test_final_var_without_any_variable(run):
    assert run("FINAL_VAR('context')").error.endswith("'context'; there are: none")
