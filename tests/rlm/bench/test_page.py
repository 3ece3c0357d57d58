"""The HTML report: what is in the file. What a browser makes of it: test_page_browser.py."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from rlm.bench import records, tasks
from rlm.bench.evidence import CAUSES
from rlm.bench.report import figures, page, payload, tables, verdicts
from rlm.bench.report.figures import Query
from rlm.cli import main
from rlm.errors import RecordError, UsageError
from tests.rlm.bench import synthetic_run
from tests.rlm.bench.test_records import record, stored

QUERY = Query(0, "niah", "tokens")


CELLS = 96


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs on the same documents; one speaks to browsers."""
    root = tmp_path_factory.mktemp("page")
    for name, hostile in (("plain", False), ("hostile", True)):
        folder, lengths = root / "runs" / name, (1024, 32768)
        synthetic_run.write(folder, CELLS, lengths=lengths, failing=0.8, hostile=hostile)
    return root


@pytest.fixture(scope="module")
def both(runs: Path) -> str:
    """The page of the two runs."""
    return page.render([str(runs / "runs" / name) for name in ("plain", "hostile")])


@pytest.fixture
def here(runs, monkeypatch):
    monkeypatch.chdir(runs)
    return runs


def unpacked(text: str, name: str):
    (found,) = re.findall(f'<script type="text/plain" id="{name}"[^>]*>(.*?)</script>', text)
    return json.loads(gzip.decompress(base64.b64decode(found)))


def test_the_command_writes_one_file_with_all_items(here, capsys):
    assert main(["report", "plain"]) == 0
    assert re.fullmatch(r"report\.html: 0\.\d MB\n", capsys.readouterr().out)
    text = Path("report.html").read_text()
    items = unpacked(text, "index")
    assert len(items) == CELLS // 2
    chunks = [unpacked(text, f"chunk{i}") for i in range(2)]
    assert [len(chunk) for chunk in chunks] == [payload.CHUNK, CELLS // 2 - payload.CHUNK]
    for item, detail in zip(items, chain(*chunks), strict=True):
        assert [a[0] for a in item["answers"]] == ["vanilla", "rlm"]
        assert detail["gold"] == item["gold"]
        (start, end), (evidence,) = detail["spans"][0], detail["evidence"]
        assert end - start == len(evidence)
        assert detail["gold"] in evidence
        vanilla, loop = detail["entries"]
        assert "turns" in vanilla
        assert [turn["number"] for turn in loop["turns"]] == list(range(1, len(loop["turns"]) + 1))


def test_nothing_is_fetched_and_only_the_two_own_parts_run(both):
    text = both
    (policy,) = re.findall('http-equiv="Content-Security-Policy" content="(.*?)"', text)
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed["default-src"] == "'none'"
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (inner,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert allowed[directive] == f"'sha256-{digest}'"
    static = text.split('<script type="text/plain"')[0]
    links = re.findall(r'\b(?:src|href|xlink:href|action)\s*=\s*"?([^"\s>]*)', static)
    assert links
    assert all(link.startswith("#/list/") for link in links)
    assert "https://" not in text
    assert re.findall("<script[^>]*>", text)[-1] == "<script>"
    assert "window.hacked" not in text


def test_the_verdict_lines_stand_in_it_word_for_word(here, both):
    text = html.unescape(both)
    lines = verdicts.lines(records.load("plain"))
    assert len(lines) > 6
    for line in lines:
        assert f"<li>{line}</li>" in text


def test_several_runs_are_compared_with_the_first(both):
    text = both
    assert "<h2>plain → hostile</h2>" in text
    assert "won:lost" in text
    assert len(unpacked(text, "index")) == CELLS
    assert {item["run"] for item in unpacked(text, "index")} == {0, 1}


def test_every_failed_loop_has_its_cause_and_those_that_never_looked_saw_nothing(here):
    made = payload.Payload()
    made.add("plain", records.load("plain"))
    (told,) = made.told
    failed = [t for t in told if t.record.verdict != "correct"]
    assert {t.cause for t in failed} == set(CAUSES) - {"not measured"}
    assert all(t.share == 0 for t in failed if t.cause == "never looked")
    assert all(t.share == 1 for t in failed if t.cause in ("misread", "sub-call wrong"))
    (table,) = (tables.causes(told, QUERY),)
    assert sum(row.total for row in table.rows) + table.unknown == len(failed)


def test_long_texts_keep_ends_and_evidence():
    text = "a" * 5000 + "NEEDLE" + "b" * 5000
    kept = payload.parts(text, ["NEEDLE"])
    sizes = [part if isinstance(part, int) else len(part) for part in kept]
    assert sum(sizes) == len(text)
    assert [type(part) for part in kept] == [str, int, str, int, str]
    assert "NEEDLE" in kept[2]
    assert payload.parts("short") == "short"


def test_evidence_of_thousands_of_lines_stays_small():
    """Guards the size of a page, which would hold most of each document."""
    item = tasks.get("aggregate").generate(200_000, None, 8)
    assert len(item.spans) > payload.SHOWN
    shown = payload.shown_evidence(item)
    assert len(shown) == payload.SHOWN
    assert all(line in item.document for line in shown)
    marks = payload.marks(item)
    assert len(marks) <= 500
    assert all(any(m.start <= s.start and s.end <= m.end for m in marks) for s in item.spans)
    few = tasks.get("pairs").generate(200_000, None, 1)
    assert payload.marks(few) == few.spans


def cells(*wanted: tuple[str, int, str]):
    """Cells (architecture, length, verdict) on documents of their own."""
    base = record()
    return [
        replace(base, architecture=arch, length=length, sample=i // 2, verdict=verdict)
        for i, (arch, length, verdict) in enumerate(wanted)
    ]


def test_what_was_not_answered_is_hatched_and_never_shaded_as_wrong():
    """Guards the report from calling a document that did not fit one that was misread."""
    found = figures.heat_maps(
        cells(
            ("vanilla", 1024, "truncated"),
            ("rlm", 1024, "correct"),
            ("vanilla", 2048, "wrong"),
            ("rlm", 2048, "error"),
            ("vanilla", 2048, "correct"),
            ("rlm", 2048, "correct"),
        ),
        QUERY,
    )
    assert [heat_map.title for heat_map in found] == ["vanilla", "rlm", "rlm minus vanilla"]
    vanilla, loop, difference = (heat_map.squares for heat_map in found)
    told = [(s.text, s.shade, s.hatched) for s in (*vanilla, *loop, *difference)]
    assert told == [
        ("-", None, True),
        ("1/2", figures.SHADES // 2, False),
        ("1/1", figures.SHADES, False),
        ("1/1", figures.SHADES, True),
        ("+100", None, True),
        ("0", figures.SHADES // 2, True),
    ]
    assert vanilla[0].tip == "vanilla, 1k, depth 50 %: no answer: 1 truncated; n = 1"
    assert vanilla[1].tip == "vanilla, 2k, depth 50 %: 1 of 2 answers right [9%, 91%]; n = 2"
    assert vanilla[1].query == ("0", "niah", "tokens", "2048", "50", "*", "*")


def test_a_curve_leaves_out_what_could_not_be_read():
    plot = figures.plot(
        cells(
            ("vanilla", 1024, "correct"),
            ("rlm", 1024, "wrong"),
            ("vanilla", 8192, "truncated"),
            ("rlm", 8192, "correct"),
        )
    )
    vanilla, loop = plot.curves
    assert ([p.y for p in vanilla.points], len(vanilla.unread)) == ([0.0], 1)
    assert [p.y for p in loop.points] == [figures.PLOT[1], 0.0]
    assert all(p.high <= p.y <= p.low for p in loop.points)
    assert plot.window is not None
    x, told = plot.window
    assert told == "window 4,096 tokens"
    assert plot.ticks[0][0] < x < plot.ticks[1][0]


def test_bars_count_what_the_pairs_came_to():
    both = [("vanilla", 1024, "correct"), ("rlm", 1024, "correct")]
    won = [("vanilla", 1024, "truncated"), ("rlm", 1024, "correct")]
    none = [("vanilla", 1024, "wrong"), ("rlm", 1024, "timeout")]
    (bar,) = tables.bars(cells(*both, *won, *won, *none), QUERY)
    assert bar.pairs == 4
    assert [piece[:2] for piece in bar.pieces] == [
        ("both", 1),
        ("right", 2),
        ("left", 0),
        ("neither", 1),
    ]
    assert sum(piece[3] for piece in bar.pieces) == pytest.approx(1.0)


def test_ink_is_readable_on_every_shade():
    def luminance(colour: str) -> float:
        digits = colour.lstrip("#")
        wide = "".join(2 * c for c in digits) if len(digits) == 3 else digits
        values = (int(wide[i : i + 2], 16) / 255 for i in (0, 2, 4))
        return sum(
            w * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
            for w, c in zip((0.2126, 0.7152, 0.0722), values, strict=True)
        )

    shades = figures.palette()
    assert len(set(shades)) == figures.SHADES + 1
    for fill, ink in shades:
        low, high = sorted((luminance(fill), luminance(ink)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (fill, ink)


def test_hidden_characters_are_shown_by_their_numbers():
    assert page.visible("a\tb\n\x1b[31m\u202e\u2028\ud800\x00") == (
        "a\tb\n⟨U+001B⟩[31m⟨U+202E⟩⟨U+2028⟩⟨U+D800⟩⟨U+0000⟩"
    )


def test_hostile_names_are_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = record(error=None)
    row = replace(
        row, task="a/b&'", model=replace(row.model, spec="</script><script>alert(1)</script>\x1b")
    )
    stored(Path("runs", "<b>&'\""), row)
    text = page.render(["<b>&'\""])
    assert "<h1>&lt;b&gt;&amp;&#39;&#34;</h1>" in text
    assert "<script>alert" not in text
    assert 'href="#/list/0/a%2Fb%26%27/tokens/1024/50/%2A/%2A"' in text
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;⟨U+001B⟩" in text


def test_cells_without_trajectories_are_shown_and_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    synthetic_run.write(Path("runs/a"), 12, lengths=(1024,))
    for file in Path("runs/a/trajectories").iterdir():
        file.unlink()
    text = page.render(["a"])
    assert len(unpacked(text, "index")) == 6
    assert re.search(
        r"not shown: trajectory: cannot read trajectories/….json: No such .* \(12\)", text
    )


def test_what_cannot_be_written_is_told_and_leaves_nothing(here, tmp_path, capsys):
    assert main(["report", "plain", "-o", "no/such/report.html"]) == 2
    assert "cannot write no/such/report.html: No such file" in capsys.readouterr().err
    assert main(["report", "plane"]) == 2
    assert "unknown run 'plane' (did you mean 'plain'?)" in capsys.readouterr().err
    with pytest.raises(UsageError, match="choose another file with -o"):
        page.write(["plain"], tmp_path)
    assert list(tmp_path.iterdir()) == []
    stored(tmp_path / "empty")
    with pytest.raises(RecordError, match="has no cells: there is nothing to report"):
        page.write([str(tmp_path / "empty")], tmp_path / "x.html")


def test_the_same_run_gives_the_same_bytes(tmp_path):
    synthetic_run.write(tmp_path / "a", 12, lengths=(1024,))
    first = page.render([str(tmp_path / "a")])
    time.sleep(1.1)  # a time in the gzip header counts seconds
    assert page.render([str(tmp_path / "a")]) == first
