"""Documents from files: what they are is told by their content, and what is wrong by its place."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from rlm.errors import UsageError
from rlm.reading import Document, read, told

STORY = ("The keeper of Grey Rock wrote the log.", "The vault combination is 48213.")
PAGE = """<?xml version="1.0"?>
<!-- saved --><!DOCTYPE HTML><html><head><title>Grey Rock</title><meta charset="utf-8">
<script>var hidden = 1</script><style>p {color: red}</style></head><body>
<h1>Grey Rock</h1><p>Émile keeps the lamp. The storm came at four in the morning.</p>
<table><tr><td>vault combination</td><td>48213</td></tr></table></body></html>"""
Write = Callable[[bytes], str]


def needs(extra: str, module: str) -> None:
    """Skip where an extra cannot be imported, unless ``RLM_REQUIRE`` names it."""
    if extra in os.environ.get("RLM_REQUIRE", "").split(","):
        return
    try:
        import_module(module)
    except ImportError as error:
        pytest.skip(f"needs the extra {extra}: pip install 'rlm-bench[{extra}]' ({error})")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(data: bytes) -> str:
        path = tmp_path / "document"
        path.write_bytes(data)
        return str(path)

    return file


def pdf(*pages: str) -> bytes:
    """A PDF of these pages, written by hand: one line of text each, or an empty page."""
    parts = [b"<</Type/Catalog/Pages 2 0 R>>"]
    numbers = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    parts.append(f"<</Type/Pages/Kids[{numbers}]/Count {len(pages)}>>".encode())
    parts.append(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
    for i, text in enumerate(pages):
        font = "/Resources<</Font<</F 3 0 R>>>>"
        box = "/MediaBox[0 0 595 842]"
        parts.append(f"<</Type/Page/Parent 2 0 R{box}{font}/Contents {5 + 2 * i} 0 R>>".encode())
        drawn = f"BT /F 12 Tf 72 720 Td ({text}) Tj ET" if text else "0 0 m 9 9 l S"
        parts.append(f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream".encode())
    data, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(data))
        data += f"{number} 0 obj".encode() + part + b"endobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = f"xref\n0 {len(parts) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer<</Size {len(parts) + 1}/Root 1 0 R>>\nstartxref\n{len(data)}\n%%EOF"
    return data + end.encode()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"%PDF-1.7\n", "pdf"),
        (b"\x00mail header\n%PDF-1.4", "pdf"),
        (PAGE.encode(), "html"),
        (b"\xef\xbb\xbf\n<HTML lang=de>", "html"),
        (b"<!doctype   html>", "html"),
        (b"<html>%PDF-1.4</html>", "html"),
        (b"<htmlx>", "text"),
        (b"He wrote <html> and %PDF.", "text"),
        (b"", "text"),
    ],
)
def test_what_a_file_is_stands_in_it(data: bytes, kind: str) -> None:
    assert told(data) == kind


def test_many_comments_are_looked_at_once() -> None:
    """A file of them took longer than anybody waits: each could end where any other did."""
    comments = b"<!---->" * 140
    assert told(comments + b"<p>") == "text"
    assert told(comments + b"<html>") == "html"


def test_utf_8_loses_its_mark(write: Write) -> None:
    file = write("\ufeffÉmile\r\n".encode())
    assert read(file) == Document(file, "Émile\r\n")


def test_bytes_that_are_no_text_are_told_with_their_place(write: Write) -> None:
    file = write(b"\xef\xbb\xbfcaf\xe9 noir")
    with pytest.raises(UsageError) as raised:
        read(file)
    assert str(raised.value) == (
        f"{file} is not UTF-8 text (byte 0xe9 at offset 6); say what it is, such as "
        "--encoding latin-1 or --encoding cp1252"
    )


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8"])
def test_an_encoding_can_be_named(write: Write, encoding: str) -> None:
    assert read(write("café noir".encode(encoding)), encoding=encoding).text == "café noir"


def test_utf_16_is_recognised(write: Write) -> None:
    with pytest.raises(UsageError, match=r"offset 0\): it begins as UTF-16 does; add --encoding"):
        read(write("Émile".encode("utf-16")))


@pytest.mark.parametrize("encoding", ["martian", "hex"])
def test_an_encoding_of_no_text_is_refused(write: Write, encoding: str) -> None:
    with pytest.raises(UsageError, match=f"there is no encoding '{encoding}' of text; such are"):
        read(write(b"61"), encoding=encoding)


@pytest.mark.parametrize("encoding", ["undefined", "idna"])
def test_an_encoding_that_names_no_place_is_refused(write: Write, encoding: str) -> None:
    with pytest.raises(UsageError, match=f"cannot be read as {encoding} text .*; say what it is"):
        read(write(b"xn--a"), encoding=encoding)


def test_a_closed_stdin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it after the shell's <&-
    with pytest.raises(UsageError, match="stdin is closed"):
        read("-")


def test_the_named_encoding_is_judged_too(write: Write) -> None:
    with pytest.raises(UsageError, match=r"is not ascii text \(byte 0xc3 at offset 1\)"):
        read(write("aé".encode()), encoding="ascii")


@pytest.mark.parametrize(
    ("start", "kind"), [(b"PK\x03\x04", "ZIP archive"), (b"\x89PNG\r\n", "an image")]
)
def test_well_known_binary_files_are_called_by_their_name(
    write: Write, start: bytes, kind: str
) -> None:
    with pytest.raises(UsageError, match=f"{kind}.*; give the text that is in it"):
        read(write(start + b"\xff\xfe\x00"))


def test_stdin_is_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("é".encode("latin-1"))))
    assert read("-", encoding="latin-1") == Document("stdin", "é")


def test_a_pdf_is_read_whatever_it_is_called(write: Write) -> None:
    needs("pdf", "pypdf")
    file = write(pdf(*STORY))
    found = read(file)
    assert found.text == "\n\n".join(STORY)
    assert found.note == f"{file}: a PDF of 2 pages"


def test_a_pdf_that_matplotlib_made_is_read(tmp_path: Path) -> None:
    needs("pdf", "pypdf")
    figure = pytest.importorskip("matplotlib.figure").Figure()
    figure.text(0.1, 0.5, STORY[1])
    figure.savefig(tmp_path / "page.txt", format="pdf")
    assert STORY[1] in read(str(tmp_path / "page.txt")).text


def test_pages_without_text_are_told(write: Write) -> None:
    needs("pdf", "pypdf")
    assert read(write(pdf(STORY[0], ""))).note.endswith(
        "2 pages; 1 of them hold no text, as scans do"
    )
    with pytest.raises(UsageError, match="a PDF without any text in its 1 pages, as scans are"):
        read(write(pdf("")))


@pytest.mark.parametrize("password", ["", "lamp"])
def test_an_encrypted_pdf_needs_to_be_opened_first(write: Write, password: str) -> None:
    """An empty password keeps nobody out: many PDFs forbid no more than to be changed."""
    needs("pdf", "pypdf")
    from pypdf import PdfReader, PdfWriter

    writer, out = PdfWriter(PdfReader(io.BytesIO(pdf(*STORY)))), io.BytesIO()
    writer.encrypt(password, "owner", algorithm="RC4-128")
    writer.write(out)
    if password:
        with pytest.raises(UsageError, match=r"an encrypted PDF: .*qpdf --decrypt"):
            read(write(out.getvalue()))
    else:
        assert STORY[1] in read(write(out.getvalue())).text


@pytest.mark.parametrize("size", [8, 200, 500])
def test_a_broken_pdf_is_one_clear_error(
    write: Write, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    needs("pdf", "pypdf")
    with pytest.raises(UsageError, match=r"cannot be read as a PDF|without any text"):
        read(write(pdf(*STORY)[:size]))
    assert caplog.records == []


def test_a_pdf_has_no_encoding(write: Write) -> None:
    with pytest.raises(UsageError, match="which has no --encoding"):
        read(write(pdf("x")), encoding="latin-1")


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1"])
def test_a_page_is_read_without_its_scripts(write: Write, encoding: str) -> None:
    needs("html", "trafilatura")
    found = read(write(PAGE.replace("utf-8", encoding).encode(encoding)))
    assert "Émile keeps the lamp." in found.text
    assert "48213" in found.text
    assert "hidden" not in found.text
    assert "color" not in found.text
    assert "--format text reads all" in found.note


def test_a_page_in_an_encoding_that_it_does_not_name(write: Write) -> None:
    needs("html", "trafilatura")
    page = PAGE.replace('<meta charset="utf-8">', "").encode("cp1253", errors="ignore")
    assert "keeps the lamp" in read(write(page), encoding="cp1253").text


def test_a_page_without_text_is_a_clear_error(write: Write) -> None:
    needs("html", "trafilatura")
    with pytest.raises(UsageError, match="in which no text was found"):
        read(write(b"<!doctype html><html><body><script>draw()</script></body></html>"))


@pytest.mark.parametrize("form", ["text", "auto"])
def test_the_source_of_a_page_can_be_asked_about(write: Write, form: str) -> None:
    plain = "<p>no page</p>" if form == "auto" else PAGE
    assert read(write(plain.encode()), form=form).text == plain


@pytest.mark.parametrize(
    ("data", "module", "extra"),
    [(pdf("x"), "pypdf", "pdf"), (PAGE.encode(), "trafilatura", "html")],
    ids=["pdf", "html"],
)
def test_a_missing_extra_is_named(
    write: Write, monkeypatch: pytest.MonkeyPatch, data: bytes, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"pip install 'rlm-bench\[{extra}\]', or "):
        read(write(data))


def test_extras_are_known_to_the_package() -> None:
    """Guards the names in the messages above."""
    import tomllib

    about = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = about["project"]["optional-dependencies"]
    named = [need.partition(">")[0] for need in (*extras["pdf"], *extras["html"])]
    assert named == ["pypdf", "lxml-html-clean", "trafilatura"]
