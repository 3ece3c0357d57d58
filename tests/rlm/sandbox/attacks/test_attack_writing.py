"""Files of the host: made, changed, renamed, removed; the guard looks at the canaries besides."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from uuid import uuid4

import pytest

CHANGE = {
    "open w": "open(TARGET, 'w')",
    "open a": "open(TARGET, 'a')",
    "open r+": "open(TARGET, 'r+')",
    "open rb+ unbuffered": "open(TARGET, 'rb+', buffering=0)",
    "pathlib": "import pathlib; pathlib.Path(TARGET).write_text('gone')",
    "os.open O_TRUNC": "os.open(TARGET, os.O_RDONLY | os.O_TRUNC)",
    "os.open O_WRONLY": "os.open(TARGET, os.O_WRONLY)",
    "os.open O_APPEND": "os.open(TARGET, os.O_RDWR | os.O_APPEND)",
    "os.open access mode 3": "os.open(TARGET, 3)",
    "libc creat": "check(libc.creat(TARGET.encode(), 0o600))",
    "os.truncate": "os.truncate(TARGET, 0)",
    "os.truncate of O_PATH": "os.ftruncate(os.open(TARGET, os.O_PATH), 0)",
    "O_PATH reopened to write": "fd = os.open(TARGET, os.O_PATH)\n"
    "os.open(f'/proc/self/fd/{fd}', os.O_RDWR)",
    "os.chmod": "os.chmod(TARGET, 0o777)",
    "O_PATH and chmod": "os.chmod(f\"/proc/self/fd/{os.open(TARGET, os.O_PATH)}\", 0o777)",
    "libc lchmod": "check(libc.lchmod(TARGET.encode(), 0o777))",
    "fchmodat(2)": "call('fchmodat', -100, TARGET.encode(), 0o777)",
    "fchmodat2(2)": "call('fchmodat2', -100, TARGET.encode(), 0o777, 0)",
    "os.chown": "os.chown(TARGET, os.getuid(), os.getgid())",
    "os.lchown": "os.lchown(TARGET, os.getuid(), os.getgid())",
    "fchownat(2)": "call('fchownat', -100, TARGET.encode(), os.getuid(), os.getgid(), 0)",
    "os.utime": "os.utime(TARGET, (1, 1))",
    "utime(2)": "call('utime', TARGET.encode(), 0)",
    "futimesat(2)": "call('futimesat', -100, TARGET.encode(), 0)",
    "utimensat(2)": "call('utimensat', -100, TARGET.encode(), 0, 0)",
    "utimensat(2) of O_PATH": "call('utimensat', os.open(TARGET, os.O_PATH), b'', 0, 0x1000)",
    "os.rename": "os.rename(TARGET, TARGET + '.gone')",
    "os.replace": "os.replace(TARGET, FOLDER + '/run')",
    "renameat(2)": "call('renameat', -100, TARGET.encode(), -100, (TARGET + 'x').encode())",
    "renameat2(2)": "call('renameat2', -100, TARGET.encode(), -100, FOLDER.encode() + b'/run', 2)",
    "os.unlink": "os.unlink(TARGET)",
    "pathlib unlink": "import pathlib; pathlib.Path(TARGET).unlink()",
    "unlinkat(2)": "call('unlinkat', -100, TARGET.encode(), 0)",
    "unlink by dirfd": "os.unlink('secret.txt', dir_fd=os.open(FOLDER, os.O_PATH))",
    "os.rmdir": "os.rmdir(FOLDER + '/cage')",
    "shutil.rmtree": "import shutil; shutil.rmtree(FOLDER + '/cage')",
    "os.setxattr": "os.setxattr(TARGET, 'user.canary', b'1')",
    "setxattr(2)": "call('setxattr', TARGET.encode(), b'user.canary', b'1', 1, 0)",
    "setxattrat(2)": "args = (ctypes.c_uint64 * 2)()\n"
    "call('setxattrat', -100, TARGET.encode(), 0, b'user.canary', args, 16)",
    "file_setattr(2)": "seen = (ctypes.c_uint64 * 3)()\n"
    "call('file_setattr', -100, TARGET.encode(), seen, 24, 0)",
    "libc fopen w": "libc.fopen.restype = ctypes.c_void_p\n"
    "check(libc.fopen(TARGET.encode(), b'w'))",
    "sqlite3": "import sqlite3\n"
    "try: sqlite3.connect(FOLDER + '/new.db').execute('create table t (a)')\n"
    "except sqlite3.Error: fails(True)",
    "logging": "import logging; logging.FileHandler(TARGET)",
}  # fmt: skip
MAKE = {
    "open x": "open(TARGET, 'x')",
    "os.open O_CREAT": "os.open(TARGET, os.O_CREAT | os.O_RDONLY)",
    "os.open O_TMPFILE": "os.open(os.path.dirname(TARGET), os.O_TMPFILE | os.O_RDWR)",
    "openat(2)": "call('openat', -100, TARGET.encode(), os.O_CREAT, 0o600)",
    "openat2(2)": "how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o600)\n"
    "call('openat2', -100, TARGET.encode(), how, ctypes.sizeof(how))",
    "os.mkdir": "os.mkdir(TARGET)",
    "os.makedirs": "os.makedirs(TARGET + '/deep')",
    "os.mkfifo": "os.mkfifo(TARGET)",
    "os.mknod": "os.mknod(TARGET)",
    "mknodat(2) of a device": "call('mknodat', -100, TARGET.encode(), 0o020600, os.makedev(1, 3))",
    "os.symlink": "os.symlink('/etc/passwd', TARGET)",
    "symlinkat(2)": "call('symlinkat', b'/etc/passwd', -100, TARGET.encode())",
    "os.link": "os.link(FOLDER + '/secret.txt', TARGET)",
    "linkat(2) of O_PATH": "fd = os.open(FOLDER + '/secret.txt', os.O_PATH)\n"
    "call('linkat', fd, b'', -100, TARGET.encode(), 0x1000)",
    "pathlib touch": "import pathlib; pathlib.Path(TARGET).touch()",
    "tempfile": "import tempfile; tempfile.TemporaryFile(dir=os.path.dirname(TARGET))",
    "mkdir by dirfd": "folder = os.open(os.path.dirname(TARGET), os.O_PATH)\n"
    "os.mkdir(os.path.basename(TARGET), dir_fd=folder)",
}
IN_MEMORY = {
    "os.memfd_create": "os.memfd_create('x')",
    "memfd_create(2)": "call('memfd_create', b'x', 0)",
    "memfd_secret(2)": "call('memfd_secret', 0)",
    "shm_open": "name = f'/{TARGET}'.encode()\n"
    "check(libc.shm_open(name, os.O_CREAT | os.O_RDWR, 0o600))",
    "shared_memory": "from multiprocessing.shared_memory import SharedMemory\n"
    "SharedMemory(name=TARGET, create=True, size=10)",
    "mq_open(2)": "call('mq_open', TARGET.encode(), os.O_CREAT | os.O_RDWR, 0o600, 0)",
    "sem_open": "import _multiprocessing\n"
    "_multiprocessing.SemLock(0, 1, 1, '/' + TARGET, True)",
    "libc tmpfile": "libc.tmpfile.restype = ctypes.c_void_p; fails(not libc.tmpfile())",
    "mount of a new tmpfs": "call('fsopen', b'tmpfs', 0)",
}  # fmt: skip
DESCRIPTOR = {
    "os.fchmod": "os.fchmod(TARGET, 0o666)",
    "os.fchown": "os.fchown(TARGET, os.getuid(), os.getgid())",
    "os.utime": "os.utime(TARGET)",
    "os.setxattr": "os.setxattr(TARGET, 'user.canary', b'1')",
    "os.ftruncate": "os.ftruncate(TARGET, 0)",
    "posix_fallocate": "os.posix_fallocate(TARGET, 0, 10)",
    "fallocate(2)": "call('fallocate', TARGET, 0, 0, 10)",
    "fchmodat2(2)": "call('fchmodat2', TARGET, b'', 0o666, 0x1000)",
    "fchownat(2)": "call('fchownat', TARGET, b'', os.getuid(), os.getgid(), 0x1000)",
    "reopened": "os.open(f'/proc/self/fd/{TARGET}', os.O_RDWR)",
    "chmod by proc": "os.chmod(f'/proc/self/fd/{TARGET}', 0o666)",
}


@pytest.mark.parametrize("way", CHANGE)
def test_a_file_stays_as_it_is(refused, folder, way):
    refused(CHANGE[way], str(folder / "secret.txt"))


@pytest.mark.parametrize("way", MAKE)
def test_no_file_is_made(refused, folder, way):
    new = f"sandbox-attack-{uuid4().hex}"
    homes = [folder, *map(Path, ("/", "/tmp", "/var/tmp", "/dev/shm", "/run", "/dev"))]
    try:
        refused(MAKE[way], *(str(home / new) for home in homes if os.access(home, os.W_OK)))
    finally:
        left = [home / new for home in homes if os.path.lexists(home / new)]
        for path in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert left == []


@pytest.mark.parametrize("way", IN_MEMORY)
def test_no_file_is_made_in_memory(refused, way):
    name = f"sandbox-attack-{uuid4().hex}"
    try:
        refused(IN_MEMORY[way], name)
    finally:
        left = list(Path("/dev/shm").glob(f"*{name}*"))
        for path in left:
            path.unlink()
    assert left == []


@pytest.mark.parametrize("way", DESCRIPTOR)
def test_null_and_the_sockets_stay_as_they_are(refused, way):
    # Guards: /dev/null is a file of the host, and root in the sandbox could change its mode.
    refused(DESCRIPTOR[way], 0, 1, 2)


def test_no_byte_reaches_the_host_s_own_output(run, capfd):
    code = (
        "import os, sys, faulthandler\n"
        "for stream in (sys.__stdout__, sys.__stderr__):\n"
        "    stream.write('leaked'); stream.flush()\n"
        "for fd in (0, 1, 2):\n"
        "    try: os.write(fd, b'leaked')\n"
        "    except OSError: pass\n"
    )
    assert run(code).stdout == ""
    assert capfd.readouterr() == ("", "")
