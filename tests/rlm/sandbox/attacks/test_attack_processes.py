"""New processes and new programs, by every way there is to start one."""

from __future__ import annotations

import pytest

# A child that comes to be ends at once; unlocked, these do no more than that.
START = {
    "os.fork": "os.fork() or os._exit(0)",
    "os.forkpty": "os.forkpty()[0] or os._exit(0)",
    "pty.fork": "import pty\ntry: pty.fork()[0] or os._exit(0)\nexcept OSError: fails(True)",
    "libc fork": "check(libc.fork()) or os._exit(0)",
    "libc _Fork": "check(libc._Fork()) or os._exit(0)",
    "fork(2)": "call('fork') or os._exit(0)",
    "vfork(2)": "call('vfork') or libc._exit(0)",
    "clone(2) as fork": "call('clone', 17, 0, 0, 0, 0) or os._exit(0)",
    "clone(2) without a signal": "call('clone', 0, 0, 0, 0, 0) or os._exit(0)",
    "clone(2) in namespaces": "call('clone', 0x7e020000 | 17, 0, 0, 0, 0) or os._exit(0)",
    "clone(2) in a user namespace": "call('clone', 0x10000000 | 17, 0, 0, 0, 0) or os._exit(0)",
    "clone(2) with the parent's parent": "call('clone', 0x8000 | 17, 0, 0, 0, 0) or os._exit(0)",
    "clone(2) half a thread": "call('clone', 0x10000 | 0x800, 0, 0, 0, 0)",
    "clone(2) as vfork": "call('clone', 0x4000 | 17, 0, 0, 0, 0) or libc._exit(0)",
    "clone3(2)": "args = (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17)\n"
    "call('clone3', args, 64) or os._exit(0)",
    "clone3(2) of nothing": "call('clone3', 0, 0)",
    "os.posix_spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "os.spawnv": "os.spawnv(os.P_WAIT, '/bin/true', ['true'])",
    "subprocess": "import subprocess; subprocess.run(['/bin/true'])",
    "subprocess with a shell": "import subprocess; subprocess.run('true', shell=True)",
    "subprocess with vfork": "import subprocess\n"
    "subprocess.Popen(['/bin/true'], close_fds=False, preexec_fn=None).wait()",
    "_posixsubprocess": "import _posixsubprocess, subprocess\n"
    "subprocess._USE_VFORK = False; subprocess.run(['/bin/true'])",
    "os.system": "fails(os.system('true') != 0)",
    "os.popen": "os.popen('true').read()",
    "libc system": "fails(libc.system(b'true') != 0)",
    "libc popen": "libc.popen.restype = ctypes.c_void_p; check(libc.popen(b'true', b'r'))",
    "libc posix_spawn": "args = (ctypes.c_char_p * 2)(b'true', None)\n"
    "pid = ctypes.c_int()\n"
    "number = libc.posix_spawn(ctypes.byref(pid), b'/bin/true', None, None, args, None)\n"
    "if number: raise OSError(number, '')",
    "multiprocessing fork": "import multiprocessing as m\n"
    "m.get_context('fork').Process(target=int).start()",
    "multiprocessing spawn": "import multiprocessing as m\n"
    "m.get_context('spawn').Process(target=int).start()",
    "multiprocessing forkserver": "import multiprocessing as m\n"
    "m.get_context('forkserver').Process(target=int).start()",
    "ProcessPoolExecutor": "from concurrent.futures import ProcessPoolExecutor\n"
    "with ProcessPoolExecutor(1) as pool: pool.submit(int).result(2)",
    "webbrowser": "import webbrowser; fails(not webbrowser.open('http://localhost/'))",
    "platform": "import subprocess; subprocess.check_output(['uname', '-p'])",
}
REPLACE = {
    "os.execv": "os.execv('/bin/true', ['true'])",
    "os.execve of a descriptor": "os.execve(os.open('/bin/true', os.O_PATH), ['true'], {})",
    "os.execvp": "os.execvp('true', ['true'])",
    "Python itself": "import sys; os.execv(os.path.realpath('/proc/self/exe'), ['x', '-c', ''])",
    "the loader": "os.execv('/lib64/ld-linux-x86-64.so.2', ['ld', '/bin/true'])",
    "a script of the host": "os.execv(FOLDER + '/run', ['run'])",
    "libc execv": "check(libc.execv(b'/bin/true', (ctypes.c_char_p * 2)(b'true', None)))",
    "libc fexecve": "fd = os.open('/bin/true', os.O_PATH)\n"
    "args = (ctypes.c_char_p * 2)(b'true', None)\n"
    "check(libc.fexecve(fd, args, args))",
    "execve(2)": "call('execve', b'/bin/true', (ctypes.c_char_p * 2)(b'true', None), 0)",
    "execve(2) of nothing": "call('execve', 0, 0, 0)",
    "execveat(2)": "args = (ctypes.c_char_p * 2)(b'true', None)\n"
    "call('execveat', -100, b'/bin/true', args, 0, 0)",
    "execveat(2) of O_PATH": "args = (ctypes.c_char_p * 2)(b'true', None)\n"
    "call('execveat', os.open('/bin/true', os.O_PATH), b'', args, 0, 0x1000)",
    "memfd and execve": "fd = os.memfd_create('x', 0)\n"
    "os.execve(fd, ['x'], {})",
}  # fmt: skip


@pytest.mark.parametrize("way", START)
def test_no_process_is_started(refused, way):
    refused(START[way])


@pytest.mark.parametrize("way", REPLACE)
def test_the_worker_stays_the_program_it_is(refused, way):
    refused(REPLACE[way])


@pytest.mark.parametrize(
    "code",
    [
        "import threading\nt = threading.Thread(target=print, args=('x',)); t.start(); t.join()",
        "from concurrent.futures import ThreadPoolExecutor as E\n"
        "with E(8) as pool: print(*set(pool.map(lambda _: 'x', range(8))))",
        "import queue, threading\nq = queue.Queue()\n"
        "threading.Timer(0.01, q.put, ['x']).start(); print(q.get())",
    ],
)
def test_threads_work(start, backend, code):
    # The other side of the filter: what is no process is not refused.
    if backend == "no-open" and "concurrent" in code:
        pytest.skip("not among the modules imported before")
    result = start(seconds=5.0)(code)
    assert (result.status, result.stdout) == ("ok", "x\n"), result


def test_no_library_of_the_host_is_loaded(run, inside, backend):
    # Code of any file would run by loading it as a library.
    code = "try: ctypes.CDLL(FOLDER + '/secret.txt')\nexcept OSError as problem: print(problem)"
    result = run(inside + code)
    reasons = ("Permission denied", "not permitted", "No such file")  # the last in bubblewrap
    assert any(reason in result.stdout for reason in reasons[: 3 if backend == "bwrap" else 2])
