"""What a failing cell leaves: its output, and the end of a traceback of its own lines."""

from __future__ import annotations

import pytest


def test_output_before_an_exception_is_kept(run):
    result = run("print('before')\n1/0")
    assert (result.status, result.stdout) == ("error", "before\n")


def test_a_traceback_names_cells_and_lines(run):
    run("def f(x):\n    return 1 / x")
    assert run("y = 0\nf(y)").error == (
        "cell 2, line 2\n    f(y)\n"
        "cell 1, line 2, in f\n    return 1 / x\n"
        "ZeroDivisionError: division by zero"
    )


def test_frames_outside_the_model_s_code_are_left_out(run):
    assert run("json.loads('{')").error == (
        "cell 1, line 1\n    json.loads('{')\n"
        "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)"
    )
    assert run("chunk_text(0)").error == (
        "cell 2, line 1\n    chunk_text(0)\nValueError: size must be a whole number above 0, not 0"
    )


def test_a_syntax_error_names_its_line(run):
    assert run("x = 1\ny = = 2").error.startswith("cell 1, line 2\n    y = = 2\n")


def test_a_long_traceback_keeps_its_end(run):
    error = run("def f(n): return f(n + 1)\nf(0)").error
    assert error.startswith("...")
    assert error.endswith("RecursionError: maximum recursion depth exceeded")
    assert len(error) == 600


@pytest.mark.parametrize(
    "code", ["x = '\ud800'", "x = 1\0", "await x", "x = " + "(" * 300 + ")" * 300]
)
def test_code_that_cannot_be_compiled_is_an_error(run, code):
    assert run(code).status == "error"
    assert run("print(1)").stdout == "1\n"


def test_an_exception_that_cannot_be_shown(run):
    run("class Odd(Exception):\n    def __str__(self): raise KeyboardInterrupt")
    assert run("raise Odd").error.splitlines()[-1].endswith("Odd: <exception str() failed>")


def test_a_failing_thread_is_told_in_the_output(run):
    result = run("import threading\nt = threading.Thread(target=lambda: 1/0)\nt.start(); t.join()")
    assert (result.status, result.stdout) == (
        "ok",
        "cell 1, line 2, in <lambda>\n    t = threading.Thread(target=lambda: 1/0)\n"
        "ZeroDivisionError: division by zero\n",
    )


def test_stderr_is_captured_in_order(run):
    result = run("import sys\nprint('a')\nprint('b', file=sys.stderr)\nsys.stdout.write('c')")
    assert result.stdout == "a\nb\nc"


def test_warnings_of_the_compiler_are_not_shown(run):
    assert run("print(re.findall('\\d+', 'a1'))").stdout == "['1']\n"


def test_lone_surrogates_in_the_output_are_replaced(run):
    result = run("print('a\\ud800b')\nraise ValueError('\\udfff')")
    assert (result.stdout, result.error[-13:]) == ("a?b\n", "ValueError: ?")


@pytest.mark.parametrize("write", ["print(text, end='')", "for c in text: print(end=c)"])
def test_long_output_keeps_its_ends_and_its_true_length(start, write):
    result = start(output_chars=11)("text = ''.join(map(str, range(1000)))\n" + write)
    assert (result.stdout, result.stdout_chars) == ("01234997998999"[:5] + "998999", 2890)


def test_endless_output_does_not_grow(start):
    result = start(seconds=0.3, output_chars=1000)("while True: print('x' * 1000)")
    assert (result.status, len(result.stdout)) == ("timeout", 1000)
    assert result.stdout_chars > 10_000


def test_input_has_nothing_to_read(run):
    assert run("input('name? ')").error.endswith("EOFError: EOF when reading a line")
