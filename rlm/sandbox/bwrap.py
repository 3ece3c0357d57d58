"""The same worker inside bubblewrap: namespaces around Landlock and seccomp.

Code then sees no file of the machine, not even its name, no other process and no network device
beside a loopback of its own. https://github.com/containers/bubblewrap
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rlm.errors import SandboxError
from rlm.sandbox.child import Launch
from rlm.sandbox.process import ProcessSandbox

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_INSTALL = "install it (Debian, Ubuntu, Fedora, Arch: package bubblewrap)"
_REFUSED = (
    "where unprivileged user namespaces are forbidden (Ubuntu 24.04: "
    "kernel.apparmor_restrict_unprivileged_userns, containers: seccomp), allow them for bwrap, or "
    "use --rlm-sandbox process"
)


def open_bwrap() -> ProcessSandbox:
    """A sandbox whose workers run inside bubblewrap.

    Raises:
        SandboxError: bubblewrap is not there, or may not make namespaces.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError(f"there is no program bwrap: {_INSTALL}")
    python = os.path.realpath(sys.executable)
    inside = (program, *_arguments(python))
    tried = subprocess.run(
        [*inside, "--", python, "-I", "-S", "-c", ""], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        reason = tried.stderr.strip() or f"exit status {tried.returncode}"
        raise SandboxError(f"bubblewrap does not work here: {reason}; {_REFUSED}")
    return ProcessSandbox("bwrap", Launch("listed", python, inside, "--info-fd"))


def _arguments(python: str) -> Iterator[str]:
    yield from ("--unshare-all", "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL")
    yield from ("--hostname", "sandbox", "--proc", "/proc", "--chdir", "/")
    for path in _LIBRARIES:
        yield from ("--ro-bind-try", path, path)
    for path in dict.fromkeys((python, *_python_files())):
        yield from ("--ro-bind", path, path)


def _python_files() -> Iterator[str]:
    """The standard library, the shared library of Python itself, and the worker."""
    library = Path(os.__file__).parent
    yield str(library)
    yield from map(str, sorted(library.parent.glob("libpython*.so*")))
    yield str(Path(__file__).parent)
