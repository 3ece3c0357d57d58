"""`rlm ask --save` and `--compare`: what each side saw, and the page (see test_page_browser.py)."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlm.bench.asked import Side, facts, seen, told
from rlm.bench.report import page, question
from rlm.bench.report.question import Question
from rlm.cli import main
from rlm.errors import CallTimeout, Interrupted, RLMError
from rlm.loop import RLM
from rlm.overflow import Overflow
from rlm.trajectory import Trajectory
from rlm.vanilla import Vanilla
from tests.rlm import story
from tests.rlm.bench.test_page import unpacked
from tests.rlm.scripted import STOP, Scripted, code

BOOK = story.story(20_000)
ASKED = Question(story.QUESTION, "book.txt", BOOK)
FOUND = code("print(context[-600:])", "print(llm_query('Text: ' + context[:300]))")
REPLIES = (FOUND, "48213", code("FINAL(48213)"))
Ask = Callable[..., int]


def loop(*replies: str | BaseException) -> Side:
    """What the loop makes of a script."""
    client, answer, error = Scripted(replies), None, ""
    went = Trajectory("v1")
    try:
        answer = RLM(client, prompt="compact").completion(BOOK, story.QUESTION)
        went = answer.trajectory
    except (RLMError, Interrupted) as ended:
        error = f"{type(ended).__name__}: {ended}" if isinstance(ended, RLMError) else ""
        went = ended.trajectory or went
    return Side("rlm", client.info(), went, 1.0, answer, error)


def vanilla(
    reply: str = "48213",
    *,
    window: int | None = None,
    overflow: Overflow = "refuse",
    truncated: bool = False,
) -> Side:
    """What one prompt makes of an answer."""
    client = Scripted(
        ["a sample", reply] if window else [reply], window=window, truncated=truncated
    )
    answer = Vanilla(client, overflow=overflow).completion(BOOK, story.QUESTION)
    return Side("vanilla", client.info(), answer.trajectory, 1.0, answer)


def saw(side: Side) -> str:
    return seen(side, BOOK, story.QUESTION).text


def test_a_document_that_does_not_fit_was_not_seen_at_all() -> None:
    side = vanilla(window=100)
    assert (side.outcome, told(side)) == ("truncated", "truncated: no answer")
    assert saw(side) == (
        "truncated: saw nothing, as the text does not fit the window of 100 tokens"
    )


def test_a_document_that_was_cut_on_purpose_says_where() -> None:
    side = vanilla(window=3_000, overflow="middle")
    cut = side.trajectory.cut
    (_, first), (second, _) = cut.kept
    share = f"{(first + 20_000 - second) / 20_000:.1%}"
    places = f"characters 0 to {first:,} and {second:,} to 20,000; not {first:,} to {second:,}"
    assert saw(side) == f"{share} of the text: {places}"


def test_a_document_that_fits_was_seen_as_a_whole() -> None:
    assert saw(vanilla()) == "all of the text"


def test_a_server_that_cuts_without_a_word_is_told() -> None:
    assert saw(vanilla(truncated=True)).startswith("not all: the server cut the prompt")


def test_what_the_loop_read_is_counted() -> None:
    side = loop(*REPLIES)
    assert saw(side) == (
        "3.0% of the text: 3.0% shown to the model that writes code, 1.5% passed to sub-calls"
    )
    assert dict(facts(side))["calls"] == "3, 1 of them sub-calls"
    assert dict(facts(side))["end"] == "2 turns, ended by final"


def test_sides_that_were_broken_off_say_so() -> None:
    stopped, failed = loop(FOUND, "48213", STOP), loop(CallTimeout("no answer in 5 s"))
    assert told(stopped) == "stopped by Ctrl-C"
    assert dict(facts(stopped))["end"] == "1 turn, stopped"
    assert told(failed) == "failed: CallTimeout: no answer in 5 s"
    assert told(loop(code("FINAL('')"), code("FINAL('')"), code("FINAL('')"))) == "no answer"


def test_the_page_holds_both_sides_and_fetches_nothing() -> None:
    text = question.render(ASKED, [vanilla(window=100), loop(*REPLIES)])
    (detail,) = unpacked(text, "chunk0")
    left, right = detail["entries"]
    assert (left["verdict"], right["verdict"]) == ("truncated", "answered")
    assert [turn["number"] for turn in right["turns"]] == [1, 2]
    assert right["printed"]
    assert right["passed"]
    assert "saw nothing, as the text does not fit the window of 100 tokens" in text
    assert "default-src 'none'" in text
    assert "https://" not in text
    assert text.count("<script") == 3  # the index, the one item, and the viewer of the report
    assert BOOK[5_000:6_000] not in html.unescape(text)


def test_what_a_run_that_was_stopped_had_done_is_in_its_page() -> None:
    (detail,) = unpacked(question.render(ASKED, [loop(FOUND, "48213", STOP)]), "chunk0")
    (entry,) = detail["entries"]
    assert entry["verdict"] == "stopped"
    assert entry["turns"][0]["cells"][1]["subs"][0]["answer"] == "48213"


def test_hostile_texts_are_text_in_the_page() -> None:
    evil = "<script>window.hacked = 1</script>\x1b[31m\u202e"
    asked = Question(evil, evil, BOOK)
    text = question.render(asked, [loop(evil, *[code(f"FINAL({evil!r})")] * 3)])
    assert "window.hacked = 1</script>" not in text
    assert not {"\x1b", "\u202e"} & set(text)
    assert "&lt;script&gt;window.hacked = 1&lt;/script&gt;⟨U+001B⟩[31m⟨U+202E⟩" in text


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    book = tmp_path / "book.txt"
    book.write_text(BOOK, encoding="utf-8")

    def run(*args: str, client: Scripted) -> int:
        monkeypatch.setattr("rlm.ask.connect", lambda spec, **_: client)
        return main(["ask", str(book), story.QUESTION, *args])

    return run


def both() -> Scripted:
    """A model that finds the answer in the loop, and says another when it reads."""
    return Scripted([*REPLIES, "cor"])


def test_compare_shows_both_and_prints_the_answer_of_the_loop(
    ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("--compare", "--quiet", client=both()) == 0
    out, err = capsys.readouterr()
    assert out == "48213\n"
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in err.splitlines()]
    named = {row[0]: row[1:] for row in rows if row}
    assert named[""] != []
    assert named["answer"] == ["cor", "48213"]
    assert named["saw"][0] == "all of the text"
    assert named["calls"] == ["1", "3, 1 of them sub-calls"]


def test_compare_as_json_has_both(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("--compare", "--json", client=both()) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["answer"], row["vanilla"]["answer"]) == ("48213", "cor")


def test_a_reader_that_fails_leaves_the_answer_of_the_loop(
    ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Scripted([*REPLIES, CallTimeout("no answer in 5 s")])
    assert ask("--compare", "--quiet", client=client) == 0
    out, err = capsys.readouterr()
    assert out == "48213\n"
    assert "failed: CallTimeout: no" in err


def test_compare_takes_the_options_of_both(ask: Ask) -> None:
    client = Scripted([*REPLIES, "sample", "48213"], window=3_000)
    options = ("--max-iterations=3", "--prompt=compact", "--overflow=head", "--quiet")
    assert ask("--compare", *options, client=client) == 0
    assert client.sent[-1][-1].content.startswith("Night 1")


@pytest.mark.parametrize("pair", [("--vanilla", "--compare"), ("--quiet", "--verbose")])
def test_what_does_not_go_together_is_refused(
    ask: Ask, capsys: pytest.CaptureFixture[str], pair: tuple[str, str]
) -> None:
    assert ask(*pair, client=Scripted([])) == 2
    assert f"{pair[0]} and {pair[1]} do not go together" in capsys.readouterr().err


def test_save_writes_one_file(ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert ask("--compare", "--save", str(page), client=both()) == 0
    assert f"{page}: 0.0" in capsys.readouterr().err
    (detail,) = unpacked(page.read_text(encoding="utf-8"), "chunk0")
    assert [entry["architecture"] for entry in detail["entries"]] == ["vanilla", "rlm"]


def test_a_run_that_failed_has_a_page_too(ask: Ask, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    client = Scripted([FOUND, "48213", CallTimeout("no answer in 5 s")])
    assert ask("--save", str(page), client=client) == 1
    (detail,) = unpacked(page.read_text(encoding="utf-8"), "chunk0")
    assert detail["entries"][0]["error"] == "CallTimeout: no answer in 5 s"
    assert len(detail["entries"][0]["turns"]) == 1


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_an_answer_is_shown_whatever_becomes_of_the_page(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    replies = iter(REPLIES)

    def reply(messages: object) -> str:
        if folder.exists():
            folder.rmdir()  # after the first look at it
        return next(replies)

    assert ask("--save", str(folder / "page.html"), option, client=Scripted(reply)) == 1
    out, err = capsys.readouterr()
    assert "48213" in out
    assert f"cannot write {folder / 'page.html'}: No such file" in err


def test_ctrl_c_while_the_page_is_made_leaves_the_answer(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(question, "render", stopped)
    assert ask("--save", str(tmp_path / "page.html"), "--quiet", client=both()) == 130
    assert capsys.readouterr() == ("48213\n", "rlm: stopped\n")


def test_a_page_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        page.write_file("half a character: \ud800", tmp_path / "page.html", option="-o")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["book.txt", "link.html"])
def test_the_document_is_never_replaced_by_its_page(
    ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    client, place = Scripted([]), tmp_path / name
    (tmp_path / "link.html").symlink_to(tmp_path / "book.txt")
    assert ask("--save", str(place), client=client) == 2
    assert f"{place} is what is read, and would be replaced" in capsys.readouterr().err
    assert (tmp_path / "book.txt").read_text(encoding="utf-8") == BOOK
    assert client.sent == []


@pytest.mark.parametrize("place", [".", "no/such/page.html", "/proc/page.html", "n" * 300])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_asked(
    ask: Ask, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    client = Scripted([])
    assert ask("--save", place, client=client) == 2
    assert f"cannot write {place}: " in capsys.readouterr().err
    assert client.sent == []
