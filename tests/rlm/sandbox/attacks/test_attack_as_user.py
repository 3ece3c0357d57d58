"""Run as root, the suite runs once more as nobody, who has nothing to drop; its core each time."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
CORE = ("reading", "writing", "processes", "signals")
NOBODY = 65534
NEEDED = "import pytest, msgspec, httpx, hypothesis"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the suite itself runs as a user")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of nobody's; those of pytest are closed to other users."""
    home = Path(tempfile.mkdtemp(prefix="rlm-nobody-"))
    os.chown(home, NOBODY, NOBODY)
    yield home
    shutil.rmtree(home)


def as_nobody(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    packages = importlib.metadata.distribution("pytest").locate_file("")
    return subprocess.run(
        command,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd=FOLDER.parents[3],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HYPOTHESIS_STORAGE_DIRECTORY": f"{home}/hypothesis",
            "PYTHONPATH": f"{FOLDER.parents[3]}:{packages}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def python_for_nobody(home: Path) -> str:
    """This Python where nobody may run it, else the system's of the same version."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/python{version}"):
        try:
            if as_nobody(home, python, "-c", NEEDED).returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip(f"nobody may run neither {sys.executable} nor a /usr/bin/python{version}")


@pytest.mark.slow
def test_the_whole_suite_holds_for_a_user_too(home):
    options = ("-q", "-p", "no:cacheprovider", f"--basetemp={home}/pytest")
    result = as_nobody(home, python_for_nobody(home), "-m", "pytest", str(FOLDER.parent), *options)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-1000:]
    assert " passed" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("module", CORE)
def test_the_core_holds_for_a_user_too(home, module):
    tests = str(FOLDER / f"test_attack_{module}.py")
    options = ("-q", "-k", "[process", "-p", "no:cacheprovider", f"--basetemp={home}/pytest")
    result = as_nobody(home, python_for_nobody(home), "-m", "pytest", tests, *options)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
