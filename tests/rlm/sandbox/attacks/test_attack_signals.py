"""The host's process: signals to it, its memory, its descriptors, its priority and its limits."""

from __future__ import annotations

import os
import signal

import pytest

from tests.rlm.sandbox.attacks.host import descendants

# Unlocked these do nothing: signal 0, what is set already, requests about an unattached process.
SIGNAL = {
    "os.kill": "os.kill(HOST, 0)",
    "os.killpg": "os.killpg(os.getpgrp(), 0)",
    "kill(2) of the own group": "call('kill', 0, 0)",
    "kill(2) of itself": "call('kill', os.getpid(), 0)",
    "tkill(2)": "call('tkill', HOST, 0)",
    "tgkill(2)": "call('tgkill', HOST, HOST, 0)",
    "tgkill(2) of itself": "call('tgkill', os.getpid(), os.getpid(), 0)",
    "rt_sigqueueinfo(2)": "info = (ctypes.c_int * 32)(0, 0, -1)\n"
    "call('rt_sigqueueinfo', HOST, 0, info)",
    "rt_tgsigqueueinfo(2)": "info = (ctypes.c_int * 32)(0, 0, -1)\n"
    "call('rt_tgsigqueueinfo', HOST, HOST, 0, info)",
    "sigqueue": "check(libc.sigqueue(HOST, 0, 0))",
    "pidfd_open(2)": "os.pidfd_open(HOST)",
    "pidfd_open(2) of itself": "os.pidfd_open(os.getpid())",
    "pidfd_send_signal(2)": "call('pidfd_send_signal', -1, 0, 0, 0)",
    "a pidfd from proc": "call('pidfd_send_signal', os.open(f'/proc/{HOST}', 0), 0, 0, 0)",
    "pidfd_getfd(2)": "call('pidfd_getfd', -1, 0, 0)",
    "signal.pthread_kill": "import signal, threading\n"
    "signal.pthread_kill(threading.get_ident(), 0)",
    "signal.raise_signal": "import signal; signal.raise_signal(signal.SIGCHLD)",
    "timer_create(2)": "event = (ctypes.c_int * 16)(0, 0, 0, 4, HOST)\n"
    "call('timer_create', 0, event, ctypes.byref(ctypes.c_int()))",
    "timer_create(2) of nothing": "call('timer_create', 0, 0, ctypes.byref(ctypes.c_int()))",
    "signal.setitimer": "import signal; signal.setitimer(signal.ITIMER_REAL, 100)",
    "timerfd_create(2)": "call('timerfd_create', 0, 0)",
    "PR_SET_PDEATHSIG": "check(libc.prctl(1, 0, 0, 0, 0))",
    "PR_SET_DUMPABLE": "check(libc.prctl(4, 1, 0, 0, 0))",
    "PR_SET_CHILD_SUBREAPER": "check(libc.prctl(36, 0, 0, 0, 0))",
    "setpgid": "os.setpgid(0, 0)",
    "setsid": "os.setsid()",
}  # fmt: skip
OWNER = {
    "F_SETOWN": "check(libc.fcntl(TARGET, 8, HOST))",
    "F_SETOWN_EX": "check(libc.fcntl(TARGET, 15, (ctypes.c_int * 2)(1, HOST)))",
    "F_SETSIG": "check(libc.fcntl(TARGET, 10, 0))",
    "F_SETLEASE": "check(libc.fcntl(TARGET, 1024, 2))",
    "F_NOTIFY": "check(libc.fcntl(TARGET, 1026, 0))",
    "F_SETFL O_ASYNC": "check(libc.fcntl(TARGET, 4, 0o20002))",
    "FIOSETOWN": "check(libc.ioctl(TARGET, 0x8901, ctypes.byref(ctypes.c_int(HOST))))",
    "SIOCSPGRP": "check(libc.ioctl(TARGET, 0x8902, ctypes.byref(ctypes.c_int(HOST))))",
    "FIOASYNC": "check(libc.ioctl(TARGET, 0x5452, ctypes.byref(ctypes.c_int(0))))",
    "TIOCSTI": "check(libc.ioctl(TARGET, 0x5412, b''))",
    "TIOCSCTTY": "check(libc.ioctl(TARGET, 0x540E, 0))",
    "TIOCLINUX": "check(libc.ioctl(TARGET, 0x541C, b'\\x02'))",
    "SIOCGIFCONF": "check(libc.ioctl(TARGET, 0x8912, ctypes.create_string_buffer(64)))",
    "high bits of the request": "check(libc.ioctl(TARGET, 0x100005412, b''))",
    "fcntl(2) with high bits": "call(72, TARGET, (1 << 32) | 8, HOST)",
}
REACH = {
    "prlimit": "import resource; resource.prlimit(HOST, resource.RLIMIT_CORE)",
    "prlimit64(2) to set": "limit = (ctypes.c_uint64 * 2)(0, 0)\n"
    "call('prlimit64', HOST, 4, 0, limit)",
    "setpriority": "os.setpriority(os.PRIO_PROCESS, HOST, os.getpriority(0, HOST))",
    "setpriority of itself": "os.nice(0); call('setpriority', 0, 0, 19)",
    "sched_setaffinity": "os.sched_setaffinity(HOST, {0, 1})",
    "sched_setaffinity(2)": "call('sched_setaffinity', HOST, 8, ctypes.byref(ctypes.c_long(3)))",
    "sched_setscheduler": "os.sched_setscheduler(HOST, os.SCHED_OTHER, os.sched_param(0))",
    "sched_setparam": "os.sched_setparam(HOST, os.sched_param(0))",
    "sched_setattr(2)": "call('sched_setattr', HOST, 0, 0)",
    "ioprio_set(2)": "call('ioprio_set', 1, HOST, 2 << 13 | 4)",
    "process_vm_readv(2)": "local = (ctypes.c_uint64 * 2)()\n"
    "call('process_vm_readv', HOST, local, 1, local, 1, 0)",
    "process_vm_writev(2)": "local = (ctypes.c_uint64 * 2)()\n"
    "call('process_vm_writev', HOST, local, 1, local, 1, 0)",
    "ptrace(2) to look": "call('ptrace', 2, HOST, 0, 0)",
    "ptrace(2) to attach": "call('ptrace', 0x4206, 2**22 + 1, 0, 0)",
    "ptrace(2) to be looked at": "call('ptrace', 0, 0, 0, 0)",
    "libc ptrace": "check(libc.ptrace(2, HOST, 0, 0))",
    "kcmp(2)": "call('kcmp', HOST, os.getpid(), 0, 0, 0)",
    "move_pages(2)": "call('move_pages', HOST, 0, 0, 0, 0, 0)",
    "migrate_pages(2)": "call('migrate_pages', HOST, 0, 0, 0)",
    "process_madvise(2)": "call('process_madvise', -1, 0, 0, 0, 0)",
    "process_mrelease(2)": "call('process_mrelease', -1, 0)",
    "perf_event_open(2)": "call('perf_event_open', 0, HOST, -1, -1, 0)",
    "proc mem": "open(f'/proc/{HOST}/mem', 'r+b')",
    "proc oom_score_adj": "open(f'/proc/{HOST}/oom_score_adj', 'r+')",
    "proc fd": "os.listdir(f'/proc/{HOST}/fd')",
    "proc cwd": "os.listdir(f'/proc/{HOST}/cwd')",
    "proc pagemap": "open(f'/proc/{HOST}/pagemap', 'rb')",
}


@pytest.mark.parametrize("way", SIGNAL)
def test_no_signal_is_sent_or_arranged(refused, way):
    refused(SIGNAL[way])


@pytest.mark.parametrize("way", OWNER)
def test_no_descriptor_sends_signals(refused, way):
    refused(f"for TARGET in (0, *sockets()):\n    {OWNER[way]}")


@pytest.mark.parametrize("way", REACH)
def test_the_host_is_out_of_reach(refused, way):
    refused(REACH[way])


RAISE = """
import resource
for kind in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE,
             resource.RLIMIT_CORE):
    try: resource.setrlimit(kind, (2**40, 2**40))
    except (OSError, ValueError): pass
    else: print("raised", kind)
"""


def test_the_limits_of_the_worker_are_not_raised(run):
    assert run(RAISE).stdout == ""


def test_interrupts_of_the_host_s_terminal_do_not_reach_it(start):
    # The worker has a session of its own: Ctrl-C is the host's to handle.
    before = descendants()
    start()("print(1)")
    workers = descendants() - before
    assert workers
    assert os.getsid(0) not in {os.getsid(pid) for pid in workers}
    assert os.getpgrp() not in {os.getpgid(pid) for pid in workers}


def test_the_worker_cannot_be_stopped_for_good(run, usable):
    code = f"import os\ntry: os.kill(os.getpid(), {int(signal.SIGSTOP)})\nexcept OSError: print(1)"
    assert run(code).stdout == "1\n"
    usable(run)
