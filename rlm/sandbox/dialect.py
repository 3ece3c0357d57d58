"""What monty lacks, said in what it has: a method given as a function becomes a lambda.

monty (1.4) has no bound methods as values, and models write ``max(counts, key=counts.get)``. The
rewriting keeps every line where it was, so that tracebacks still point at the right one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

_TAKERS: Final = frozenset({"map", "filter"})
"""Functions whose first argument is a function."""
_TYPES: Final = frozenset({"str", "list", "dict", "set", "tuple", "int", "float", "bytes"})


def translate(code: str) -> str:
    """`code` with each method that is given as ``key=``, or to map or filter, in a lambda.

    ``key=low.count`` → ``key=(lambda _x: low.count(_x))``, ``map(str.strip, lines)`` →
    ``map((lambda _x: _x.strip()), lines)``. What does not parse is given back as it is.
    """
    if "\r" in code:  # ends a line for ast alone
        return code
    try:
        methods = list(_methods(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code
    lines = [line.encode() for line in code.split("\n")]  # ast counts bytes
    for node in sorted(methods, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        line = lines[node.lineno - 1]
        given = line[node.col_offset : node.end_col_offset]
        function = f"(lambda _x: {_call(node, given.decode())})".encode()
        lines[node.lineno - 1] = line[: node.col_offset] + function + line[node.end_col_offset :]
    return b"\n".join(lines).decode()


def _methods(tree: ast.AST) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        given = [word.value for word in node.keywords if word.arg == "key"]
        if isinstance(node.func, ast.Name) and node.func.id in _TAKERS:
            given += node.args[:1]
        for value in given:
            if isinstance(value, ast.Attribute) and _is_plain(value):
                yield value


def _is_plain(node: ast.expr) -> bool:
    """On one line, and nothing in it is called, which a lambda would do again for each item."""
    calls = any(isinstance(part, ast.Call) for part in ast.walk(node))
    return node.lineno == node.end_lineno and not calls


def _call(node: ast.Attribute, source: str) -> str:
    if isinstance(node.value, ast.Name) and node.value.id in _TYPES:
        return f"_x.{node.attr}()"
    return f"{source}(_x)"
