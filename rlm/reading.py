"""A document from a file or from stdin, as text: plain text, HTML or PDF, told by its content.

A PDF needs the extra ``pdf`` (pypdf), HTML the extra ``html`` (trafilatura): both read what is in
the file, and fetch nothing.
"""

from __future__ import annotations

import codecs
import io
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from rlm.errors import UsageError

if TYPE_CHECKING:
    import pypdf

Format = Literal["auto", "text", "html", "pdf"]
FORMATS: Final[tuple[Format, ...]] = ("auto", "text", "html", "pdf")
_HEAD: Final = 1024
"""Bytes at the start in which a PDF or a page says what it is."""
_PAGE: Final = re.compile(
    rb"(?:\s|<\?xml[^>]*\?>|<!--(?>.*?-->))*+<(?:!doctype\s+html|html)\b",
    re.DOTALL | re.IGNORECASE,
)
"""Possessive: a file of many comments is looked at once, not in every way to divide it."""
_BINARY: Final = {
    b"PK\x03\x04": "a ZIP archive (Word, EPUB and OpenDocument files are such, too)",
    b"\x1f\x8b": "compressed with gzip",
    b"\xd0\xcf\x11\xe0": "an old Microsoft Office file",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"SQLite format 3\x00": "a database",
}
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Document:
    """A text that can be asked about.

    Attributes:
        name: of the file; ``stdin`` for ``-``.
        text: all of it.
        note: what a person should know about how it was read; empty if there is nothing.
    """

    name: str
    text: str
    note: str = ""


def read(file: str, *, form: Format = "auto", encoding: str | None = None) -> Document:
    """Read a document.

    Args:
        file: its path; ``-`` is stdin.
        form: what it is; ``auto`` looks at its first bytes.
        encoding: of text and HTML, as Python names it; ``None`` is UTF-8 for text, and for HTML
            what the page says.

    Raises:
        UsageError: it cannot be read, is not what it should be, holds no text, or needs an extra
            that is not installed.
    """
    name = "stdin" if file == "-" else file
    data = _bytes(file)
    found = told(data) if form == "auto" else form
    if found == "pdf":
        if encoding is not None:
            raise UsageError(f"{name} is a PDF, which has no --encoding: leave it out")
        document = _pdf(name, data)
    elif found == "html":
        document = _html(name, data, encoding)
    else:
        document = Document(name, _decoded(name, data, encoding or "utf-8"))
    if not document.text.strip():
        raise UsageError(f"{name} is empty; give a file with text")
    return document


def told(data: bytes) -> Literal["text", "html", "pdf"]:
    """What a file is, by its first bytes."""
    head = data[:_HEAD]
    if b"%PDF-" in head and not head.lstrip().startswith(b"<"):
        return "pdf"
    return "html" if _PAGE.match(head.removeprefix(codecs.BOM_UTF8)) else "text"


def _bytes(file: str) -> bytes:
    if file == "-" and sys.stdin is None:  # the shell's <&-
        raise UsageError("stdin is closed, so that - has no text: give a file, or a pipe")
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot read {file}: {reason}; give the path of a text file") from None


def _decoded(name: str, data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise UsageError(
            f"there is no encoding {encoding!r} of text; such are utf-8, latin-1, cp1252, utf-16"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(_not_text(name, data, encoding, error.start)) from None
    except UnicodeError as error:  # of codecs that name no place, as idna
        raise UsageError(
            f"{name} cannot be read as {encoding} text ({error}); say what it is, such as "
            "--encoding latin-1 or --encoding cp1252"
        ) from None


def _not_text(name: str, data: bytes, encoding: str, at: int) -> str:
    """Why some bytes are no text in an encoding, and what to do about it."""
    called = "UTF-8" if encoding == "utf-8" else encoding
    where = f"{name} is not {called} text (byte 0x{data[at]:02x} at offset {at})"
    for magic, kind in _BINARY.items():
        if data.startswith(magic):
            return f"{where}: it is {kind}; give the text that is in it"
    if data.startswith(_UTF16):
        return f"{where}: it begins as UTF-16 does; add --encoding utf-16"
    return f"{where}; say what it is, such as --encoding latin-1 or --encoding cp1252"


def _html(name: str, data: bytes, encoding: str | None) -> Document:
    with _extra("html", f"{name} is HTML", "read its source with --format text"):
        import trafilatura
    page = data if encoding is None else _decoded(name, data, encoding)
    with _quiet("trafilatura"):
        text = trafilatura.extract(page, favor_recall=True) or trafilatura.html2txt(page)
    if not text:
        raise UsageError(
            f"{name} is HTML in which no text was found (a page that a script fills is empty as a "
            "file): save it from a browser, or read its source with --format text"
        )
    note = f"{name}: the text of a web page, without menus and footers; --format text reads all"
    return Document(name, str(text), note)


def _pdf(name: str, data: bytes) -> Document:
    with _extra("pdf", f"{name} is a PDF", "convert it first, such as with pdftotext"):
        import pypdf
    with _quiet("pypdf"):
        try:
            pages = _pages(name, pypdf.PdfReader(io.BytesIO(data)))
        except UsageError:
            raise
        except Exception as error:  # pypdf raises whatever a broken file makes it raise
            raise UsageError(
                f"{name} cannot be read as a PDF ({type(error).__name__}: {error}); convert it "
                "first, such as with pdftotext, and give the text"
            ) from None
    empty = sum(not page.strip() for page in pages)
    if empty == len(pages):
        raise UsageError(
            f"{name} is a PDF without any text in its {len(pages)} pages, as scans are: make one "
            "with text first, such as with ocrmypdf"
        )
    note = f"; {empty} of them hold no text, as scans do" if empty else ""
    return Document(name, "\n\n".join(pages), f"{name}: a PDF of {len(pages)} pages{note}")


def _pages(name: str, reader: pypdf.PdfReader) -> list[str]:
    """The text of each page.

    Raises:
        UsageError: a password is needed, or something to decrypt with.
    """
    from pypdf.errors import DependencyError

    locked = UsageError(
        f"{name} is an encrypted PDF: save a copy without the password first, such as with "
        "qpdf --decrypt --password=… IN OUT"
    )
    try:
        if reader.is_encrypted and not reader.decrypt(""):
            raise locked
    except DependencyError:
        raise locked from None
    return [page.extract_text() for page in reader.pages]


@contextmanager
def _extra(extra: str, what: str, otherwise: str) -> Iterator[None]:
    """What to do where an import of an extra fails."""
    try:
        yield
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{what}, which needs the extra {extra} ({reason}): "
            f"pip install 'rlm-bench[{extra}]', or {otherwise}"
        ) from None


@contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Without what an extractor logs about files that are not quite as they should be."""
    log = logging.getLogger(logger)
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)
