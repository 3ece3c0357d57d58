"""Child side: the worker gives up, step by step and for good, what untrusted code must not have.

Rlimits, capabilities, no_new_privs, Landlock, seccomp, then a self-test that tries what has become
impossible. Imports the standard library only; the worker finds it beside itself. Numbers are the
kernel's own: linux/prctl.h, linux/landlock.h, linux/seccomp.h, linux/capability.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Iterator

ENVIRONMENT = {"LC_CTYPE", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "PWD", "PYTHONHASHSEED"}

_PDEATHSIG, _DUMPABLE, _SECCOMP, _CAPBSET_DROP, _NO_NEW_PRIVS = 1, 4, 22, 24, 38
_GET_NO_NEW_PRIVS, _CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL = 39, 47, 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION = 0x20080522
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights on files each version of Landlock knows; version 5 and later know 16."""


class LockdownError(Exception):
    """A measure is not in force."""


class Libc:
    """The calls that Python has no function for."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def prctl(self, option: int, *arguments: int) -> int:
        """The call of prctl, manual section 2; -1 on failure."""
        padded = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
        return int(self._libc.prctl(option, *padded))

    def syscall(self, number: int, *arguments: object) -> int:
        """Any system call by its number; raises `OSError`."""
        wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
        result = int(self._libc.syscall(ctypes.c_long(number), *wide))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    def capset(self, header: bytes, data: bytes) -> int:
        """The call of capset, manual section 2; -1 on failure."""
        return int(self._libc.capset(header, data))


def lock(memory: int, program: bytes, *, landlock: bool) -> tuple[list[str], list[str]]:
    """Confine this process; which measures are in force, and what the self-test was refused.

    Args:
        memory: bytes of address space.
        landlock: restrict which files can be read; without it `program` must forbid all.
        program: the seccomp filter; empty for none, and then no self-test either.

    Raises:
        LockdownError: a measure that was asked for is not in force.
    """
    libc = Libc()
    libc.prctl(_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_DUMPABLE, 0)
    libc.prctl(_NO_NEW_PRIVS, 1)
    in_force = {
        "child-process": True,
        "rlimits": bound_resources(memory),
        "no-new-privs": libc.prctl(_GET_NO_NEW_PRIVS) == 1,
        "no-capabilities": drop_capabilities(libc),
        "scrubbed-env": set(os.environ) <= ENVIRONMENT,
        "landlock": landlock and restrict_files(libc, readable()),
        "seccomp": bool(program) and filter_calls(libc, program),
    }
    measures = [name for name, holds in in_force.items() if holds]
    if not program:
        return measures, []
    missing = set(in_force) - set(measures) - (set() if landlock else {"landlock"})
    if missing:
        raise LockdownError(f"not in force: {', '.join(sorted(missing))}")
    return measures, self_test(libc, may_read=landlock)


def bound_resources(memory: int) -> bool:
    """Lower the hard limits."""
    bounds = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in bounds.items():
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))
    return all(0 <= resource.getrlimit(kind)[1] <= most for kind, most in bounds.items())


def drop_capabilities(libc: Libc) -> bool:
    """Give up every capability, for good; root is then only the owner of its files."""
    libc.prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)
    number = 0
    while libc.prctl(_CAPBSET_DROP, number) == 0:
        number += 1
    return libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)) == 0


def readable() -> Iterator[os.DirEntry[str]]:
    """What a Python reads to import its own modules: no package of other people, no data.

    The standard library's own folder is not among them, only what lies in it: Python listed it
    before. Of the folders that this process has shared libraries from, only such libraries.
    """
    library = os.path.dirname(os.__file__)
    for entry in os.scandir(library):
        if entry.name not in ("site-packages", "dist-packages"):
            yield entry
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        fields = (line.split(maxsplit=5) for line in maps)
        mapped = {f[5].strip() for f in fields if len(f) > 5 and ".so" in f[5]}
    for folder in sorted({os.path.dirname(path) for path in mapped}):
        # Landlock looks at the file that a link leads to, which mostly lies there too.
        files = (e for e in os.scandir(folder) if e.is_file(follow_symlinks=False))
        yield from (e for e in files if ".so" in e.name)


def landlock_version(libc: Libc | None = None) -> int:
    """Which version of Landlock this kernel has; 0 for none."""
    try:
        return (libc or Libc()).syscall(_CREATE_RULESET, None, 0, _RULESET_VERSION)
    except OSError:
        return 0


def restrict_files(libc: Libc, entries: Iterable[os.DirEntry[str]]) -> bool:
    """Landlock (landlock(7)): `entries` can be read, nothing can be written, run or connected to.

    Returns:
        Whether this kernel has it; all that its version knows is then handled.
    """
    version = landlock_version(libc)
    if not version:
        return False
    files = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    network = 0b11 if version >= 4 else 0
    scopes = 0b11 if version >= 6 else 0
    attributes = struct.pack("=QQQ", files, network, scopes)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = libc.syscall(_CREATE_RULESET, attributes, size, 0)
    for entry in entries:
        _allow(libc, ruleset, entry)
    libc.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return True


def _allow(libc: Libc, ruleset: int, entry: os.DirEntry[str]) -> None:
    try:
        place = os.open(entry.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # gone meanwhile, or a link to nothing
    try:
        rights = _READ_FILE | (_READ_DIR if entry.is_dir() else 0)
        rule = struct.pack("=Qi", rights, place)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(place)


def filter_calls(libc: Libc, program: bytes) -> bool:
    """Install the seccomp filter `program` (seccomp(2))."""
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    return libc.prctl(_SECCOMP, _SECCOMP_MODE_FILTER, _address(header)) == 0


def _address(data: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0


def self_test(libc: Libc, *, may_read: bool) -> list[str]:
    """Try what must have become impossible; the names of what was refused, which is all of it.

    Raises:
        LockdownError: something was possible, or what must be possible is not.
    """
    arm = os.uname().machine == "aarch64"
    looks: dict[str, Callable[[], object]] = {
        "open": lambda: os.open(sys.executable, os.O_RDONLY),
        "list": lambda: os.listdir("/"),
    }
    acts: dict[str, Callable[[], object]] = {
        "write": lambda: os.open(_NOWHERE, os.O_WRONLY | os.O_CREAT),
        "remove": lambda: os.unlink(_NOWHERE),
        "socket": lambda: libc.syscall(198 if arm else 41, 2, 1, 0),
        "ptrace": lambda: libc.syscall(117 if arm else 101, 16, 1, 0, 0),
        "signal": lambda: os.kill(os.getppid(), 0),
        "fork": _fork,
        "exec": lambda: os.execv(_NOWHERE, ["python"]),
    }
    possible = [n for n, look in looks.items() if not _fails(look, errno.EACCES, errno.EPERM)]
    # Only the filter says EPERM to all of these; a user without rights would be told EACCES.
    possible += [name for name, act in acts.items() if not _fails(act, errno.EPERM)]
    if possible:
        raise LockdownError(f"the self-test could {', '.join(possible)}")
    if may_read:
        os.close(os.open(os.__file__, os.O_RDONLY))
    return [*looks, *acts]


_NOWHERE = "/rlm-self-test"


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _fails(attempt: Callable[[], object], *errors: int) -> bool:
    try:
        attempt()
    except OSError as problem:
        return problem.errno in errors
    return False
