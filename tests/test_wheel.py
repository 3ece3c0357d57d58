"""Guards what a user installs: the wheel holds prompts and model, and asks for no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(folder.glob("rlm_bench-*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and nothing else but what this one has."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=True)
    executable = folder / "bin" / "python"
    install = [str(executable), "-m", "pip", "install", "-q", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    return executable


def test_prompts_words_and_model_are_inside(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "rlm/prompts/v1/system_full.txt",
        "rlm/prompts/v1/system_compact.txt",
        "rlm/prompts/v1/messages.toml",
        "rlm/bench/tasks/words.txt",
        "rlm/models/nano/embedded.gguf",
        "rlm/models/nano/embedded.json",
        "rlm/models/nano/embedded-base.gguf",
        "rlm/models/nano/embedded-base.json",
        "rlm/models/nano/embedded-sft.gguf",
        "rlm/models/nano/embedded-sft.json",
    } <= names


def test_only_the_package_is_inside(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rlm"}


def test_the_base_install_asks_for_no_torch(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = next(name for name in archive.namelist() if name.endswith("/METADATA"))
    headers = HeaderParser().parsestr(archive.read(metadata).decode())
    base = [r for r in headers.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert sorted(re.split(r"[<>=!~ ]", requirement)[0] for requirement in base) == [
        "httpx",
        "msgspec",
        "rich",
        "xllamacpp",
    ]


def test_the_installed_package_answers_a_question(python: Path, tmp_path: Path) -> None:
    """The whole way: installed wheel, embedded engine, sandbox child, loop."""
    code = (
        "import json, sys, rlm\n"
        "client = rlm.connect('embedded')\n"
        "answer = rlm.RLM(client, max_iterations=3).completion(\n"
        "    context='The vault number is 48213. ' + 'Nothing else. ' * 50,\n"
        "    query='What is the vault number?')\n"
        "client.close()\n"
        "print(json.dumps([answer.iterations, 'torch' in sys.modules, rlm.__file__]))\n"
    )
    done = subprocess.run(
        [str(python), "-I", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    iterations, torch_loaded, where = json.loads(done.stdout)
    assert iterations >= 1
    assert not torch_loaded
    assert Path(where).is_relative_to(python.parent.parent)
