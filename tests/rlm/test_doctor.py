"""`rlm doctor`: what it finds on machines that have, lack or break things."""

from __future__ import annotations

import json
import os
import platform
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from rlm import doctor
from rlm.cli import main
from rlm.doctor import Finding
from rlm.errors import CallRefused, ModelNotFound, SandboxError, UsageError
from rlm.sandbox import CellResult, Isolation, NoCalls
from tests.rlm.scripted import Scripted
from tests.servers.ollama import NAME, OllamaServer, ollama_server
from tests.servers.scripted import Reply, ScriptedServer

ROOT = Path(__file__).parents[2]
NOBODY = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def _no_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", NOBODY)


class Box:
    """A sandbox that does as told; confined and well by default."""

    def __init__(
        self,
        *,
        confined: bool = True,
        note: str = "",
        result: CellResult | None = None,
        error: Exception | None = None,
    ) -> None:
        refused = ("open", "socket") if confined else ()
        self.isolation = Isolation("box", confined, ("landlock", "seccomp"), refused, note)
        self.result, self.error, self.closed = result or CellResult("ok", "1\n", 2), error, 0

    def start(self, context: str, calls: object, **_: object) -> None:
        assert context
        if self.error is not None:
            raise self.error

    def run(self, code: str) -> CellResult:
        assert code == "print(1)"
        return self.result

    def close(self) -> None:
        self.closed += 1


Boxes = Callable[..., None]


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> Boxes:
    """Install backends of the given names; the first is the default."""

    def install(**backends: Box) -> None:
        first = next(iter(backends))
        lines = {name: f"the line about {name}" for name in backends}
        monkeypatch.setattr("rlm.sandbox.BACKENDS", lines)
        monkeypatch.setattr("rlm.sandbox.default_backend", lambda: first)
        monkeypatch.setattr("rlm.sandbox.open_sandbox", backends.__getitem__)

    return install


@pytest.fixture
def well(boxes: Boxes) -> None:
    """One backend, that works."""
    boxes(process=Box())


def named(findings: Sequence[Finding]) -> dict[str, Finding]:
    assert len({f.name for f in findings}) == len(findings), findings
    return {f.name: f for f in findings}


def report(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any]]:
    """Exit status of ``rlm doctor --json``, and its findings by name."""
    status = main(["doctor", "--json", *args])
    shown = capsys.readouterr()
    assert shown.err == ""
    answer = json.loads(shown.out)
    assert answer["ready"] is (status == 0)
    return status, {row["name"]: row for row in answer["findings"]}


# The whole command


def test_this_machine_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is faked here: every backend and the embedded model are really started."""
    status, found = report(capsys)
    assert status == 0, found
    assert {row["status"] for row in found.values()} <= {"ok", "note", "missing", "problem"}
    lost = [row for row in found.values() if row["status"] in ("missing", "problem")]
    assert [row for row in lost if not row["remedy"]] == []
    assert found["package/version"]["text"].startswith("rlm-bench 0.")
    assert found["sandbox/unconfined"]["status"] == "note"
    assert "takes" in found["embedded/call"]["text"]


@pytest.mark.usefixtures("well")
def test_text_is_plain_ascii_when_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--quick"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert "\n  missing  server      no server answers at http://127.0.0.1:9" in out
    assert "-> " in out
    assert out.endswith("\nready: code is confined, and the embedded model works\n")


@pytest.mark.usefixtures("well")
def test_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["doctor", "--quick"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines()[:-1])) <= 40


def test_terminal_gets_colours() -> None:
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "rlm.cli", "doctor", "--quick"]
    env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    with subprocess.Popen(command, stdout=terminal, env=env | {"TERM": "xterm"}, cwd=ROOT):
        os.close(terminal)
        shown = read_all(master)
    os.close(master)
    assert b"\x1b[32m  ok" in shown


def read_all(terminal: int) -> bytes:
    parts = []
    try:
        while part := os.read(terminal, 4096):
            parts.append(part)
    except OSError:  # Linux says so when the other end closes
        pass
    return b"".join(parts)


@pytest.mark.usefixtures("well")
def test_quick_does_not_start_the_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("rlm.clients.connect")
    status, found = report(capsys, "--quick")
    assert status == 0
    assert found["embedded/call"] == {
        "name": "embedded/call",
        "status": "note",
        "text": "not tried, as --quick asks",
        "remedy": "",
    }


@pytest.mark.parametrize(
    "box",
    [
        Box(confined=False),
        Box(error=SandboxError("no seccomp; use another kernel")),
        Box(error=ValueError("a bug")),
        Box(result=CellResult("died", error="killed")),
    ],
    ids=["unconfined", "refused", "bug", "broken"],
)
def test_default_sandbox_that_does_not_do_its_job_is_status_1(
    box: Box, boxes: Boxes, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes(process=box, monty=Box())
    assert main(["doctor", "--quick"]) == 1
    assert capsys.readouterr().out.endswith("\nnot ready: see sandbox/default\n")
    assert box.closed == 1


@pytest.mark.usefixtures("well")
def test_embedded_model_that_does_not_start_is_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(spec: str) -> None:
        raise ModelNotFound(f"the engine cannot load {spec}")

    monkeypatch.setattr("rlm.clients.connect", refuse)
    status, found = report(capsys)
    assert status == 1
    assert found["embedded/call"]["text"] == "the engine cannot load embedded"


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.split("examples:")[1].count("rlm doctor") == 2
    assert all(word in out for word in ("ok ", "note ", "missing ", "problem ", "exit status"))


def test_a_look_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(platform, "platform", fail)
    text = "could not be examined: RuntimeError: no such thing"
    remedy = "report this with `rlm doctor --json`"
    assert doctor.python() == [Finding("package/python", "problem", text, remedy)]


# The package


def test_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTION", "rlm-nowhere")
    assert [f.status for f in (*doctor.package(), *doctor.extras())] == ["missing", "note"]


def rlms(folder: Path, name: str = "rlms") -> None:
    """What ``pip install rlms`` leaves beside its files."""
    info = folder / f"{name}-0.1.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.3\n")
    (info / "top_level.txt").write_text("rlm\n")


def in_child(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; from rlm.cli import main; sys.exit(main({list(args)}))"
    return subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
    )


def test_no_clash() -> None:
    assert [f.status for f in doctor.clash()] == ["ok"]


@pytest.mark.parametrize("name", ["rlms", "another_rlm"])
def test_clash_with_another_distribution(tmp_path: Path, name: str) -> None:
    rlms(tmp_path, name)
    done = in_child(tmp_path, "doctor", "--quick", "--json")
    found = {row["name"]: row for row in json.loads(done.stdout)["findings"]}["package/rlms"]
    assert found["status"] == "problem"
    assert found["text"].startswith(f"{name} installs a package `rlm` as well")
    assert found["remedy"].startswith(f"`pip uninstall {name}`, then `pip install ")


@pytest.mark.parametrize("args", [("doctor",), ("ask", "file", "question")])
def test_files_that_rlms_has_overwritten(tmp_path: Path, args: tuple[str, ...]) -> None:
    """Guards the only words a user gets after ``pip install rlms`` into the same environment."""
    shutil.copytree(ROOT / "rlm", tmp_path / "rlm", ignore=shutil.ignore_patterns("models"))
    (tmp_path / "rlm" / "clients" / "__init__.py").write_text("def get_client(): ...\n")
    rlms(tmp_path)
    done = in_child(tmp_path, *args)
    assert done.returncode == 1
    assert done.stderr.startswith("rlm: rlms installs a package `rlm` as well")
    assert "Traceback" not in done.stderr


def test_other_import_errors_are_not_hidden(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "rlm", tmp_path / "rlm", ignore=shutil.ignore_patterns("models"))
    (tmp_path / "rlm" / "clients" / "__init__.py").write_text("")
    assert "ImportError: cannot import name 'FORMS'" in in_child(tmp_path, "doctor").stderr


def test_the_module_itself_needs_the_standard_library_only() -> None:
    """It must run where files of this package were overwritten."""
    code = "import sys, rlm.doctor; print([m for m in ('httpx', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# The machine


def test_cores_that_are_not_all_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert doctor.processor()[0].text.startswith("2 of 8 cores usable, ")


def test_memory_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert doctor.processor()[0].text.endswith(" GiB of memory")
    monkeypatch.delattr(os, "sysconf")
    assert doctor.processor()[0].text.endswith(", memory unknown")


@pytest.mark.parametrize(
    ("script", "finding"),
    [
        (
            "echo NVIDIA H200, 143771; echo NVIDIA GB10, [N/A]",
            Finding("machine/gpu", "ok", "NVIDIA H200 (140 GiB), NVIDIA GB10 (memory not told)"),
        ),
        (
            "echo NVIDIA-SMI has failed.; echo Bye; exit 9",
            Finding(
                "machine/gpu",
                "problem",
                "nvidia-smi is there but fails: NVIDIA-SMI has failed.",
                "repair the driver until `nvidia-smi` works, if the GPU shall be used",
            ),
        ),
        ("", Finding("machine/gpu", "ok", "nvidia-smi lists no GPU")),
    ],
)
def test_gpu(
    script: str, finding: Finding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.gpu() == [finding]


def test_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    text = "no NVIDIA GPU seen; everything here runs on the CPU"
    assert doctor.gpu() == [Finding("machine/gpu", "note", text)]


def test_apple_silicon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert doctor.gpu()[0].text.startswith("Apple Silicon")


# The sandboxes


def test_backends_one_by_one(boxes: Boxes) -> None:
    bwrap = Box(error=SandboxError("there is no bwrap; `apt install bubblewrap`"))
    unconfined = Box(confined=False)
    boxes(process=Box(note="no Landlock here"), bwrap=bwrap, unconfined=unconfined)
    found = named(doctor.sandboxes())
    why = f"process, as always on {platform.system()}: the line about process"
    assert found["sandbox/default"] == Finding("sandbox/default", "ok", why)
    text = found["sandbox/process"].text
    assert text.startswith(
        "confined; landlock + seccomp; 2 attempts to break out refused; starts in "
    )
    assert text.endswith(" ms; no Landlock here")
    assert found["sandbox/bwrap"].remedy == "there is no bwrap; `apt install bubblewrap`"
    assert found["sandbox/bwrap"].status == "missing"
    assert found["sandbox/unconfined"].status == "note"
    assert unconfined.closed == 0  # it was never opened


def test_no_backend_that_confines(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise SandboxError("neither Landlock nor seccomp; install the extra monty")

    boxes(process=Box(error=SandboxError("no")))
    monkeypatch.setattr("rlm.sandbox.default_backend", refuse)
    default = doctor.sandboxes()[0]
    assert default.status == "missing"
    assert default.remedy == "neither Landlock nor seccomp; install the extra monty"
    assert not doctor.is_ready([default])


def test_backend_that_is_refused_when_it_is_opened(
    boxes: Boxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> Box:
        raise UsageError(f"{name} needs the extra monty")

    boxes(process=Box())
    monkeypatch.setattr("rlm.sandbox.open_sandbox", refuse)
    assert doctor.sandbox("monty")[0].remedy == "monty needs the extra monty"


def test_calls_are_refused() -> None:
    with pytest.raises(CallRefused, match="no model listens here"):
        NoCalls().llm_query("hello")


# The embedded model


def test_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert doctor.engine()[0].status == "missing"
    assert not doctor.is_ready(doctor.engine())


def test_model_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm.clients._NANO", tmp_path)
    assert [f.status for f in doctor.model_files()] == ["missing"] * 3
    (tmp_path / "embedded.gguf").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    (tmp_path / "embedded.json").write_text('{"sha256": "4c5211ad"}')
    (tmp_path / "embedded-base.gguf").write_bytes(b"GGUF")
    model, base, sft = doctor.model_files()
    assert (model.status, base.status, sft.status) == ("problem", "note", "missing")
    assert "embedded.gguf, 0.0 MB, is damaged: its sha256 " in model.text
    assert not doctor.is_ready([model, base])


def test_call_closes_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Scripted(["Paris"])
    monkeypatch.setattr("rlm.clients.connect", lambda spec: client)
    assert doctor.embedded_call()[0].status == "ok"
    assert client.closed
    assert client.options[0].max_tokens == 8


# Ollama


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OllamaServer]:
    with ollama_server() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.address)
        yield running


@pytest.mark.usefixtures("well")
def test_ollama_in_the_whole_report(
    server: OllamaServer, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = report(capsys, "--quick")
    assert status == 0
    assert found["ollama/server"]["text"] == f"Ollama 0.30.12 at {server.address}"
    assert found["ollama/models"]["text"] == f"1 model: {NAME}"
    assert found["ollama/loaded"]["status"] == "note"
    assert {asked.path for asked in server.asked} == {"/api/version", "/api/tags", "/api/ps"}


def test_ollama_with_many_models(server: OllamaServer) -> None:
    tags = [{"name": f"m{number}"} for number in range(7)]
    loaded = [{"name": "m0", "context_length": 32768}, {"name": "m1"}]
    server.standing["/api/tags"] = Reply({"models": tags})
    server.standing["/api/ps"] = Reply({"models": loaded})
    found = named(doctor.ollama())
    assert found["ollama/models"].text == "7 models: m0, m1, m2, m3, m4, 2 more"
    assert found["ollama/loaded"].text == (
        "m0 with a window of 32,768 tokens, m1 with a window it does not tell"
    )


@pytest.mark.parametrize("models", [[], None])
def test_ollama_without_models(server: OllamaServer, models: object) -> None:
    server.standing["/api/tags"] = server.standing["/api/ps"] = Reply({"models": models})
    found = named(doctor.ollama())
    assert found["ollama/server"].status == "ok"
    assert found["ollama/models"].remedy == "`ollama pull qwen3.5:2b`"


@pytest.mark.parametrize(
    ("path", "reply", "told"),
    [
        ("/api/version", Reply("<html>It works!</html>"), "HTTP 200 and a page of HTML"),
        ("/api/version", Reply("<html>No</html>", status=404), "HTTP 404 and a page of HTML"),
        ("/api/version", Reply({"hello": "world"}), "answers, but not as Ollama does"),
        ("/api/tags", Reply({"models": ["m"]}), "answers, but not as Ollama does"),
        ("/api/tags", Reply({"error": "busy"}, status=503), "HTTP 503: busy"),
        ("/api/ps", Reply({"models": [3]}), "answers, but not as Ollama does"),
        ("/api/ps", Reply({"models": []}, cut=True), "broke off the call"),
    ],
)
def test_broken_server(server: OllamaServer, path: str, reply: Reply, told: str) -> None:
    server.standing[path] = reply
    (finding,) = doctor.ollama()
    assert (finding.name, finding.status) == ("ollama/server", "problem")
    assert finding.text.startswith(f"no Ollama at {server.address}: ")
    assert told in finding.text


def test_silent_server(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SECONDS", 0.1)
    server.standing["/api/version"] = Reply({}, delay=60)
    assert doctor.ollama()[0].text.endswith("sent nothing for 0.1 s")


@pytest.mark.parametrize("installed", [True, False])
def test_no_server(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if installed else None)
    (finding,) = doctor.ollama()
    assert finding.text == "no server answers at http://127.0.0.1:9"
    assert finding.remedy.startswith("install it") is not installed
    assert "`ollama serve`" in finding.remedy


def test_address_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://user:secret@here:80")
    (finding,) = doctor.ollama()
    assert finding.text == "OLLAMA_HOST is not usable"
    assert "set OLLAMA_HOST to HOST:PORT" in finding.remedy
    assert "secret" not in finding.remedy


@pytest.mark.usefixtures("well")
def test_escape_codes_of_a_server_are_not_passed_on(
    server: OllamaServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.standing["/api/tags"] = Reply({"models": [{"name": "\x1b[31mred\nline"}]})
    assert main(["doctor", "--quick"]) == 0
    assert "1 model: ⟨U+001B⟩[31mred line" in capsys.readouterr().out


# The extras


def test_extras_are_those_of_the_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "rlm_bench-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: rlm-bench\nVersion: 9.9\n"
        "Requires-Dist: httpx<1,>=0.27\n"
        "Provides-Extra: bench\nRequires-Dist: pytest[all]>=8.3 ; extra == 'bench'\n"
        "Provides-Extra: dev\nRequires-Dist: no-such-thing; extra == 'dev'\n"
        'Provides-Extra: pdf\nRequires-Dist: no-such-thing>=5; extra == "pdf"\n'
        "Provides-Extra: new\nRequires-Dist: pytest>=999; extra == 'new'\n"
        "Provides-Extra: win\n"
        "Requires-Dist: no-such-thing; (sys_platform == 'win32') and extra == 'win'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = named(doctor.extras())
    assert sorted(found) == ["extras/bench", "extras/new", "extras/pdf", "extras/win"]
    assert found["extras/bench"].text == "installed, to run and report the benchmark"
    assert found["extras/win"].text == "installed"
    assert found["extras/pdf"] == Finding(
        "extras/pdf",
        "missing",
        "needs no-such-thing to read PDF files",
        "`pip install 'rlm-bench[pdf]'`",
    )
    assert found["extras/new"].text == f"needs pytest >= 999 (here: {metadata.version('pytest')})"
    assert doctor.is_ready(found.values())


@pytest.mark.parametrize(
    ("installed", "least", "enough"),
    [
        ("2.13.0+cpu", "2.9", True),
        ("5.0rc1", "5", True),
        ("4.57.1", "4.57.2", False),
        ("9", "9.0.0", True),
    ],
)
def test_versions_compare_as_numbers(installed: str, least: str, enough: bool) -> None:
    assert (doctor._numbers(installed) >= doctor._numbers(least)) is enough
