"""Importing works without Linux; starting says what is missing."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import concurrent.futures, importlib.resources, os, select, signal, socket, subprocess, sys
import msgspec
for name in ("fcntl", "resource"):
    sys.modules[name] = None
for module, name in ((os, "memfd_create"), (os, "killpg"), (select, "poll"), (signal, "SIGCONT")):
    delattr(module, name)
sys.platform = "win32"
import rlm.sandbox
print(rlm.sandbox.default_backend())
sandbox = rlm.sandbox.open_sandbox("process")
try:
    sandbox.start("text", None)
except rlm.errors.SandboxError as problem:
    print(problem)
"""


def test_another_system_is_told_at_start():
    done = subprocess.run(
        [sys.executable, "-c", "import rlm.errors\n" + CODE],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout == (
        "monty\nthe sandbox process needs Linux (memfd_create, seccomp), and this is win32: use "
        "monty (pip install 'rlm-bench[monty]'), or run under WSL or in a Linux container\n"
    )
