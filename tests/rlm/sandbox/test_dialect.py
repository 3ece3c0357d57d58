"""Methods that are given as functions, for an interpreter that has no bound methods."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.sandbox.dialect import translate

REWRITTEN = {
    "words.sort(key=low.count)": "words.sort(key=(lambda _x: low.count(_x)))",
    "max(d, key=d.get)": "max(d, key=(lambda _x: d.get(_x)))",
    "sorted(w, key=str.lower)": "sorted(w, key=(lambda _x: _x.lower()))",
    "list(map(str.strip, w))": "list(map((lambda _x: _x.strip()), w))",
    "filter(text.count, w)": "filter((lambda _x: text.count(_x)), w)",
    "max(d, key=d.get), min(e, key=e.get)": (
        "max(d, key=(lambda _x: d.get(_x))), min(e, key=(lambda _x: e.get(_x)))"
    ),
    "x = 'é'; max(d, key=d.get)": "x = 'é'; max(d, key=(lambda _x: d.get(_x)))",
    "if d:\n    max(d, key=a['b'].get)\nelse:\n    pass": (
        "if d:\n    max(d, key=(lambda _x: a['b'].get(_x)))\nelse:\n    pass"
    ),
}
LEFT = (
    "max(d, key=len)",
    "max(d, key=lambda x: d.get(x))",
    "f(key=count().get)",
    "f(other=d.get)",
    "print(d.get)",
    "max(d,\n key=d\n .get)",
    "max(d,\r key=d.get)",
    "max(d, key=d.get",
    "x" + "\0",
    "(" * 5000,
)


@pytest.mark.parametrize("code", REWRITTEN)
def test_a_method_given_as_a_function_becomes_a_lambda(code: str) -> None:
    assert translate(code) == REWRITTEN[code]


@pytest.mark.parametrize("code", LEFT)
def test_all_else_stays(code: str) -> None:
    assert translate(code) == code


@pytest.mark.parametrize("code", [code for code in REWRITTEN if not code.startswith("if")])
def test_the_meaning_stays(code: str) -> None:
    def run(source: str) -> str:
        names = {"words": ["b", "ab"], "low": "abcb", "d": {"a": 1, "b": 2}, "e": {"c": 3}}
        names |= {"w": [" b", "A "], "text": "A "}
        tree = ast.parse(source)
        for part in tree.body[:-1]:
            exec(compile(ast.Module([part], []), "code", "exec"), names)
        value = eval(ast.unparse(tree.body[-1]), names)
        return repr(list(value) if isinstance(value, filter) else value) + repr(names["words"])

    assert run(translate(code)) == run(code)


@given(st.text())
def test_no_text_harms_it(text: str) -> None:
    assert translate(text).count("\n") == text.count("\n")
