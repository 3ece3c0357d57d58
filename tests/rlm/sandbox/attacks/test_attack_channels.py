"""The two sockets to the host: bytes that are no message, messages that are lies, and silence."""

from __future__ import annotations

import json
import time

import pytest

from rlm.sandbox.child import GRACE_SECONDS
from rlm.sandbox.wire import MAX_FRAME

SECONDS, MARGIN = 1.0, 2.0
FINAL_CHARS = 1_000_000  # as the worker itself cuts an answer
FRAME = """
def send(data):
    rest = memoryview(data)
    while rest: rest = rest[os.write(FD, rest):]
def frame(body): return len(body).to_bytes(4, 'big') + body
"""
DONE = {"type": "done", "number": 1, "stdout": "lie", "stdout_chars": 3, "error": ""}
DONE |= {"variables": [], "rebound": []}
CALL = {"type": "call", "id": 1, "kind": "llm_query", "count": 1, "chars": 1, "texts": ["a"]}
BODIES = {
    "no JSON": b"garbage",
    "nothing": b"",
    "null": b"null",
    "a number": b"1" * 10**6,
    "a list": b"[]",
    "no type": b"{}",
    "unknown type": b'{"type": "exec"}',
    "type twice": b'{"type": "final", "type": "done"}',
    "half": b'{"type": "done", "stdout": "',
    "invalid UTF-8": b'{"type": "final", "source": "FINAL", "value": "\xff\xfe"}',
    "surrogate in UTF-8": b'{"type": "final", "source": "FINAL", "value": "\xed\xa0\x80"}',
    "escaped lone surrogate": b'{"type": "final", "source": "FINAL", "value": "\\ud800"}',
    "zero bytes": bytes(1000),
    "nested lists": b"[" * 10**6,
    "nested objects": b'{"a":' * 10**6,
    "nested in a field": b'{"type": "done", "number": 1, "x": '
    + b"[" * 10**6
    + b"]" * 10**6
    + b"}",
    "nested in objects": b'{"type": "done", "x": ' + b'{"a":' * 10**5 + b"1" + b"}" * 10**5 + b"}",
    "a large number": json.dumps(CALL).replace("1,", "1" * 10_000 + ",", 1).encode(),
    "a huge number": json.dumps(CALL).replace("1,", "1" * 10**6 + ",", 1).encode(),
    "an exponent": json.dumps(CALL).replace("1,", "1e400,", 1).encode(),
    "not a number": json.dumps(CALL).replace("1,", "NaN,", 1).encode(),
    "a large length": json.dumps(DONE | {"stdout_chars": 2**63}).encode(),
    "a huge length": json.dumps(DONE).replace("3,", "9" * 5_000 + ",").encode(),
    "a negative length": json.dumps(DONE | {"stdout_chars": -1}).encode(),
    "hello": b'{"type": "hello", "measures": ["seccomp"], "refused": ["open"]}',
    "unfit": b'{"type": "unfit", "reason": "lie"}',
    "done": json.dumps(DONE).encode(),
    "done with the next cell": json.dumps(DONE | {"number": 2}).encode(),
    "a larger output than there is": json.dumps(DONE | {"stdout": "x" * 10**6}).encode(),
    "list in a name": json.dumps(DONE | {"variables": [["x"]]}).encode(),
    "final": b'{"type": "final", "source": "FINAL", "value": "lie"}',
    "final of another source": b'{"type": "final", "source": "lie", "value": "lie"}',
    "call of another kind": json.dumps(CALL | {"kind": "exec"}).encode(),
    "call of nothing": json.dumps(CALL | {"texts": []}).encode(),
    "call of too much": json.dumps(CALL | {"texts": ["a"] * 10}).encode(),
    "call of fewer than none": json.dumps(CALL | {"count": -(10**9)}).encode(),
    "batch of fewer than none": json.dumps(
        CALL | {"kind": "llm_query_batched", "count": -(10**9), "texts": []}
    ).encode(),
    "call of a huge count": json.dumps(CALL | {"count": 2**62}).encode(),
    "call with another id": json.dumps(CALL | {"id": -(2**62)}).encode(),
    "sub-session of one text": json.dumps(CALL | {"kind": "rlm_query"}).encode(),
}
STREAMS = {
    "garbage": "send(b'\\xff' * 10**6)",
    "endless zeros": "while True: send(bytes(2**16))",
    "endless text": "while True: send(b'{}' * 2**15)",
    "an oversized length": "send(b'\\xff\\xff\\xff\\xff' + b'x' * 1000)",
    "a length just over": f"send(({MAX_FRAME} + 1).to_bytes(4, 'big') + b'x' * 1000)",
    "half a length": "send(b'\\0\\0'); import time; time.sleep(60)",
    "half a frame": "send((1000).to_bytes(4, 'big') + b'{'); import time; time.sleep(60)",
    "byte by byte": "import time\nfor byte in frame(b' ' * 10**6): send(bytes([byte])); "
    "time.sleep(0.001)",
    "endless finals": 'body = frame(b\'{"type":"final","source":"FINAL","value":"x"}\')\n'
    "while True: send(body * 1000)",
    "endless calls": f"body = frame({json.dumps(CALL | {'kind': 'rlm_query'}).encode()!r})\n"
    "while True: send(body * 1000)",
    "closed": "os.close(FD)",
    "closed, all": "os.closerange(3, 64)",
    "shut down": "libc.shutdown(FD, 2)",
    "half shut down": "libc.shutdown(FD, 1); import time; time.sleep(60)",
    "replaced by null": "os.dup2(0, FD)",
    "swapped": "a, b = sockets()[:2]; c = os.dup(a); os.dup2(b, a); os.dup2(c, b)",
    "not blocking": "libc.fcntl(FD, 4, os.O_NONBLOCK)",
    "read empty": "import time\nwhile True: os.read(FD, 2**16)",
    "out of band": "for _ in range(1000): libc.send(FD, b'x', 1, 1)",
}


@pytest.fixture
def attack(start, inside, usable):
    """Run code that has one of the sockets as FD; the result, once the session goes on."""

    def attack(number: int, code: str):
        run = start(seconds=SECONDS, calls=5)
        began = time.monotonic()
        result = run(f"{inside}{FRAME}FD = sockets()[{number}]\n{code}")
        assert time.monotonic() - began < SECONDS + GRACE_SECONDS + MARGIN
        assert len(result.error) < 10_000
        usable(run)
        return result

    return attack


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("body", BODIES)
def test_a_message_that_is_none_or_a_lie_harms_only_its_own_cell(attack, body, number):
    attack(number, f"send(frame({BODIES[body]!r}))")


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_that_makes_no_sense_harms_only_its_own_cell(attack, stream, number):
    attack(number, STREAMS[stream])


def test_forged_results_of_many_cells_do_not_put_the_session_out_of_step(start, inside):
    bodies = [json.dumps(DONE | {"number": number}).encode() for number in range(1, 6)]
    run = start(seconds=5.0)
    run(f"{inside}{FRAME}FD = sockets()[0]\nfor body in {bodies!r}: send(frame(body))")
    results = [run(f"print({number} * 1000)") for number in range(2, 10)]
    honest = [r.stdout == f"{n * 1000}\n" for n, r in zip(range(2, 10), results, strict=True)]
    # A forged number may be believed once, by the cell that bears it: it lies to its own author.
    lies = [n for n, result in enumerate(results, 2) if result.stdout == DONE["stdout"]]
    assert all(number <= 5 for number in lies), results
    assert all(honest[5:]), results


def test_replies_that_are_stolen_are_the_thief_s_loss(attack):
    code = (
        "import threading\n"
        "def steal():\n"
        "    while True: os.read(FD, 100)\n"
        "for _ in range(4): threading.Thread(target=steal, daemon=True).start()\n"
        "for _ in range(3): llm_query('x' * 5000)"
    )
    attack(1, code)


def test_replies_that_nobody_reads_do_not_hold_up_the_host(attack, echo):
    echo.effect = lambda _: "x" * 10**6
    body = json.dumps(CALL).encode()
    attack(1, f"import time\nsend(frame({body!r}) * 5); time.sleep(60)")


def test_replies_that_are_read_slowly_do_not_stretch_the_cell(attack, echo):
    echo.effect = lambda _: "x" * 4 * 10**6
    code = f"import time\nsend(frame({json.dumps(CALL).encode()!r}))\n"
    attack(1, code + "while True: os.read(FD, 2**17); time.sleep(0.3)")


LARGE = {
    "output": ('{"type":"done","number":1,"stdout_chars":1,"error":"","variables":[],"rebound":[],'
               '"stdout":"', "x", '"}'),
    "error": ('{"type":"done","number":1,"stdout_chars":1,"stdout":"","variables":[],"rebound":[],'
              '"error":"', "x", '"}'),
    "variables": ('{"type":"done","number":1,"stdout_chars":1,"stdout":"","error":"","rebound":[],'
                  '"variables":["xx"', ',"ab"', "]}"),
    "rebound": ('{"type":"done","number":1,"stdout_chars":1,"stdout":"","error":"","variables":[],'
                '"rebound":["xx"', ',"ab"', "]}"),
    "unknown field": ('{"type":"done","number":1,"x":["xx"', ',"ab"', "]}"),
    "answer": ('{"type":"final","source":"FINAL","value":"', "x", '"}'),
    "wide answer": ('{"type":"final","source":"FINAL","value":"\U0001f600', "x", '"}'),
    "texts": ('{"type":"call","id":1,"kind":"llm_query_batched","count":1,"chars":1,'
              '"texts":["xx"', ',"ab"', "]}"),
    "prompt": ('{"type":"call","id":1,"kind":"llm_query","count":1,"chars":1,"texts":["',
               "x", '"]}'),
}  # fmt: skip


@pytest.mark.parametrize("part", LARGE)
def test_the_largest_frame_does_not_fill_the_host(start, inside, usable, guard, part):
    # Its pieces, its body, its text, the text cut: all short-lived, and nothing of it is kept.
    guard.memory = 12 * MAX_FRAME
    run = start(seconds=5.0)
    result = run(
        f"{inside}{FRAME}head, unit, tail = map(str.encode, {LARGE[part]!r})\n"
        f"times = ({MAX_FRAME} - len(head + tail)) // len(unit)\n"
        "for FD in sockets()[::-1]: send(frame(head + unit * times + tail))\n"
    )
    assert sum(map(len, (*result.variables, *result.rebound))) <= 10**6
    assert result.final is None or len(result.final.value) <= FINAL_CHARS
    usable(run)
