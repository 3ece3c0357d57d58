"""What the worker knows of its host: no environment, no arguments, no paths of its packages."""

from __future__ import annotations

import os
import sys
from uuid import uuid4

import pytest

LOOK = {
    "os.environ": "print(dict(os.environ))",
    "os.environb": "print(dict(os.environb))",
    "libc environ": "where = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ')\n"
    "for one in where:\n    if one is None: break\n    print(one)",
    "libc getenv": "libc.getenv.restype = ctypes.c_char_p\nprint(libc.getenv(b'ATTACK_SECRET'))",
    "posix": "import posix; print(posix.environ)",
    "sys.argv": "import sys; print(sys.argv, sys.orig_argv)",
    "sys.path": "import sys; print(sys.path)",
    "sys.modules": "import sys\nprint([getattr(m, '__file__', '') for m in sys.modules.values()])",
    "strings": "import gc\nprint({r for o in gc.get_objects() for r in gc.get_referents(o)\n"
    "       if type(r) is str and len(r) == 32 and r not in INSIDE})",
    "cwd": "try: print(os.getcwd())\nexcept OSError: pass",
    "user": "import getpass\ntry: print(getpass.getuser())\nexcept Exception: pass",
}  # fmt: skip


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    secret = uuid4().hex
    monkeypatch.setenv("ATTACK_SECRET", secret)
    monkeypatch.setattr(sys, "argv", [*sys.argv, secret])
    return secret


@pytest.mark.parametrize("way", LOOK)
def test_no_secret_of_the_host_is_seen(secret, start, inside, way):
    text = inside.replace(f", {os.getpid()}", "")
    run = start(seconds=5.0)
    run("import os; os._exit(0)")  # so that the worker is newer than the secret
    result = run(f"{text}\nINSIDE = ''\n{LOOK[way]}")
    assert result.status in {"ok", "error"}
    seen = result.stdout + result.error
    assert secret not in seen
    assert "ATTACK_SECRET" not in result.stdout
    assert str(os.environ.get("PATH", "none")) not in seen


def test_the_environment_is_the_one_it_was_given(run):
    names = set(run("import os; print(*os.environ)").stdout.split())
    assert names <= {"LC_CTYPE", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "PYTHONHASHSEED", "PWD"}


def test_the_last_session_is_not_in_the_memory_of_the_next(start, inside):
    secret = uuid4().hex
    start(f"the passcode is {secret}")(f"x = {secret!r}")
    result = start("nothing")(
        "import gc\nprint([r for o in gc.get_objects() for r in gc.get_referents(o)\n"
        f"    if type(r) is str and 'passcode is ' in r and r.endswith({secret[-8:]!r})])"
    )
    assert result.stdout == "[]\n"


def test_the_query_of_another_session_is_not_seen(start, sandbox, backend):
    from rlm.sandbox import open_sandbox

    other = open_sandbox(backend)
    other.start("other text", None, query="other query")
    seen = start("mine")("print(context, query)").stdout
    other.close()
    assert seen == "mine Which passcode?\n"
