"""One namespace over many cells: what stays, what is put back, what is shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlm.errors import SandboxError, UsageError
from rlm.sandbox import open_sandbox


def test_variables_stay_from_cell_to_cell(run):
    assert run("x = [1]\ndef f(): return x").status == "ok"
    result = run("x.append(2)\nprint(f())")
    assert (result.stdout, result.variables) == ("[1, 2]\n", ("f", "x"))


def test_a_bare_expression_is_not_shown(run):
    assert run("1 + 1").stdout == ""


def test_what_the_model_finds_bound(run):
    result = run(
        "print(len(context), context_len, query, re.__name__, json.dumps([1]), head(3))\n"
        "print(all(map(callable, [tail, context_slice, chunk_text, keyword_windows,\n"
        "    regex_windows, query_chunks, llm_query, llm_query_batched, rlm_query])))"
    )
    assert result.stdout == "70 70 Which passcode? re [1] The\nTrue\n"
    assert result.variables == ()


def test_lone_surrogates_in_the_context_survive(start):
    run = start("a\ud800\U0001f600\udfff\0z")
    assert run("print([hex(ord(c)) for c in context])").stdout == (
        "['0x61', '0xd800', '0x1f600', '0xdfff', '0x0', '0x7a']\n"
    )


def test_an_empty_context(start):
    assert (
        start("")("print(repr(context), chunk_text(500), keyword_windows('a'))").stdout
        == "'' [] []\n"
    )


def test_line_ends_are_kept(run):
    assert run("print('a\\r\\nb\\rc', end='')").stdout == "a\r\nb\rc"


def test_overwritten_names_are_put_back_and_told(run):
    result = run("context = head = 3\ndel llm_query\nx = 1\nprint(context)")
    assert (result.stdout, result.rebound) == ("3\n", ("context", "head", "llm_query"))
    assert (
        run("print(context_len == len(context), head(3), llm_query('a'))").stdout
        == "True The <a>\n"
    )


def test_binding_a_name_to_what_it_was_is_not_told(run):
    assert run("import re, json\ncontext = context").rebound == ()


def test_builtins_are_put_back(run):
    run("import builtins\nbuiltins.len = None\ndel builtins.print")
    assert run("print(len('abc'))").stdout == "3\n"


def test_helpers_do_not_care_what_the_model_calls_its_variables(run):
    # Guards: helpers that run in the model's own namespace break on `max = 3` or `len = 5`.
    assert run(
        "max = min = len = isinstance = 3\nprint(keyword_windows('passcode', 3))"
    ).stdout == ("['et passcode is']\n")


def test_reset_forgets_variables_and_keeps_the_context(run, sandbox):
    run("x = 1")
    sandbox.reset()
    assert run("print('x' in globals(), context_len, query)").stdout == "False 70 Which passcode?\n"


def test_start_on_an_open_sandbox_leaves_nothing_of_the_last_session(start):
    start("first secret")("x = context")
    result = start("second")("import gc\nprint(context, 'x' in globals())")
    assert result.stdout == "second False\n"
    seen = start("third")(
        "import gc\nprint([o for o in gc.get_objects() if 'second' == o or 'first secret' == o])"
    )
    assert seen.stdout == "[]\n"


def test_sessions_side_by_side_do_not_share(run, echo):
    other = open_sandbox("process")
    other.start("another text", echo)
    run("x = 1")
    assert other.run("print(context, 'x' in globals())").stdout == "another text False\n"
    other.close()


def test_show_vars_prints_and_returns(run):
    run("a = [1, 2]\nb = 'text'\nc = 7\ndef f(): pass\n_d = None")
    result = run("shown = SHOW_VARS()\nprint(shown['a'])")
    assert result.stdout == (
        "_d: NoneType, None\na: list, length 2\nb: str, length 4\nc: int, 7\nf: function\n"
        "list, length 2\n"
    )


def test_show_vars_without_any(run):
    assert run("SHOW_VARS()").stdout == "none\n"


@pytest.mark.parametrize(
    "code", ["exit()", "quit(2)", "raise SystemExit", "import sys; sys.exit('x')"]
)
def test_the_session_cannot_be_left(run, code):
    result = run(code)
    assert result.status == "error"
    assert result.error == "the session cannot be left; call FINAL(answer) to end"
    assert run("print(1)").status == "ok"


def test_classes_of_a_cell_have_a_module(run):
    code = "import dataclasses, pickle\n@dataclasses.dataclass\nclass A:\n    x: int\n"
    result = run(code + "print(pickle.loads(pickle.dumps(A(3))), __name__)")
    assert result.stdout == "A(x=3) __main__\n"


def test_the_order_of_a_set_is_the_same_in_every_session(start):
    # Guards: hash randomisation would make the same run print something else each time.
    code = "print(set(context.split()))"
    assert len({start()(code).stdout for _ in range(3)}) == 1


def test_run_needs_a_session():
    with pytest.raises(SandboxError, match="no session is open: call start"):
        open_sandbox().run("1")


def test_close_is_idempotent_and_leaves_no_descriptor(run, sandbox):
    run("import os\nos._exit(0)")
    sandbox.close()
    sandbox.close()
    links = [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
    assert [link for link in links if "memfd:context" in link] == []


def test_an_unknown_backend_is_named():
    with pytest.raises(UsageError, match="no sandbox backend 'docker'; there are: auto, process"):
        open_sandbox("docker")
