"""One question asked of one document as a page: the answers, and the report's viewer below them.

The page is as self-contained, and as wary of what a model wrote, as that of ``rlm report``; see
`rlm.bench.report.page`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlm.bench.asked import Seen, Side, facts, seen, told
from rlm.bench.report import page
from rlm.bench.report.payload import Data, cut_data, pack, reading_data, story
from rlm.errors import UsageError

_ANSWER_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked.

    Attributes:
        text: the question.
        name: of the document.
        document: its text.
    """

    text: str
    name: str
    document: str


def check(out: Path) -> None:
    """See, before anything is asked, whether a page can be made and written.

    Raises:
        UsageError: jinja2 is not installed, or no file can be written there.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise UsageError(
            "a page needs jinja2: pip install 'rlm-bench[bench]', or leave out --save"
        ) from None
    if not out.parent.is_dir():
        raise UsageError(
            f"cannot write {out}: there is no folder {out.parent}; choose another file with --save"
        )
    page.check_file(out, option="--save")


def write(asked: Question, sides: Sequence[Side], out: Path) -> int:
    """Write the page of a question, whole or not at all.

    Args:
        asked: what was asked.
        sides: who answered, the direct reader first.
        out: the file; replaced if it is there.

    Returns:
        The size of the file in bytes.

    Raises:
        UsageError: it cannot be written.
    """
    return page.write_file(render(asked, sides), out, option="--save")


def render(asked: Question, sides: Sequence[Side]) -> str:
    """The page as text; see `write`."""
    looks = [seen(side, asked.document, asked.text) for side in sides]
    detail = {
        "question": asked.text,
        "gold": "",
        "chars": len(asked.document),
        "spans": [],
        "evidence": [],
        "entries": [_entry(side, look) for side, look in zip(sides, looks, strict=True)],
    }
    used = [facts(side) for side in sides]
    rows = [("answer", [told(side)[:_ANSWER_CHARS] for side in sides])]
    rows.append(("saw", [look.text for look in looks]))
    rows += [(name, [each[i][1] for each in used]) for i, (name, _) in enumerate(used[0])]
    return page.filled(
        "question.html",
        question=asked.text,
        name=asked.name,
        chars=len(asked.document),
        titles=[f"{side.architecture} · {side.model.spec}" for side in sides],
        rows=rows,
        index=pack([{"title": "what each side saw and did" if sides[1:] else "what happened"}]),
        chunks=[pack([detail])],
        alone=True,
    )


def _entry(side: Side, look: Seen) -> Data:
    """A side as the viewer shows it."""
    usage, went = side.trajectory.usage, side.trajectory
    return {
        "architecture": side.architecture,
        "verdict": side.outcome,
        "cause": "",
        "mark": "",
        "prediction": side.text[:_ANSWER_CHARS],
        "prediction_chars": len(side.text),
        "ended_by": side.answer.ended_by if side.answer else "",
        "error": side.error,
        "tokens": [usage.prompt_tokens, usage.completion_tokens],
        "calls": usage.calls,
        "sub_calls": went.sub_calls,
        "seconds": round(side.seconds, 3),
        "window": side.model.window,
        "trace": "",
        "cut": cut_data(went.cut) if went.cut else None,
        **(reading_data(look.reading) if look.reading else {}),
        **(story(went, ()) if went.calls else {}),
    }
