"""The network: sockets of every family, what the two given ones can be turned into, names."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

OPEN = {
    "tcp": "import socket; socket.socket()",
    "tcp over IPv6": "import socket; socket.socket(socket.AF_INET6)",
    "udp": "import socket; socket.socket(type=socket.SOCK_DGRAM)",
    "unix": "import socket; socket.socket(socket.AF_UNIX)",
    "unix datagram": "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "raw": "import socket; socket.socket(type=socket.SOCK_RAW, proto=1)",
    "packet": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 768)",
    "netlink": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "vsock": "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
    "alg": "import socket; socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET, 0)",
    "mptcp": "check(libc.socket(2, 1, 262))",
    "socketpair": "import socket; socket.socketpair()",
    "libc socketpair": "check(libc.socketpair(1, 1, 0, (ctypes.c_int * 2)()))",
    "socket(2)": "call(41, 2, 1, 0)",
    "socketpair(2)": "call(53, 1, 1, 0, (ctypes.c_int * 2)())",
    "server": "import socket; socket.create_server(('127.0.0.1', 0))",
    "interfaces": "import socket; socket.if_nameindex()",
}
NAMES = {
    "getaddrinfo": "socket.getaddrinfo('example.com', 80)",
    "gethostbyname": "socket.gethostbyname('example.com')",
    "libc gethostbyname": "libc.gethostbyname.restype = ctypes.c_void_p\n"
    "fails(not libc.gethostbyname(b'example.com'))",
    "getpwuid": "import pwd\ntry: pwd.getpwuid(0)\nexcept KeyError: fails(True)",
}
TURN = {
    "connect to an address": "check(libc.connect(TARGET, bytes([2, 0, 0, 80, 127, 0, 0, 1]), 16))",
    "disconnect": "check(libc.connect(TARGET, bytes(16), 16))",
    "connect to a path": "name = FOLDER.encode() + b'/socket'\n"
    "check(libc.connect(TARGET, b'\\x01\\0' + name, 2 + len(name)))",
    "bind to a path": "name = FOLDER.encode() + b'/new'\n"
    "check(libc.bind(TARGET, b'\\x01\\0' + name, 2 + len(name)))",
    "bind to an abstract name": "check(libc.bind(TARGET, b'\\x01\\0\\0attack', 9))",
    "listen": "check(libc.listen(TARGET, 1))",
    "accept": "check(libc.accept(TARGET, 0, 0))",
    "sendto an address": "address = bytes([2, 0, 0, 80, 127, 0, 0, 1])\n"
    "try: check(libc.sendto(TARGET, b'', 0, 0, address, 16))\n"
    "except OSError as problem: fails(problem.errno == errno.EISCONN); raise",
}
SWEEP = """
for family in range(47):
    for kind in (1, 2, 3, 4, 5):
        for protocol in (0, 1, 6, 17, 255, 262):
            fd = libc.socket(family, kind, protocol)
            if fd >= 0 or ctypes.get_errno() not in (1, 13, 38):
                print(family, kind, protocol, ctypes.get_errno())
            if fd >= 0: os.close(fd)
"""


class Listeners:
    """What listens on the host, in each way a connection could be made."""

    def __init__(self, folder: Path) -> None:
        self.tcp, self.udp = socket.create_server(("127.0.0.1", 0)), socket.socket(type=2)
        self.path, self.abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self.all = (self.tcp, self.udp, self.path, self.abstract)
        self.udp.bind(("127.0.0.1", 0))
        self.path.bind(str(folder / "listens"))
        self.abstract.bind(f"\0attack-{folder}"[:100])
        self.path.listen()
        self.abstract.listen()

    @property
    def heard(self) -> list[socket.socket]:
        return select.select(self.all, (), (), 0)[0]


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[Listeners]:
    listeners = Listeners(tmp_path)
    yield listeners
    for one in listeners.all:
        one.close()


@pytest.mark.parametrize("way", OPEN)
def test_no_socket_is_opened(refused, way):
    refused(OPEN[way])


def test_no_family_of_sockets_is_there(run, inside):
    result = run(inside + SWEEP)
    assert (result.status, result.stdout) == ("ok", "")


@pytest.mark.parametrize("way", NAMES)
def test_no_name_is_looked_up(refused, way):
    code = "import socket\ntry:\n    {}\nexcept socket.gaierror: fails(True)"
    refused(code.format(NAMES[way].replace("\n", "\n    ")))


@pytest.mark.parametrize("way", TURN)
def test_the_given_sockets_stay_what_they_are(refused, way):
    # A connected stream refuses most of this itself (EISCONN, EINVAL): it must not get there.
    refused(f"for TARGET in sockets():\n    {TURN[way].replace(chr(10), chr(10) + '    ')}")


@pytest.mark.parametrize(
    "code",
    [
        "socket.create_connection({tcp!r}, 1)",
        "import urllib.request; urllib.request.urlopen('http://%s:%d/' % {tcp!r}, timeout=1)",
        "import http.client; http.client.HTTPConnection(*{tcp!r}, timeout=1).request('GET', '/')",
        "socket.socket(type=2).sendto(b'x', {udp!r})",
        "socket.socket(socket.AF_UNIX).connect({path!r})",
        "socket.socket(socket.AF_UNIX).connect({abstract!r})",
    ],
)
def test_who_listens_hears_nothing(refused, listeners, code):
    names = {name: one.getsockname() for name, one in vars(listeners).items() if name != "all"}
    names["abstract"] = names["abstract"].decode("latin-1")
    code = code.format(**names)
    refused(f"import socket\ntry: {code}\nexcept OSError as problem:\n"
            "    raise getattr(problem, 'reason', problem)")  # fmt: skip
    assert listeners.heard == []


def test_descriptors_sent_to_the_host_do_not_stay_there(run, inside, usable):
    # The guard counts the host's descriptors afterwards.
    code = (
        "import array, socket\n"
        "for fd in sockets():\n"
        "    try:\n"
        "        one = socket.socket(fileno=os.dup(fd))\n"
        "        rights = array.array('i', [0] * 50)\n"
        "        for _ in range(20):\n"
        "            one.sendmsg([b'\\0'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])\n"
        "    except OSError: pass\n"
    )
    run(inside + code)
    usable(run)


def test_the_other_end_of_a_socket_tells_nothing_that_helps(refused):
    # SO_PEERPIDFD gives a descriptor of the host's process itself.
    code = (
        "import socket\n"
        "for fd in sockets():\n"
        "    pidfd = ctypes.c_int(-1)\n"
        "    size = ctypes.byref(ctypes.c_int(4))\n"
        "    check(libc.getsockopt(fd, 1, 77, ctypes.byref(pidfd), size))\n"
        "    call('pidfd_send_signal', pidfd.value, 0, 0, 0)\n"
    )
    refused(code)
