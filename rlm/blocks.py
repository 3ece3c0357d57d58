"""What of a reply is code, and what is an answer written outside code."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator
from typing import Final

_CODE_TAGS: Final = frozenset({"", "python", "py", "repl"})
_FINAL_LINE: Final = re.compile(r"^[ \t]*FINAL\(", re.MULTILINE)
_FINAL_ANYWHERE: Final = re.compile(r"\bFINAL\(")


def code_blocks(reply: str) -> list[str]:
    """The code of a reply, in order; empty if there is none.

    Fenced blocks tagged ``python``, ``py``, ``repl`` or nothing are code, the last one even when
    its fence is never closed; other tags are not. A reply without any fence is code if it parses
    as Python and is more than names and constants: an expression that calls nothing is prose.
    """
    fenced = list(_fenced(reply))
    if fenced:
        return [code for tag, code in fenced if tag in _CODE_TAGS and code.strip()]
    return [reply] if _is_python(reply) else []


def text_final(reply: str) -> str | None:
    """The answer in a reply that has a line starting with ``FINAL(``, or ``None``."""
    return _inside(reply, _FINAL_LINE)


def last_answer(reply: str) -> str:
    """The answer in the reply to a last call: what stands in ``FINAL(...)``, else all of it."""
    inside = _inside(reply, _FINAL_ANYWHERE)
    return reply.strip() if inside is None else inside


def _fenced(reply: str) -> Iterator[tuple[str, str]]:
    """Tag and code of each fenced block."""
    tag: str | None = None
    lines: list[str] = []
    for line in reply.splitlines():
        mark = line.strip()
        if tag is None and mark.startswith("```"):
            words = mark.lstrip("`").split()
            tag, lines = (words[0].lower() if words else ""), []
        elif tag is not None and mark.startswith("```") and not mark.strip("`"):
            yield tag, textwrap.dedent("\n".join(lines))
            tag = None
        else:
            lines.append(line)
    if tag is not None:
        yield tag, textwrap.dedent("\n".join(lines))


def _is_python(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) or _calls(node) for node in body)


def _calls(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def _inside(text: str, opening: re.Pattern[str]) -> str | None:
    """What stands between the first `opening` and its bracket (or the end of the text)."""
    match = opening.search(text)
    if match is None:
        return None
    start, depth = match.end(), 1
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if depth == 0:
            return _unquoted(text[start:end].strip())
    return _unquoted(text[start:].strip())


def _unquoted(inner: str) -> str:
    """The text of a string literal; anything else as it stands."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(inner)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return inner
    return value if isinstance(value, str) else inner
