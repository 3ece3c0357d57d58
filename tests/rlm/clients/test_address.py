"""What counts as the address of a server."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.clients.address import parse_address
from rlm.errors import UsageError

PIECES = ["http://", "https:", "//", "[", "]", "::1", "v1.x", "1.2.3.4", "999.1.1.1", "host"]
PIECES += [
    "a.b",
    ".",
    ":",
    "80",
    "99999",
    "/",
    "v1",
    "%",
    "%zz",
    " ",
    "?",
    "#",
    "@",
    "\\",
    "é",
    "-",
    "xn--",
]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("HTTPS://Example.com/a/b//", "HTTPS://Example.com/a/b"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://10.0.0.1", "http://10.0.0.1"),
        ("http://my_box.lan.:80", "http://my_box.lan.:80"),
        ("http://xn--bcher-kva.example", "http://xn--bcher-kva.example"),
    ],
)
def test_address_is_kept(url: str, address: str) -> None:
    assert parse_address(url, remedy="x") == address


NONE = ["", "localhost:8000", "ftp://x", "http://", "http://:80", "http://[::1", "http://[1.2.3.4]"]
NONE += ["http://h:abc", "http://h:99999", "http://999.1.1.1", "http://a..b", "http://\N{SNOWMAN}"]
NONE += [
    "http://xn--a",
    "http://XN--",
    "http://exa mple",
    "http://h\n",
    "http://" + "a" * 64,
    "http://[v1.x]",
]


@pytest.mark.parametrize("url", NONE)
def test_what_is_no_address_is_named_with_the_remedy(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(url, remedy="do this")
    assert str(caught.value) == f"{url!r} is no address of a server; do this"


@pytest.mark.parametrize("url", ["http://u:PW@h", "PW@h", "http://h:PW/x@h", "http://h?key=PW"])
def test_secret_in_an_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(url, remedy="x")
    assert "PW" not in str(caught.value)


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_what_is_accepted_httpx_accepts(text: str) -> None:
    """Guards against a traceback of httpx for an address that was let through."""
    url = f"http://{text}"
    try:
        address = parse_address(url, remedy="x")
    except UsageError:
        return
    request = httpx.Request("GET", f"{address}/models")
    assert request.url.host
    assert request.url.path.endswith("/models")
    request.url.host.encode("idna")
