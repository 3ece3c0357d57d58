"""What of a reply is code, and what is an answer written outside code."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator
from typing import Final

_CODE_TAGS: Final = frozenset({"", "python", "py", "repl"})
_ONE_LINE: Final = re.compile(r"`{3,}(?!`)(.+?)`{3,}")
_FINAL_LINE: Final = re.compile(r"^[ \t]*FINAL\(", re.MULTILINE)
_FINAL_ANYWHERE: Final = re.compile(r"\bFINAL\(")
_TEXT_ARGUMENT: Final = re.compile(
    r"""\s*((?P<quote>"{3}|'{3}|"|')(?:\\.|(?!(?P=quote))[^\\])*(?P=quote))\s*\)""", re.DOTALL
)


def code_blocks(reply: str) -> list[str]:
    """The code of a reply, in order; empty if there is none.

    Fenced blocks tagged ``python``, ``py``, ``repl`` or nothing are code, the last one even when
    its fence is never closed; other tags are not. A block may open and close on one line. A reply
    without any fence is code if it parses as Python and is more than names and constants: an
    expression that calls nothing is prose.
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


def final_call(reply: str) -> str | None:
    """The code of a reply whose only code is one call of FINAL or FINAL_VAR, or ``None``."""
    blocks = code_blocks(reply.strip())
    match [_parsed(code) for code in blocks]:
        case [[ast.Expr(ast.Call(ast.Name("FINAL" | "FINAL_VAR")))]]:
            return blocks[0]
    return None


def _fenced(reply: str) -> Iterator[tuple[str, str]]:
    """Tag and code of each fenced block."""
    tag: str | None = None
    lines: list[str] = []
    for line in reply.replace("\r\n", "\n").split("\n"):  # no other mark ends a line of Python
        mark = line.strip()
        if tag is None and (whole := _ONE_LINE.match(mark)):
            yield _one_line(whole[1].strip())
        elif tag is None and mark.startswith("```"):
            words = mark.lstrip("`").split()
            tag, lines = (words[0].lower() if words else ""), []
        elif tag is not None and mark.startswith("```") and not mark.strip("`"):
            yield tag, textwrap.dedent("\n".join(lines))
            tag = None
        else:
            lines.append(line)
    if tag is not None:
        yield tag, textwrap.dedent("\n".join(lines))


def _one_line(inner: str) -> tuple[str, str]:
    """Tag and code of what stands between two fences on one line; the tag may be missing."""
    if _is_python(inner):
        return "", inner
    tag, _, code = inner.partition(" ")
    return tag.lower(), code.strip()


def _is_python(text: str) -> bool:
    return any(not isinstance(node, ast.Expr) or _calls(node) for node in _parsed(text))


def _parsed(text: str) -> list[ast.stmt]:
    """The statements of a text; none if it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _calls(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Call) for part in ast.walk(node))


def _inside(text: str, opening: re.Pattern[str]) -> str | None:
    """What stands between the first `opening` and its bracket (or the end of the text)."""
    match = opening.search(text)
    if match is None:
        return None
    if literal := _TEXT_ARGUMENT.match(text, match.end()):
        return _unquoted(literal[1])
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
