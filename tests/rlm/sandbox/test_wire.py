"""Frames survive any cutting of the stream, and nothing but the known messages comes out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.errors import SandboxError
from rlm.sandbox.wire import Answered, Frames, decode, frame

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


def test_known_messages_are_decoded():
    body = b'{"type":"final","value":"7","source":"FINAL"}'
    assert decode(body) == Answered("7", "FINAL")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"type":"nonsense"}',
        b'{"type":"final","value":7,"source":"FINAL"}',
        b'{"type":"final","value":"7","source":"ELSE"}',
        b'{"type":"final","value":"\\ud800","source":"FINAL"}',
        b'{"type":"done","stdout":"","stdout_chars":-1,"error":"","variables":[],"rebound":[]}',
    ],
)
def test_anything_else_is_refused(body):
    with pytest.raises(SandboxError, match="the worker sent no message"):
        decode(body)
