"""What this machine offers, and the remedy for each thing it lacks: the findings of ``rlm doctor``.

At its top it imports the standard library only, so that it can still say what is wrong when files
of another distribution lie over this package.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, ParamSpec

if TYPE_CHECKING:
    from rlm.clients.ollama import Survey

Status = Literal["ok", "note", "missing", "problem"]
P = ParamSpec("P")

DISTRIBUTION: Final = "rlm-bench"
NEEDED: Final = ("sandbox/default", "embedded/engine", "embedded/model", "embedded/call")
OLLAMA_MODEL: Final = "qwen3.5:2b"
SECONDS: Final = 2.0  # an Ollama that is well answers these questions in milliseconds
_PURPOSES: Final = {
    "bench": "to run and report the benchmark",
    "training": "to train and compare adapters, and for models of hf/",
    "monty": "for a sandbox that needs no Linux",
    "docs": "to build the site",
    "pdf": "to read PDF files",
    "html": "to read web pages",
    "trl": "to check the training against TRL",
}
_SHOWN_NAMES: Final = 5
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: ``group/thing``, such as ``sandbox/bwrap``; no two findings share one.
        status: ``note`` is neither good nor bad; what is ``missing`` can be added, a ``problem``
            is there and does not work.
        text: what was found.
        remedy: what to do about it; empty where nothing needs to be done.
    """

    name: str
    status: Status
    text: str
    remedy: str = ""


Look = Callable[P, list[Finding]]


def _careful(name: str) -> Callable[[Look[P]], Look[P]]:
    """Never raise: a look that fails is itself a finding, called `name`."""

    def careful(look: Look[P]) -> Look[P]:
        @functools.wraps(look)
        def safely(*args: P.args, **kwargs: P.kwargs) -> list[Finding]:
            try:
                return look(*args, **kwargs)
            except Exception as error:
                text = f"could not be examined: {type(error).__name__}: {error}"
                return [Finding(name, "problem", text, "report this with `rlm doctor --json`")]

        return safely

    return careful


def examine(*, quick: bool = False) -> Iterator[list[Finding]]:
    """Look at everything, one group of findings after the other.

    Args:
        quick: do not start the embedded model.
    """
    yield [*package(), *python(), *clash()]
    yield [*processor(), *gpu()]
    yield sandboxes()
    yield [*engine(), *model_files(), *embedded_call(quick=quick)]
    yield ollama()
    yield extras()


def is_ready(findings: Iterable[Finding]) -> bool:
    """Whether the main job can run: code is confined, and the embedded model answers."""
    return not blockers(findings)


def blockers(findings: Iterable[Finding]) -> list[str]:
    """Names of the findings for which the main job cannot run."""
    return [f.name for f in findings if f.name in NEEDED and f.status in ("missing", "problem")]


@_careful("package/version")
def package() -> list[Finding]:
    """The version of this package, and where it lies."""
    where = Path(__file__).parent
    try:
        text = f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)} in {where}"
    except metadata.PackageNotFoundError:
        text = f"{DISTRIBUTION} is not installed; running from {where}"
        return [Finding("package/version", "missing", text, "`pip install -e .` in the clone")]
    return [Finding("package/version", "ok", text)]


@_careful("package/python")
def python() -> list[Finding]:
    """Interpreter and operating system."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    return [Finding("package/python", "ok", f"{name} on {platform.platform()}")]


@_careful("package/rlms")
def clash() -> list[Finding]:
    """Whether another distribution (``rlms`` does) installs a top-level package ``rlm`` too."""
    others = {name for name in metadata.packages_distributions().get("rlm", ()) if not _own(name)}
    with contextlib.suppress(metadata.PackageNotFoundError):
        others.add(metadata.metadata("rlms")["Name"])
    if not others:
        return [Finding("package/rlms", "ok", "no other distribution has a package `rlm`")]
    names = " ".join(sorted(others))
    return [
        Finding(
            "package/rlms",
            "problem",
            f"{names} installs a package `rlm` as well: one hides or overwrites the other",
            f"`pip uninstall {names}`, then `pip install --force-reinstall --no-deps "
            f"{DISTRIBUTION}` (in a clone: `-e .`); to have both, use two environments",
        )
    ]


def _own(distribution: str) -> bool:
    return re.sub(r"[-_.]+", "-", distribution).lower() == DISTRIBUTION


@_careful("machine/cpu")
def processor() -> list[Finding]:
    """Cores that this process may use, and memory."""
    all_cores = os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else all_cores
    text = f"{cores} of {all_cores} cores usable" if cores != all_cores else _count(cores, "core")
    return [Finding("machine/cpu", "ok", f"{text}, {_memory()}")]


def _memory() -> str:
    """Memory of the machine, and of that what is free, where the system says so."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        found = dict(re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE))
        total, free = (int(found[key]) * 1024 for key in ("MemTotal", "MemAvailable"))
        return f"{total / _GIB:.1f} GiB of memory ({free / _GIB:.1f} available)"
    except (OSError, KeyError):
        pass
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return f"{total / _GIB:.1f} GiB of memory"
    except (AttributeError, OSError, ValueError):  # Windows has no `sysconf`
        return "memory unknown"


@_careful("machine/gpu")
def gpu() -> list[Finding]:
    """Graphics processors; the embedded model needs none."""
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return [Finding("machine/gpu", "note", "Apple Silicon, which Ollama uses")]
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except FileNotFoundError:
        text = "no NVIDIA GPU seen; everything here runs on the CPU"
        return [Finding("machine/gpu", "note", text)]
    except (OSError, subprocess.SubprocessError) as error:
        text = f"nvidia-smi is there but fails: {_first_line(error)}"
        remedy = "repair the driver until `nvidia-smi` works, if the GPU shall be used"
        return [Finding("machine/gpu", "problem", text, remedy)]
    seen = [line.rpartition(",") for line in done.stdout.splitlines() if line.strip()]
    names = [f"{name} ({_gib(mib)})" for name, _, mib in seen]
    return [Finding("machine/gpu", "ok", ", ".join(names) or "nvidia-smi lists no GPU")]


def _first_line(error: Exception) -> str:
    """What the command said, else what happened to it."""
    said = getattr(error, "stdout", None) or getattr(error, "stderr", None)
    return said.strip().partition("\n")[0] if isinstance(said, str) else str(error)


def _gib(mib: str) -> str:
    """MiB as `nvidia-smi` writes them, or its ``[N/A]``: some chips have no memory of their own."""
    return f"{int(mib) / 1024:.0f} GiB" if mib.strip().isdecimal() else "memory not told"


@_careful("sandbox/default")
def sandboxes() -> list[Finding]:
    """Each backend, started once, and which of them runs a model's code by default."""
    from rlm.sandbox import BACKENDS

    tried = [finding for name in BACKENDS for finding in sandbox(name)]
    return [*_default(tried), *tried]


@_careful("sandbox/default")
def _default(tried: Iterable[Finding]) -> list[Finding]:
    """The backend that ``auto`` takes here, judged by how it did."""
    from rlm.errors import RLMError
    from rlm.sandbox import BACKENDS, default_backend

    try:
        name = default_backend()
    except RLMError as error:
        return [Finding("sandbox/default", "missing", "nothing here confines code", str(error))]
    result = next(finding for finding in tried if finding.name == f"sandbox/{name}")
    text = f"{name}, as always on {platform.system()}: {BACKENDS[name]}"
    if result.status == "ok":
        return [Finding("sandbox/default", "ok", text)]
    return [Finding("sandbox/default", "problem", f"{text}; see {name} below", result.remedy)]


def sandbox(name: str) -> list[Finding]:
    """Start one backend, run a cell and read what its self-test measured."""
    if name == "unconfined":
        text = "on request only; code would run with all your rights"
        return [Finding(f"sandbox/{name}", "note", text)]
    return _careful(f"sandbox/{name}")(_try_sandbox)(name)


def _try_sandbox(name: str) -> list[Finding]:
    from rlm.errors import RLMError
    from rlm.sandbox import NoCalls, open_sandbox

    try:
        opened = open_sandbox(name)
        try:
            started = time.monotonic()
            opened.start("A short context.", NoCalls())
            seconds = time.monotonic() - started
            result, isolation = opened.run("print(1)"), opened.isolation
        finally:
            opened.close()
    except RLMError as error:
        return [Finding(f"sandbox/{name}", "missing", "does not start here", str(error))]
    refused = len(isolation.refused)
    parts = [
        "confined" if isolation.confined else "NOT confined",
        " + ".join(isolation.measures),
        f"{_count(refused, 'attempt')} to break out refused" if refused else "",
        f"starts in {_ms(seconds)}",
        isolation.note,
    ]
    text, remedy = "; ".join(filter(None, parts)), ""
    works = result.status == "ok" and result.stdout == "1\n"
    if not works:
        text = f"`print(1)` ended as {result.status!r}: {result.error or result.stdout!r}; {text}"
        remedy = "choose another with --rlm-sandbox, and report this"
    elif not isolation.confined:
        remedy = "choose a backend that confines code"
    status: Status = "ok" if works and isolation.confined else "problem"
    return [Finding(f"sandbox/{name}", status, text, remedy)]


@_careful("embedded/engine")
def engine() -> list[Finding]:
    """The engine of the embedded model."""
    try:
        text = f"xllamacpp {metadata.version('xllamacpp')}"
    except metadata.PackageNotFoundError:
        remedy = (
            "`pip install xllamacpp`; it has wheels for Linux on x86-64 and aarch64, macOS on "
            "Apple Silicon, and Windows"
        )
        return [Finding("embedded/engine", "missing", "xllamacpp is not installed", remedy)]
    return [Finding("embedded/engine", "ok", text)]


def model_files() -> list[Finding]:
    """The model files that come with the package."""
    files = (("model", "embedded"), ("base", "embedded/base"), ("sft", "embedded/sft"))
    return [finding for name, spec in files for finding in _file(f"embedded/{name}", spec)]


def _file(name: str, spec: str) -> list[Finding]:
    return _careful(name)(_try_file)(name, spec)


def _try_file(name: str, spec: str) -> list[Finding]:
    """Compare a model file with the hash that its card states."""
    from rlm.clients import needs_engine
    from rlm.errors import RLMError

    remedy = f"`pip install --force-reinstall --no-deps {DISTRIBUTION}`, or a fresh clone"
    try:
        path = needs_engine(spec)
    except RLMError as error:
        return [Finding(name, "missing", str(error), remedy)]
    assert path is not None
    size = f"{path.name}, {path.stat().st_size / 1e6:.1f} MB"
    card = path.with_suffix(".json")
    if not card.is_file():
        return [Finding(name, "note", f"{size}; {card.name}, which states its hash, is not there")]
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != json.loads(card.read_text(encoding="utf-8"))["sha256"]:
        text = f"{size}, is damaged: its sha256 {digest[:12]} is not the one in {card.name}"
        return [Finding(name, "problem", text, remedy)]
    return [Finding(name, "ok", f"{size}, as its card says")]


@_careful("embedded/call")
def embedded_call(*, quick: bool = False) -> list[Finding]:
    """Start the embedded model and let it write a few tokens."""
    if quick:
        return [Finding("embedded/call", "note", "not tried, as --quick asks")]
    from rlm.clients import connect
    from rlm.errors import RLMError
    from rlm.messages import Message, Options

    try:
        started = time.monotonic()
        client = connect("embedded")
        ready = time.monotonic()
        try:
            hello = Message("user", "What is the capital of France?")
            answer = client.chat([hello], options=Options(max_tokens=8, seconds=60))
        finally:
            client.close()
    except RLMError as error:
        remedy = "`pip install --force-reinstall xllamacpp`, then `rlm doctor` again"
        return [Finding("embedded/call", "problem", str(error), remedy)]
    tokens = _count(answer.usage.prompt_tokens + answer.usage.completion_tokens, "token")
    text = f"starts in {_ms(ready - started)}; a call of {tokens} takes {_ms(answer.times.wall)}"
    return [Finding("embedded/call", "ok", text)]


@_careful("ollama/server")
def ollama() -> list[Finding]:
    """The Ollama server that ``OLLAMA_HOST`` names, and its models."""
    from rlm.clients.ollama import base_url, survey
    from rlm.errors import ClientError, ServerUnreachable, UsageError

    name = "ollama/server"
    try:
        url = base_url(os.environ.get("OLLAMA_HOST", ""))
        return _surveyed(survey(url, seconds=SECONDS))
    except UsageError as error:  # its text names the remedy
        return [Finding(name, "problem", "OLLAMA_HOST is not usable", str(error))]
    except ServerUnreachable:
        get = "" if shutil.which("ollama") else "install it from https://ollama.com, then "
        remedy = f"{get}`ollama serve`, or set OLLAMA_HOST to where it runs"
        return [Finding(name, "missing", f"no server answers at {url}", remedy)]
    except ClientError as error:
        remedy = "see what listens there, or set OLLAMA_HOST to where Ollama runs"
        told = str(error).removeprefix(f"{url} ")
        return [Finding(name, "problem", f"no Ollama at {url}: {told}", remedy)]


def _surveyed(found: Survey) -> list[Finding]:
    server = Finding("ollama/server", "ok", f"Ollama {found.version} at {found.url}")
    if not found.pulled:
        remedy = f"`ollama pull {OLLAMA_MODEL}`"
        return [server, Finding("ollama/models", "missing", "no model was pulled", remedy)]
    more = len(found.pulled) - _SHOWN_NAMES
    names = [*found.pulled[:_SHOWN_NAMES], *([f"{more} more"] if more > 0 else [])]
    text = f"{_count(len(found.pulled), 'model')}: {', '.join(names)}"
    models = Finding("ollama/models", "ok", text)
    loaded = [f"{model} with {_window(window)}" for model, window in found.loaded]
    text = ", ".join(loaded) or "no model is in memory now; the first call loads one"
    return [server, models, Finding("ollama/loaded", "ok" if loaded else "note", text)]


def _window(tokens: int | None) -> str:
    return "a window it does not tell" if tokens is None else f"a window of {tokens:,} tokens"


@_careful("extras/all")
def extras() -> list[Finding]:
    """Each extra but ``dev``, by what the installed distribution says that it needs."""
    try:
        about = metadata.metadata(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        text = f"unknown, since {DISTRIBUTION} is not installed"
        return [Finding("extras/all", "note", text, "`pip install -e .` in the clone")]
    needs = metadata.requires(DISTRIBUTION) or []
    return [_extra(name, needs) for name in about.get_all("Provides-Extra", []) if name != "dev"]


def _extra(extra: str, needs: Iterable[str]) -> Finding:
    purpose = _PURPOSES.get(extra, "")
    lacking = [lack for need in needs if (lack := _lack(need, extra))]
    name = f"extras/{extra}"
    if not lacking:
        return Finding(name, "ok", f"installed, {purpose}".removesuffix(", "))
    text = f"needs {', '.join(lacking)} {purpose}".rstrip()
    return Finding(name, "missing", text, f"`pip install '{DISTRIBUTION}[{extra}]'`")


def _lack(requirement: str, extra: str) -> str:
    """What of one requirement of `extra` is not there: a name, a name with a version, or nothing.

    One with a further condition (another system, another Python) is never lacking.
    """
    what, _, marker = requirement.partition(";")
    if not re.fullmatch(rf"\s*extra\s*==\s*['\"]{re.escape(extra)}['\"]\s*", marker):
        return ""
    name = re.split(r"[^\w.-]", what.strip(), maxsplit=1)[0]
    least = re.search(r">=\s*([\w.]+)", what)
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return name
    if least and _numbers(installed) < _numbers(least[1]):
        return f"{name} >= {least[1]} (here: {installed})"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """``2.13.0+cpu`` as numbers that compare; letters end it, and zeros at its end say nothing."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"
