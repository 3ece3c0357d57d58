"""What a cell leaves behind in its own worker: threads, hooks, spoiled modules, sudden ends."""

from __future__ import annotations

import time

import pytest

END = {
    "sys.exit": "import sys; sys.exit(0)",
    "os._exit": "import os; os._exit(0)",
    "os.abort": "import os; os.abort()",
    "exit(2)": "import ctypes; ctypes.CDLL(None).syscall(60, 0)",
    "exit_group(2)": "import ctypes; ctypes.CDLL(None).syscall(231, 0)",
    "libc exit": "import ctypes; ctypes.CDLL(None).exit(0)",
    "libc quick_exit": "import ctypes; ctypes.CDLL(None).quick_exit(0)",
    "address 0": "import ctypes; ctypes.string_at(0)",
    "write to address 0": "import ctypes; ctypes.memset(0, 1, 1)",
    "fatal error": "import ctypes; ctypes.pythonapi.Py_FatalError(b'x')",
    "finalize": "import ctypes; ctypes.pythonapi.Py_FinalizeEx()",
    "no reference": "import ctypes\nfor _ in range(10): ctypes.pythonapi.Py_DecRef(ctypes.py_object"
    "(None))\nfor i in range(10**6): ctypes.pythonapi.Py_DecRef(ctypes.py_object(len))",
    "free": "import ctypes; ctypes.CDLL(None).free(ctypes.c_void_p(8))",
    "faulthandler": "import faulthandler; faulthandler._sigsegv()",
    "thread that exits": "import os, threading\n"
    "t = threading.Thread(target=os._exit, args=(0,)); t.start(); t.join()",
    "atexit that loops": "import atexit, sys\ndef f():\n    while True: pass\n"
    "atexit.register(f); sys.exit()",
    "SystemExit that lies": "class A(SystemExit):\n    code = property(lambda s: 1 / 0)\nraise A",
    "cell ended by hand": "import sys\nraise [c for c in BaseException.__subclasses__() "
    "if c.__name__ == 'CellEnded'][0]",
}
SPOIL = {
    "print": "import builtins; builtins.print = None",
    "all builtins": "import builtins\nvars(builtins).clear()",
    "import": "import builtins; builtins.__import__ = None",
    "builtins replaced": "__builtins__ = {}",
    "compile and exec": "import builtins; builtins.compile = builtins.exec = None",
    "helpers": "context = query = llm_query = FINAL = re = json = None",
    "all names": "globals().clear()",
    "stdout": "import sys; sys.stdout = sys.stderr = None",
    "no stdout": "import sys; del sys.stdout, sys.stderr",
    "stdout that raises": "import sys\nclass A:\n    def write(self, text): raise ValueError\n"
    "sys.stdout = A()",
    "closed stdout": "import sys; sys.stdout.close()",
    "modules": "import sys; sys.modules.clear()",
    "main module": "import sys; sys.modules['__main__'] = None",
    "trace function": "import sys, threading\ndef f(*a): raise ValueError\n"
    "threading.settrace(f); sys.settrace(f)",
    "profile function": "import sys\ndef f(*a): raise ValueError\nsys.setprofile(f)",
    "import hook": "import sys\nclass A:\n    def find_spec(self, *a): raise ValueError\n"
    "sys.meta_path.insert(0, A())",
    "recursion limit": "import sys; sys.setrecursionlimit(40)",
    "switch interval": "import sys; sys.setswitchinterval(10**6)",
    "excepthook": "import sys, threading\nsys.excepthook = threading.excepthook = None",
    "finalizer": "class A:\n    def __del__(self):\n        global a; a = A(); raise ValueError\n"
    "a = A(); del a",
    "warnings as errors": "import warnings; warnings.simplefilter('error'); warnings.warn('x')",
    "wakeup descriptor": "import signal\nfor fd in range(64):\n"
    "    try: signal.set_wakeup_fd(fd, warn_on_full_buffer=False)\n"
    "    except (OSError, ValueError): pass",
    "name that is no text": "globals()[1] = 2",
    "name that is a lone surrogate": "globals()['\\ud800'] = 2",
    "name that is a subclass": "class A(str):\n    def __lt__(self, o): raise ValueError\n"
    "    __hash__ = str.__hash__\nglobals()[A('x')] = 1; globals()[A('y')] = 2",
    "exception without text": "class A(Exception):\n"
    "    def __str__(self): raise ValueError\nraise A",
    "exception of a strange class": "raise type('\\ud800', (BaseException,), {'__module__': 3})",
    "exception that is its own cause": "e = ValueError(); e.__cause__ = e.__context__ = e; raise e",
    "group of exceptions": "e = ValueError()\n"
    "for _ in range(500): e = ExceptionGroup('x', [e])\nraise e",
    "source that changes": "import linecache\n"
    "linecache.cache.clear(); linecache.getlines = None\n1/0",
    "generator left open": "def f():\n    try: yield\n    finally: 1 / 0\ng = f(); next(g)",
    "frames": "import sys\nf = sys._getframe()\nwhile f: f.f_globals.update(x=1); f = f.f_back",
    "frozen clock": "import time; time.monotonic = time.time = lambda: 0",
}
POISON = {
    "collector": "import gc\ndef f(*a): raise ValueError\n"
    "gc.callbacks.append(f); gc.set_threshold(1)",
    "json.dumps": "json.dumps = None",
    "struct.pack": "import struct; struct.pack = None",
    "os.write": "import os; os.write = None",
    "os.read": "import os; os.read = None",
    "audit hook": "import sys\ndef f(*a): raise ValueError\nsys.addaudithook(f)",
    "session": "import gc\nfor o in gc.get_objects():\n"
    "    if type(o).__name__ == 'Session': o.run = None",
    "all objects": "import gc\nfor o in gc.get_objects():\n"
    "    if type(o) is dict and o is not globals():\n"
    "        try: o.clear()\n        except Exception: pass",
    "interrupts": "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])",
    "integers": "import ctypes; ctypes.memset(id(5) + 24, 7, 1)",
    "time limit of the cell": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (0, 0))",
}  # fmt: skip


@pytest.mark.parametrize("way", END)
def test_an_end_is_told_and_the_session_goes_on(start, usable, way):
    run = start(seconds=1.0)
    assert run(END[way]).status != "final"
    usable(run)


@pytest.mark.parametrize("way", SPOIL)
def test_what_a_cell_spoils_is_whole_again_in_the_next(start, usable, way):
    run = start(seconds=1.0)
    run(SPOIL[way])
    usable(run)


@pytest.mark.parametrize("way", POISON)
def test_a_worker_poisoned_on_purpose_is_gone_after_a_reset(start, sandbox, usable, way):
    run = start(seconds=1.0)
    run(POISON[way])
    run("print(1)")
    sandbox.reset()
    usable(run)


LATE = {
    "call": "llm_query('late')",
    "call of a batch": "llm_query_batched(['late'])",
    "print": "print('late')",
    "final": "FINAL('late')",
    "loop": "pass",
}


@pytest.mark.parametrize("way", LATE)
def test_a_thread_left_behind_does_nothing_between_cells(start, echo, way):
    run = start(seconds=5.0, calls=10**6)
    code = f"""
import threading, time
def late():
    while True:
        time.sleep(0.005)
        try: {LATE[way]}
        except BaseException: pass
for _ in range(3): threading.Thread(target=late, daemon=True).start()
time.sleep(0.05)
"""
    run(code)
    asked = len(echo.asked)
    time.sleep(0.3)
    assert len(echo.asked) == asked


@pytest.mark.parametrize(
    "code", ["print({})", "FINAL({})", "raise ValueError({})", "llm_query({})"]
)
@pytest.mark.parametrize("text", ["'a\\ud800b'", "'\\x1b]0;title\\x07\\x1b[2J'", "'\\0\\r\\x85'"])
def test_strange_text_arrives_as_text(run, usable, echo, code, text):
    result = run(code.format(text))
    seen = [result.stdout, result.error, *map(str, echo.asked)]
    seen += [result.final.value] if result.final else []
    for part in seen:
        part.encode()
    if "llm_query" not in code and "ValueError" not in code:
        assert any(eval(text).replace("\ud800", "?") in part for part in seen)
    usable(run)
