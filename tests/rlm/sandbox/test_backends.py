"""What each backend is, what it says of itself, and what happens where it cannot hold."""

from __future__ import annotations

import ctypes.util
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from rlm.bench.options import CHOICES
from rlm.errors import SandboxError, UsageError
from rlm.sandbox import BACKENDS, NoCalls, bwrap, open_sandbox, seccomp
from rlm.sandbox.child import Child, Launch
from rlm.sandbox.process import NO_LANDLOCK, ProcessSandbox

ALWAYS = ("child-process", "rlimits", "no-new-privs", "no-capabilities", "scrubbed-env")
MORE = {"process": ("landlock", "seccomp"), "no-open": ("seccomp",)}
MORE["bwrap"] = (*MORE["process"], "mnt-namespace", "net-namespace", "pid-namespace")


def test_isolation_says_what_was_measured(sandbox, backend, echo):
    assert not sandbox.isolation.confined
    assert sandbox.isolation.measures == ()
    sandbox.start("text", echo)
    found = sandbox.isolation
    assert (found.backend, found.confined, found.note) == (backend, True, "")
    assert set(found.measures) - {"user-namespace"} == {*ALWAYS, *MORE[backend]}
    assert {"open", "list", "write", "socket", "fork", "exec", "signal"} <= set(found.refused)


def test_without_landlock_no_file_can_be_opened(monkeypatch, caplog):
    monkeypatch.setattr("rlm.sandbox.lockdown.landlock_version", lambda: 0)
    caplog.set_level(logging.INFO)
    sandbox = open_sandbox("process")
    try:
        sandbox.start("text", NoCalls())
        assert sandbox.isolation.note == NO_LANDLOCK
        assert "landlock" not in sandbox.isolation.measures
        assert sandbox.isolation.confined
        result = sandbox.run("import json, csv, decimal\nopen(json.__file__)")
    finally:
        sandbox.close()
    assert result.error.splitlines()[-1].startswith("PermissionError")
    assert NO_LANDLOCK in caplog.text


@pytest.mark.parametrize("mode", ["open", "no-open"])
def test_a_worker_that_finds_a_way_out_ends_the_run(monkeypatch, mode):
    """A filter that allows everything: the self-test has to notice."""
    allow_all = (6).to_bytes(2, "little") + bytes(2) + (0x7FFF0000).to_bytes(4, "little")
    monkeypatch.setattr(seccomp, "program", lambda _: allow_all)
    sandbox = ProcessSandbox("process", Launch("listed" if mode == "open" else "closed"))
    with pytest.raises(SandboxError, match=r"does not hold on this machine: the self-test could"):
        sandbox.start("text", NoCalls())
    sandbox.close()


def test_a_filter_that_the_kernel_refuses_ends_the_run(monkeypatch):
    monkeypatch.setattr(seccomp, "program", lambda _: b"\xff" * 8)
    with pytest.raises(SandboxError, match="not in force: seccomp"):
        open_sandbox("process").start("text", NoCalls())


def test_another_machine_has_no_filter(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(SandboxError, match=r"no system-call filter for 'riscv64'.*monty"):
        open_sandbox("process").start("text", NoCalls())


@pytest.mark.skipif(not ctypes.util.find_library("seccomp"), reason="there is no libseccomp")
@pytest.mark.parametrize("machine", seccomp.MACHINES)
@pytest.mark.parametrize("mode", ["open", "no-open"])
def test_the_filters_are_what_the_table_makes(machine, mode):
    shipped = Path(seccomp.__file__).with_name("filters") / seccomp.file_name(machine, mode)
    assert seccomp.compile_filter(machine, mode) == shipped.read_bytes()


def test_unconfined_warns_at_every_start(caplog):
    sandbox = open_sandbox("unconfined")
    for count in (1, 2):
        sandbox.start("text", NoCalls())
        assert caplog.text.count("nothing keeps the model's code off your files") == count
    assert not sandbox.isolation.confined
    assert sandbox.isolation.refused == ()
    sandbox.close()


def test_bubblewrap_that_is_not_there(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SandboxError, match=r"install it .*bubblewrap"):
        open_sandbox("bwrap")


def test_bubblewrap_that_may_not_make_namespaces(monkeypatch, tmp_path):
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1")
    fake.chmod(0o755)
    monkeypatch.setattr(bwrap.shutil, "which", lambda _: str(fake))
    with pytest.raises(SandboxError, match=r"No permissions to create new namespace; where"):
        open_sandbox("bwrap")


def test_an_unknown_backend_names_the_others():
    with pytest.raises(UsageError, match=r"no sandbox backend 'docker'.*auto, process, no-open"):
        open_sandbox("docker")


def test_the_command_line_offers_every_backend():
    choices = {name: values for name, values, _ in CHOICES}
    assert choices["sandbox"] == ("auto", *BACKENDS)


def test_a_spare_worker_that_was_killed_is_replaced(echo):
    sandbox = open_sandbox("process")
    try:
        sandbox.start("one", echo)
        sandbox._spare.end()
        sandbox.start("two", echo)
        assert sandbox.run("print(context)").stdout == "two\n"
    finally:
        sandbox.close()


def test_a_session_works_without_a_spare_worker(monkeypatch):
    """A machine that is full: the second process does not start."""
    started: list[Child] = []

    def start(launch: Launch) -> Child:
        if started:
            raise SandboxError("cannot start: Resource temporarily unavailable")
        started.append(Child(launch))
        return started[0]

    monkeypatch.setattr("rlm.sandbox.process.Child", start)
    sandbox = open_sandbox("process")
    sandbox.start("text", NoCalls())
    assert sandbox.run("print(context)").stdout == "text\n"
    sandbox.close()
    assert started[0].ended


def test_a_worker_whose_namespaces_cannot_be_seen_is_ended(monkeypatch):
    def fail(pid: int, kind: str) -> str:
        raise PermissionError(13, "Permission denied", f"/proc/{pid}/ns/{kind}")

    monkeypatch.setattr("rlm.sandbox.child._namespace", fail)
    with pytest.raises(SandboxError, match=r"cannot see the worker's namespaces: .*killed by"):
        open_sandbox("bwrap").start("text", NoCalls())


def test_no_worker_is_left_when_the_host_is_killed():
    code = (
        "import os\nfrom rlm.sandbox import NoCalls, open_sandbox\n"
        "s = open_sandbox('process'); s.start('text', NoCalls())\n"
        "print(s._child._pid, s._spare._pid, flush=True)\nos.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    assert all(_gone(pid) for pid in pids)


def _gone(pid: int) -> bool:
    from tests.rlm.sandbox.test_watchdog import gone

    return gone(pid)
