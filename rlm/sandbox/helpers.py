"""The functions with which a model looks at the text.

Every backend runs this source inside its sandbox, in a namespace of its own that also holds
`context`, `query`, `TEXTS` (the table ``helpers`` of the prompts), `llm_query_batched`, and the two
things that backends do each in their own way, `find_caseless` and `items`. To run in all of them it
keeps to plain functions: no generators, no classes, no ``del``.
"""
# ruff: noqa: F821  (the names below are bound by the sandbox)

import re
from typing import Any as _Any

context: str
query: str
TEXTS: dict[str, str]
find_caseless: _Any  # (keyword, start) -> its first place in any case, or -1
items: _Any  # (count, item) -> the list of what item makes of 0 to count - 1


def head(n: int = 500) -> str:
    """The first `n` characters."""
    _check_positive("n", n)
    return context[:n]


def tail(n: int = 500) -> str:
    """The last `n` characters."""
    _check_positive("n", n)
    return context[-n:]


def context_slice(start: int, end: int) -> str:
    """The characters from `start` up to `end`, counted from 0."""
    _check_not_negative("start", start)
    _check_not_negative("end", end)
    return context[start:end]


def chunk_text(size: int, overlap: int = 200) -> list[str]:
    """The text in pieces of `size` characters; each repeats `overlap` of the one before."""
    _check_positive("size", size)
    _check_not_negative("overlap", overlap)
    if overlap >= size:
        raise ValueError(TEXTS["overlap"].format(overlap=overlap, size=size))
    step = size - overlap
    beyond = max(0, len(context) - size)
    count = 1 + (beyond + step - 1) // step if context else 0

    def piece(index: int) -> str:
        return context[index * step : index * step + size]

    chunks: list[str] = items(count, piece)
    return chunks


def keyword_windows(keyword: str, window: int = 400, limit: int = 8) -> list[str]:
    """Places where `keyword` stands in any case, with `window` characters on both sides.

    A hit that begins inside the window before it is not returned again.
    """
    _check_text("keyword", keyword)
    if not keyword:
        raise ValueError(TEXTS["empty_keyword"])

    def find(start: int) -> tuple[int, int] | None:
        place = find_caseless(keyword, start)
        return None if place < 0 else (place, place + len(keyword))

    return _windows(find, window, limit)


def regex_windows(pattern: str, window: int = 400, limit: int = 8, flags: int = 0) -> list[str]:
    """The same as `keyword_windows` for a regular expression."""
    _check_text("pattern", pattern)
    try:
        compiled = re.compile(pattern, flags)
    except (re.error, TypeError, ValueError, OverflowError, RecursionError) as problem:
        raise ValueError(TEXTS["pattern"].format(pattern=pattern, reason=problem)) from None

    def find(start: int) -> tuple[int, int] | None:
        hit = compiled.search(context, start)
        return None if hit is None else (hit.start(), hit.end())

    return _windows(find, window, limit)


def query_chunks(chunks: list[str], prompt_template: str, limit: int | None = None) -> list[str]:
    """Ask about each of the first `limit` chunks.

    Only ``{chunk}``, ``{query}`` and ``{index}`` (from 0) are filled in; other braces stay.
    """
    _check_text("prompt_template", prompt_template)
    if limit is not None:
        _check_positive("limit", limit)
    prompts: list[str] = []
    for index, chunk in enumerate([chunks] if isinstance(chunks, str) else chunks):
        if index == limit:
            break
        _check_text(f"chunks[{index}]", chunk)
        prompts.append(_fill(prompt_template, {"chunk": chunk, "query": query, "index": index}))
    answers: list[str] = llm_query_batched(prompts)  # type: ignore[name-defined]
    return answers


def _fill(template: str, values: dict[str, object]) -> str:
    return re.sub(r"\{(chunk|query|index)\}", lambda slot: str(values[slot.group(1)]), template)


def _windows(find: _Any, window: int, limit: int) -> list[str]:
    """What surrounds the hits that `find` gives: (start) -> (start, end) of the next, or None."""
    _check_not_negative("window", window)
    _check_positive("limit", limit)
    found: list[str] = []
    hit = find(0)
    while hit and len(found) < limit:
        start, end = hit
        end = min(len(context), end + window)
        found.append(context[max(0, start - window) : end])
        # An empty match at the very end of its window would be found for ever.
        after = max(end, start + 1)
        hit = find(after) if after <= len(context) and len(found) < limit else None
    return found


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(TEXTS["not_text"].format(name=name, type=type(value).__name__))


def _check_positive(name: str, value: object) -> None:
    if not _is_whole(value, 1):
        raise ValueError(TEXTS["not_positive"].format(name=name, value=repr(value)[:60]))


def _check_not_negative(name: str, value: object) -> None:
    if not _is_whole(value, 0):
        raise ValueError(TEXTS["negative"].format(name=name, value=repr(value)[:60]))


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
