"""Frames survive any cutting of the stream, and nothing but the known messages comes out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.errors import SandboxError
from rlm.sandbox.wire import (
    FINAL_CHARS,
    MAX_TEXTS,
    VARIABLE_CHARS,
    VARIABLES,
    Answered,
    Call,
    Done,
    Frames,
    decode,
    frame,
    texts_of,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=5), st.data())
def test_frames_are_found_however_the_stream_is_cut(messages, data):
    stream = b"".join(map(frame, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    frames, bodies = Frames(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        bodies += frames.feed(stream[start:end])
    assert [json.loads(body) for body in bodies] == messages


def test_lone_surrogates_reach_the_worker():
    (body,) = Frames().feed(frame({"code": "\ud800"}))
    assert json.loads(body) == {"code": "\ud800"}


def test_a_frame_over_the_maximum_is_refused_before_it_is_read():
    with pytest.raises(SandboxError, match="a frame of 101 bytes, more than 100"):
        Frames(maximum=100).feed(b"\0\0\0\x65")


def test_a_frame_at_the_maximum_passes():
    assert Frames(maximum=2).feed(b"\0\0\0\x02{}") == [b"{}"]


FINAL = b'{"type":"final","value":"7","source":"FINAL"}'
DONE = (
    b'{"type":"done","number":1,"stdout":"","stdout_chars":0,"error":"","variables":%s,'
    b'"rebound":[]}'
)


def test_known_messages_are_decoded():
    assert decode(FINAL, "calls") == Answered("7", "FINAL")
    assert decode(DONE % b'["x"]', "cells") == Done(1, "", 0, "", ("x",), ())


@pytest.mark.parametrize("channel", ["cells", "calls"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"a":' * 10**5,
        b'{"type":"nonsense"}',
        b'{"type":"final","value":7,"source":"FINAL"}',
        b'{"type":"final","value":"7","source":"ELSE"}',
        b'{"type":"final","value":"\\ud800","source":"FINAL"}',
        b'{"type":"final","value":"' + b"x" * (FINAL_CHARS + 1) + b'","source":"FINAL"}',
        DONE.replace(b'"stdout_chars":0', b'"stdout_chars":-1') % b"[]",
        DONE % (b'["' + b"v" * (VARIABLE_CHARS + 1) + b'"]'),
        DONE % json.dumps(["v"] * (VARIABLES + 1)).encode(),
    ],
)
def test_anything_else_is_refused(body, channel):
    with pytest.raises(SandboxError, match="the worker sent no message"):
        decode(body, channel)


def test_a_message_on_the_other_channel_is_refused():
    for body, channel in ((FINAL, "cells"), (DONE % b"[]", "calls")):
        with pytest.raises(SandboxError, match="the worker sent no message"):
            decode(body, channel)


TOO_MANY = json.dumps([""] * (MAX_TEXTS + 1)).encode()


def call(texts: bytes) -> Call:
    head = b'{"type":"call","id":1,"kind":"llm_query","count":1,"chars":1,"texts":'
    return decode(head + texts + b"}", "calls")


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.booleans(), st.integers(0, 2)
)
def test_texts_are_what_was_sent(texts, ascii_only, spaces):
    body = json.dumps(texts, ensure_ascii=ascii_only, indent=spaces or None)
    assert texts_of(call(body.encode())) == tuple(texts)


def test_a_frame_full_of_spaces_is_read_at_once():
    """Guards the host's time: a loop over each of them would take seconds."""
    body = b"[" + b" " * 10**7 + b'"x"' + b" " * 10**6 + b"]"
    assert texts_of(call(body)) == ("x",)


@pytest.mark.parametrize(
    "texts",
    [b"7", b'"x"', b"{}", b"[7]", b"[[]]", b'["a", 7]', b'[{"a": "]"}]', TOO_MANY],
)
def test_anything_but_a_list_of_texts_is_refused(texts):
    with pytest.raises(SandboxError, match="the worker sent no texts"):
        texts_of(call(texts))
