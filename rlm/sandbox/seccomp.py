"""Which system calls a locked worker may make, and the BPF programs made from that.

The programs ship as bytes in ``filters/``, so that nothing is compiled when a session starts.
``python -m rlm.sandbox.seccomp`` makes them again with libseccomp 2.5 or newer, for every machine
of `MACHINES`; a test compares. Whatever is not listed here fails with EPERM.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

from rlm.errors import SandboxError

Mode = Literal["open", "no-open"]
"""``open``: files may be opened for reading, and Landlock says which. ``no-open``: none may."""

MACHINES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What `platform.machine` says, and the AUDIT_ARCH number of it (linux/audit.h)."""

ALLOWED: Final = (
    *("read", "readv", "pread64", "preadv", "write", "writev", "lseek", "close", "dup", "dup3"),
    *("fstat", "poll", "ppoll", "select", "pselect6"),
    *("mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "membarrier"),
    *("futex", "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "set_tid_address"),
    *("sched_yield", "sched_getaffinity", "getcpu", "arch_prctl", "restart_syscall"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "exit", "exit_group"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time"),
    *("getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getgroups"),
    *("getresuid", "getresgid", "getpgid", "getpgrp", "getsid", "uname", "getrandom"),
    *("getrusage", "getrlimit", "setrlimit", "times", "umask", "getcwd"),
)
"""Allowed whatever their arguments are; names that a machine lacks are left out there."""

READING: Final = ("stat", "lstat", "newfstatat", "statx", "getdents64")
"""Allowed beside them where files may be opened; Landlock does not know of `stat`."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000  # O_TMPFILE
_O_PATH = 0o10000000
_THREAD = 0x00010100  # CLONE_VM | CLONE_THREAD
_NOT_A_THREAD = 0x7E02E000  # namespaces, CLONE_PTRACE, CLONE_VFORK, CLONE_PARENT
_FCNTL = (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL)
_IOCTL = (0x5401, 0x5451, 0x5450, 0x541B, 0x5413)  # TCGETS, FIOCLEX, FIONCLEX, FIONREAD, TIOCGWINSZ

_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050000 | errno.ENOSYS, 0x80000000
_MASKED_EQUAL = 7  # enum scmp_compare of seccomp.h
_ACT_BADARCH, _CTL_NNP = 2, 3  # enum scmp_filter_attr


def program(mode: Mode) -> bytes:
    """The filter for this machine, an array of ``struct sock_filter``.

    Raises:
        SandboxError: there is none for it.
    """
    machine = platform.machine()
    if machine not in MACHINES:
        raise SandboxError(
            f"no system-call filter for {machine!r} ({', '.join(MACHINES)} have one); use "
            "--rlm-sandbox monty, or unconfined if you trust the model's code"
        )
    return files(__package__).joinpath("filters", file_name(machine, mode)).read_bytes()


def file_name(machine: str, mode: Mode) -> str:
    """Where a filter lies in ``filters/``."""
    return f"{machine}-{mode}.bpf"


class _Argument(ctypes.Structure):
    """``struct scmp_arg_cmp`` of seccomp.h."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def compile_filter(machine: str, mode: Mode) -> bytes:
    """Make a filter with libseccomp.

    Raises:
        OSError: libseccomp is missing or refuses.
    """
    library = _library()
    context = library.seccomp_init(_EPERM)
    try:
        _check(library.seccomp_attr_set(context, _ACT_BADARCH, _KILL))
        _check(library.seccomp_attr_set(context, _CTL_NNP, 0))
        architecture = ctypes.c_uint32(MACHINES[machine])
        native = ctypes.c_uint32(library.seccomp_arch_native())
        if architecture.value != native.value:
            _check(library.seccomp_arch_add(context, architecture))
            _check(library.seccomp_arch_remove(context, native))
        for name, action, arguments in _rules(mode):
            number = library.seccomp_syscall_resolve_name_arch(architecture, name.encode())
            if number < 0:
                continue  # another machine's
            array = (_Argument * len(arguments))(*arguments)
            rule = (context, action, number, len(arguments), array)
            _check(library.seccomp_rule_add_array(*rule))
        with tempfile.TemporaryFile() as out:
            _check(library.seccomp_export_bpf(context, out.fileno()))
            out.seek(0)
            return out.read()
    finally:
        library.seccomp_release(context)


def _rules(mode: Mode) -> Sequence[tuple[str, int, tuple[_Argument, ...]]]:
    """Name of the call, action, and what its arguments must be."""
    reading = READING if mode == "open" else ()
    rules: list[tuple[str, int, tuple[_Argument, ...]]] = [
        (name, _ALLOW, ()) for name in (*ALLOWED, *reading)
    ]
    if mode == "open":
        rules += [
            ("open", _ALLOW, (_masked(1, _WRITES | _O_PATH, 0),)),
            ("openat", _ALLOW, (_masked(2, _WRITES | _O_PATH, 0),)),
        ]
    rules += [("fcntl", _ALLOW, (_equal(1, command),)) for command in _FCNTL]
    rules += [("ioctl", _ALLOW, (_equal(1, request),)) for request in _IOCTL]
    rules += [
        ("prlimit64", _ALLOW, (_equal(0, 0),)),
        ("clone", _ALLOW, (_masked(0, _THREAD | _NOT_A_THREAD, _THREAD),)),
        ("clone3", _ENOSYS, ()),  # glibc then uses clone, whose flags can be seen
    ]
    return rules


def _equal(argument: int, value: int) -> _Argument:
    return _masked(argument, 0xFFFFFFFF, value)


def _masked(argument: int, mask: int, value: int) -> _Argument:
    return _Argument(argument, _MASKED_EQUAL, mask, value)


def _library() -> Any:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_arch_native.restype = ctypes.c_uint32
    arguments = {
        "release": (),
        "arch_add": (ctypes.c_uint32,),
        "arch_remove": (ctypes.c_uint32,),
        "attr_set": (ctypes.c_int, ctypes.c_uint32),
        "export_bpf": (ctypes.c_int,),
        "rule_add_array": (ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p),
    }
    for name, types in arguments.items():
        getattr(library, f"seccomp_{name}").argtypes = [ctypes.c_void_p, *types]
    return library


def _check(code: int) -> None:
    if code < 0:
        raise OSError(-code, os.strerror(-code))


def main() -> None:
    """Write all filters."""
    folder = Path(__file__).with_name("filters")
    for machine in MACHINES:
        for mode in ("open", "no-open"):
            data = compile_filter(machine, mode)
            (folder / file_name(machine, mode)).write_bytes(data)
            print(f"{file_name(machine, mode)}: {len(data) // 8} instructions")


if __name__ == "__main__":
    main()
