"""What every attack has at hand: this text goes before its code, inside the sandbox."""

import ctypes
import errno
import os

# x86-64; the suite skips what goes by number on other machines.
NUMBERS = {
    "open": 2, "fork": 57, "vfork": 58, "clone": 56, "execve": 59, "kill": 62, "ptrace": 101,
    "setuid": 105, "setgid": 106, "setsid": 112, "setgroups": 116, "setresuid": 117,
    "capset": 126, "rt_sigqueueinfo": 129, "utime": 132, "mknod": 133, "personality": 135,
    "setpriority": 141, "sched_setparam": 142, "sched_setscheduler": 144, "modify_ldt": 154,
    "pivot_root": 155, "prctl": 157, "adjtimex": 159, "chroot": 161, "acct": 163,
    "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
    "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
    "init_module": 175, "delete_module": 176, "quotactl": 179, "setxattr": 188,
    "removexattr": 197, "tkill": 200, "sched_setaffinity": 203, "lookup_dcookie": 212,
    "timer_create": 222, "clock_settime": 227, "tgkill": 234, "mq_open": 240,
    "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "ioprio_set": 251,
    "inotify_init": 253, "migrate_pages": 256, "openat": 257, "mknodat": 259, "fchownat": 260,
    "futimesat": 261, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
    "fchmodat": 268, "unshare": 272, "splice": 275, "tee": 276, "vmsplice": 278,
    "move_pages": 279, "utimensat": 280, "signalfd": 282, "timerfd_create": 283,
    "fallocate": 285, "signalfd4": 289, "inotify_init1": 294, "rt_tgsigqueueinfo": 297,
    "perf_event_open": 298, "fanotify_init": 300, "prlimit64": 302, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "clock_adjtime": 305, "syncfs": 306, "setns": 308,
    "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
    "sched_setattr": 314, "renameat2": 316, "seccomp": 317, "memfd_create": 319,
    "kexec_file_load": 320, "bpf": 321, "execveat": 322, "userfaultfd": 323,
    "copy_file_range": 326, "pkey_alloc": 330, "pidfd_send_signal": 424,
    "io_uring_setup": 425, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsmount": 432, "fspick": 433, "pidfd_open": 434, "clone3": 435,
    "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
    "quotactl_fd": 443, "memfd_secret": 447, "process_mrelease": 448, "cachestat": 451,
    "fchmodat2": 452, "map_shadow_stack": 453, "statmount": 457, "listmount": 458,
    "setxattrat": 463, "removexattrat": 466, "open_tree_attr": 467, "file_setattr": 469,
}  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(name, *args):
    """A system call by its number, past libc and Python; raises OSError as `os` would."""
    assert os.uname().machine == "x86_64"
    number = NUMBERS[name] if isinstance(name, str) else name
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return check(libc.syscall(ctypes.c_long(number), *words))


def check(value):
    """What a function of libc gave; raises OSError if that was an error."""
    if value in (-1, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value


def fails(failed):
    """Say of a way that shows no errno whether it failed."""
    if failed:
        raise PermissionError(errno.EPERM, "no errno")


def sockets():
    """What the worker has open beside stdin, stdout and stderr: its two sockets, if all is well."""
    return [fd for fd in range(3, 200) if libc.fcntl(fd, 1) >= 0]


def judge(code, target=None):
    """Try an attack on `target` and print in one line what came of it."""
    try:
        exec(code, globals() | {"TARGET": target})
    except OSError as problem:
        outcome = "refused " + errno.errorcode.get(problem.errno, repr(problem))
    except ImportError as problem:
        outcome = f"refused import {problem}"
    except Exception as problem:
        outcome = f"failed {problem!r}"
    else:
        outcome = "ACHIEVED"
    print(f"{'' if target is None else target}: {outcome}")
