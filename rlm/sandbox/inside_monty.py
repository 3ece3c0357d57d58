"""What a cell of the monty backend finds: helpers.py and the functions that reach the host.

The host does not import this; monty executes it before any cell, in a namespace of its own that
already holds the names declared below. Two things that helpers.py asks of `re` are not in monty,
a search from a position and a function as replacement: `Regex` has them. Nor can a class of this
file be a list: `items` makes one.
"""
# ruff: noqa: F821  (the names below are bound by the sandbox)

from __future__ import annotations

import json
import re
from typing import Any

context: str
query: str
TEXTS: dict[str, str]
helpers: str
keywords: list[str]
builtin_names: list[str]
ask: Any  # (kind, texts) -> answers
tell: Any  # (value, source); ends the cell
look: Any  # (name) -> its value in the session, or NameError
fixed: dict[str, Any]


class Hit:
    """A match, counted in the whole text."""

    def __init__(self, match: Any, at: int) -> None:
        self.match, self.at = match, at

    def start(self) -> int:
        """Where it begins."""
        found: int = self.match.start()
        return self.at + found

    def end(self) -> int:
        """Where it ends."""
        found: int = self.match.end()
        return self.at + found


class Pattern:
    r"""A compiled pattern that can search from a position.

    It looks at the rest of the text alone: ``^``, ``\b`` and a look-behind take the position for
    the beginning of the text.
    """

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled

    def search(self, text: str, at: int = 0) -> Any:
        """The first match from `at` on, or ``None``."""
        match = self.compiled.search(text[at:])
        return None if match is None else Hit(match, at)


class Regex:
    """As much of the module `re` as helpers.py uses."""

    def __init__(self) -> None:
        self.error = re.error

    def compile(self, pattern: str, flags: int = 0) -> Any:
        """A `Pattern`."""
        return Pattern(re.compile(pattern, flags))

    def sub(self, pattern: str, fill: Any, text: str) -> str:
        """`text` with what `fill` makes of each match in its place."""
        pieces = []
        end = 0
        for match in re.finditer(pattern, text):
            pieces.append(text[end : match.start()] + fill(match))
            end = match.end()
        return "".join(pieces) + text[end:]


def find_caseless(keyword: str, start: int) -> int:
    """The first place of `keyword` in any case, from `start` on; -1 if there is none."""
    hit = Pattern(re.compile(re.escape(keyword), re.IGNORECASE)).search(context, start)
    return -1 if hit is None else hit.start()


def items(count: int, item: Any) -> list[str]:
    """What `item` makes of 0 to `count` - 1."""
    return [item(index) for index in range(count)]


def llm_query(prompt: str) -> str:
    """One answer of the model."""
    check_text("prompt", prompt)
    answer: str = ask("llm_query", [prompt])[0]
    return answer


def llm_query_batched(prompts: list[str]) -> list[str]:
    """The model's answers, in order."""
    batch = [prompts] if isinstance(prompts, str) else list(prompts)
    for index, prompt in enumerate(batch):
        check_text(f"prompts[{index}]", prompt)
    return ask("llm_query_batched", batch) if batch else []


def rlm_query(context: str, query: str) -> str:
    """The answer of a whole new session on `context`."""
    check_text("context", context)
    check_text("query", query)
    answer: str = ask("rlm_query", [context, query])[0]
    return answer


def check_text(name: str, value: object) -> None:
    """Raise ValueError for anything but a string."""
    if not isinstance(value, str):
        raise ValueError(TEXTS["not_text"].format(name=name, type=type(value).__name__))


def FINAL(answer: object) -> None:  # noqa: N802
    """Give the answer and end the cell."""
    tell(str(answer), "FINAL")


def FINAL_VAR(name: object) -> None:  # noqa: N802
    """Give the value of the variable called `name`, or `name` itself if it is a value."""
    tell(str(value_of(name)), "FINAL_VAR")


def SHOW_VARS() -> dict[str, str]:  # noqa: N802
    """Print and return the model's variables, each with its type and size."""
    shown = {name: describe(value) for name, value in variables().items()}
    lines = [TEXTS["listed"].format(name=name, text=text) for name, text in shown.items()]
    print("\n".join(lines) or TEXTS["no_variables"])
    return shown


def value_of(name: object) -> object:
    """See `FINAL_VAR`."""
    bound = variables()
    if not isinstance(name, str):
        return name
    if name in bound:
        return bound[name]
    is_name = re.fullmatch(r"[^\W\d]\w*", name) and name not in keywords
    if not is_name or name in [value for value in bound.values() if isinstance(value, str)]:
        return name
    names = ", ".join(bound) or TEXTS["no_variables"]
    raise NameError(TEXTS["unknown_variable"].format(name=name, names=names))


def variables() -> dict[str, Any]:
    """What the model's code has bound, of the names that occurred in it, sorted."""
    bound = {}
    for name in look("_rlm_names"):
        try:
            value = look(name)
        except Exception:  # noqa: S112
            continue
        if name not in fixed and not (name in builtin_names and is_builtin(value)):
            bound[name] = value
    return bound


def is_builtin(value: object) -> bool:
    """A function or class; asked of values with the name of a builtin."""
    return type(value).__name__ in ("builtin_function_or_method", "type")


def describe(value: Any) -> str:
    """Type and length of a container or text, type and value of anything small."""
    kind = type(value).__name__
    if isinstance(value, (str, bytes, list, tuple, dict, set, frozenset)):
        return TEXTS["sized"].format(type=kind, length=len(value))
    if value is None or isinstance(value, (bool, int, float)):
        text = repr(value)
        if len(text) > 40:
            text = text[:18] + "..." + text[-19:]
        return TEXTS["valued"].format(type=kind, value=text)
    return kind


def look_around() -> list[list[str]]:
    """After a cell: the names of its variables, and of what it has overwritten."""
    return [list(variables()), [name for name in fixed if is_rebound(name)]]


def is_rebound(name: str) -> bool:
    """Whether a fixed name has another value now, or none."""
    try:
        now = look(name)
    except NameError:
        return True
    is_module = type(now).__name__ == "module"  # another object after each import
    return now is not fixed[name] and not (is_module and repr(now) == repr(fixed[name]))


def fixed_names() -> dict[str, Any]:
    """What the host binds in every cell; runs helpers.py."""
    inside: dict[str, Any] = {"context": context, "query": query, "TEXTS": TEXTS}
    inside["llm_query_batched"] = llm_query_batched
    inside.update({"find_caseless": find_caseless, "items": items})
    before = list(inside)
    exec(helpers, inside)  # noqa: S102
    inside["re"] = Regex()
    public = {n: v for n, v in inside.items() if n not in before and not n.startswith("_")}
    public.update({"context": context, "query": query, "context_len": len(context)})
    public.update({"FINAL": FINAL, "FINAL_VAR": FINAL_VAR, "SHOW_VARS": SHOW_VARS})
    public.update({"llm_query": llm_query, "llm_query_batched": llm_query_batched})
    public.update({"rlm_query": rlm_query, "re": re, "json": json})
    return public
