"""Time, memory and output: a cell may use up its own, and the session goes on."""

from __future__ import annotations

import time

import pytest

from rlm.sandbox.child import GRACE_SECONDS

MARGIN = 2.0  # seconds that a busy machine may add
MEMORY = {
    "bytearray": "x = bytearray(10**12)",
    "string": "x = 'a' * 10**11",
    "list": "x = [0] * 10**11",
    "doubling": "x = [0]\nwhile True: x += x",
    "strings": "x = 'ab'\nwhile True: x += x",
    "appending": "x = []\nwhile True: x.append('a' * 10_000 + str(len(x)))",
    "nested": "x = []\nwhile True: x = [x]",
    "dict": "x = {}\nwhile True: x[len(x)] = str(len(x)) * 100",
    "shift": "x = 1 << 10**11",
    "format": "x = '%*d' % (10**9, 1)",
    "join": "x = ','.join(map(str, range(10**12)))",
    "mmap": "import mmap; x = mmap.mmap(-1, 10**12)",
    "many mmaps": "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 2**20)); x[-1][:] = "
    "b'x' * 2**20",
    "malloc": "import ctypes\nlibc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p\n"
    "while libc.malloc(ctypes.c_size_t(2**20)): pass\nraise MemoryError",
    "decompression": "import zlib\nx = zlib.compress(bytes(10**7))\n"
    "for _ in range(4): x = zlib.compress(x * 50)\n"
    "for _ in range(9): x = zlib.decompress(x) * 100",
    "regular expression": "x = re.findall('', 'a' * 10**8)",
    "json": "x = json.loads('[' + '0,' * 10**8 + '0]')",
    "exception chain": "def f(e=None):\n    while True:\n"
    "        try: raise ValueError('x' * 10_000) from e\n"
    "        except ValueError as new: e = new\nf()",
}
TIME = {
    "loop": "while True: pass",
    "sleep": "import time; time.sleep(10**6)",
    "regular expression": "re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "power": "x = 7 ** (10 ** 9)",
    "sum": "sum(range(10**15))",
    "digits": "import sys; sys.set_int_max_str_digits(0); x = str(1 << 30_000_000)",
    "iterator": "import itertools, collections; collections.deque(itertools.count(), 0)",
    "lock": "import threading; t = threading.Lock(); t.acquire(); t.acquire()",
    "event": "import threading; threading.Event().wait()",
    "thread": "import threading, time\n"
    "t = threading.Thread(target=time.sleep, args=(10**6,)); t.start(); t.join()",
    "condition in a thread left": "import threading, time\n"
    "threading.Thread(target=time.sleep, args=(10**6,)).start()\nwhile True: pass",
    "poll": "import ctypes; ctypes.CDLL(None).poll(0, 0, -1)",
    "ignored interrupt": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    "while True: pass",
    "blocked interrupt": "import signal\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
    "handled interrupt": "import signal\nsignal.signal(signal.SIGINT, lambda *_: None)\n"
    "import time\nwhile True: time.sleep(1)",
    "caught interrupt": "import time\nwhile True:\n    try: time.sleep(10)\n"
    "    except BaseException: pass",
    "finally": "try:\n    while True: pass\nfinally:\n    while True: pass",
    "finalizer": "class A:\n    def __del__(self):\n        while True: pass\nx = A(); del x",
    "trace function": "import sys\ndef t(*_):\n    while True: pass\nsys.settrace(t)\n"
    "def f(): pass\nf()",
    "comparison": "class A:\n    def __eq__(self, o):\n        while True: pass\nA() == A()",
    "text of an exception": "class A(Exception):\n    def __str__(self):\n"
    "        while True: pass\nraise A",
    "text of an answer": "class A:\n    def __str__(self):\n        while True: pass\nFINAL(A())",
    "own descriptors": "import os\nwhile True:\n    for fd in range(3, 64):\n"
    "        try: os.read(fd, 0)\n        except OSError: pass",
}
CRASH = {
    "recursion": "def f(): f()\nf()",
    "recursion without a limit": "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    "recursion in C": "import sys; sys.setrecursionlimit(10**9)\n"
    "class A:\n    def __getattr__(self, n): return getattr(self, n + 'a')\nA().x",
    "nested data": "x = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
    "nested source": "eval('(' * 10**6)",
    "long source": "eval('-' * 10**6 + '1')",
    "nested json": "json.loads('[' * 10**6)",
    "nested pattern": "re.compile('(' * 10**5 + ')' * 10**5)",
    "digits": "print(10 ** 10_000)",
    "bytecode": "def f(): pass\n"
    "f.__code__ = f.__code__.replace(co_code=bytes([100, 255] * 9))\nf()",
    "address 0": "import ctypes; ctypes.string_at(0)",
    "descriptors": "import os\nx = []\nwhile True: x.append(os.dup(0))",
    "pipes": "import os\nx = []\nwhile True: x.append(os.pipe())",
    "threads": "import threading, time\n"
    "while True: threading.Thread(target=time.sleep, args=(60,)).start()",
    "small threads": "import threading, time\nthreading.stack_size(32768)\n"
    "for _ in range(3000): threading.Thread(target=time.sleep, args=(60,)).start()",
    "daemon threads that loop": "import threading\ndef f():\n    while True: pass\n"
    "for _ in range(8): threading.Thread(target=f, daemon=True).start()",
}
FLOOD = {
    "print": "while True: print('x' * 10**6)",
    "short lines": "while True: print()",
    "wide characters": "while True: print('\\U0001f600' * 10**6)",
    "one string": "print('x' * 10**8)",
    "stderr": "import sys\nwhile True: sys.stderr.write('x' * 10**6)",
    "the descriptors": "import os\nwhile True: [os.write(fd, b'x' * 10**6) for fd in (1, 2)]",
    "warnings": "import warnings\nwhile True: warnings.warn('x' * 10**5)",
    "an error": "raise ValueError('x' * 10**8)",
    "an error's name": "raise type('E' * 10**7, (Exception,), {})",
    "an answer": "FINAL('x' * 10**8)",
    "variables": "globals().update((f'v{i}', i) for i in range(10**6))",
    "a long variable": "globals()['v' * 10**7] = 1",
    "many long variables": "globals().update((f'{i}' * 10**5, i) for i in range(100))",
    "shown variables": "globals().update((f'v{i}', i) for i in range(10**5)); SHOW_VARS()",
}


@pytest.mark.parametrize("way", MEMORY)
def test_memory_is_the_worker_s_own(start, usable, way):
    run = start(seconds=2.0, memory=128 * 2**20)
    assert run(MEMORY[way]).status in {"error", "died", "timeout"}
    usable(run)


@pytest.mark.parametrize("way", TIME)
def test_time_ends(start, usable, way):
    run = start(seconds=0.2)
    began = time.monotonic()
    result = run(TIME[way])
    assert time.monotonic() - began < 0.2 + GRACE_SECONDS + MARGIN
    assert result.status in {"timeout", "died"}
    usable(run)


def test_a_finalizer_that_the_next_cell_would_run_ends(start, usable):
    """What a failed cell held is collected when the next one begins, with no interrupt let in."""
    run = start(seconds=0.2)
    code = (
        "class A:\n    def __del__(self):\n        while True: pass\nx = A(); x.x = x; del x; 1 / 0"
    )
    assert run(code).error
    began = time.monotonic()
    assert run("print(1)").status == "died"
    assert time.monotonic() - began < 0.2 + GRACE_SECONDS + MARGIN
    usable(run)


@pytest.mark.parametrize("way", CRASH)
def test_a_crash_is_the_worker_s_own(start, usable, way):
    run = start(seconds=2.0)
    began = time.monotonic()
    run(CRASH[way])
    assert time.monotonic() - began < 2.0 + GRACE_SECONDS + MARGIN
    usable(run)


@pytest.mark.parametrize("way", FLOOD)
def test_a_flood_has_a_bound(start, usable, way):
    # The guard looks at how much memory the host took at the highest.
    run = start(seconds=1.0, output_chars=10_000)
    result = run(FLOOD[way])
    assert len(result.stdout) <= 10_000
    assert len(result.error) <= 10_000
    assert sum(map(len, result.variables)) <= 10**6
    usable(run)
