"""The address of a server, judged before anything is sent there."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from rlm.errors import UsageError

_ADDRESS: Final = re.compile(
    r"https?://(?:\[(?P<six>[0-9a-f.]*:[0-9a-f:.]+)\]|(?P<name>[a-z0-9_.-]+))(?::(?P<port>[0-9]{1,5}))?"
    r"(?:/[^?# ]*)?",
    re.IGNORECASE,
)
_LABELS: Final = re.compile(r"(?:[^.]{1,63}\.)*[^.]{1,63}\.?")
_USER: Final = re.compile(r".*@", re.DOTALL)
_QUERY: Final = re.compile(r"[?#].*", re.DOTALL)


def parse_address(url: str, *, remedy: str, given: str | None = None) -> str:
    """`url` without final slashes, if it is an HTTP address that a client can use.

    Args:
        url: such as ``http://localhost:8000/v1``.
        remedy: what to write instead, told with the error.
        given: what a person wrote, if `url` was made from that.

    Raises:
        UsageError: it is no such address, or holds a user, a password or a query; none of these
            is repeated.
    """
    shown = _QUERY.sub("?***", _USER.sub("***@", given or url))
    if "@" in url:
        raise UsageError(f"leave user and password out of the address {shown!r}; {remedy}")
    if not _is_address(url):
        raise UsageError(f"{shown!r} is no address of a server; {remedy}")
    return url.rstrip("/")


def _is_address(url: str) -> bool:
    """Whether it is scheme, host, perhaps a port and a path, in ASCII, and nothing more."""
    parts = _ADDRESS.fullmatch(url)
    if not parts or not (url.isascii() and url.isprintable()):
        return False
    name = parts["name"]
    if int(parts["port"] or 0) > 65_535 or (name and not _LABELS.fullmatch(name)):
        return False
    if name and not re.fullmatch(r"[\d.]+", name):
        return not name.lower().startswith("xn--") or _is_encoded(url)
    try:
        ipaddress.ip_address(parts["six"] or name)
    except ValueError:
        return False
    return True


def _is_encoded(url: str) -> bool:
    """Whether a name that begins like an encoded one (RFC 5890) is one, by httpx's rules."""
    import httpx

    try:
        return bool(httpx.URL(url).host)
    except UnicodeError:
        return False
