"""Guards the map: who may import whom. Lower layers never see higher ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rlm"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "messages", "limits", "prompts", "visible"),
    ("clients", "sandbox"),
    (
        *("overflow", "fitting", "trajectory", "events", "policy", "blocks", "history", "subcalls"),
        *("loop", "vanilla", "tree", "controls", "live", "reading"),
    ),
    ("architectures",),
    ("bench",),
    ("bench.plugin", "bench.controller", "bench.terminal", "cli", "ask", "doctor"),
)
"""From the ground up; a module imports from its own layer or from those before it."""

STRANGERS = (("clients", "sandbox"), ("sandbox", "clients"))
"""Rooms of one layer that do not know each other."""


def layer_of(name: str) -> int:
    """Layer of ``rlm.NAME``; the longest matching room counts."""
    best, found = -1, ""
    for index, rooms in enumerate(LAYERS):
        for room in rooms:
            inside = name == room or name.startswith(room + ".")
            if inside and len(room) > len(found):
                best, found = index, room
    return best


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names that a file imports, ``from a import b`` as both ``a`` and ``a.b``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = _executed_at_import(tree) if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _executed_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes outside functions and outside ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _executed_at_import(child)


def roots(path: Path, *, top_level: bool = False) -> set[str]:
    """First parts of what a file imports."""
    return {name.partition(".")[0] for name in imports(path, top_level=top_level)}


def is_module(name: str) -> bool:
    base = PACKAGE.parent / name.replace(".", "/")
    return base.with_suffix(".py").exists() or (base / "__init__.py").exists()


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_down_only(path: Path) -> None:
    name = module_name(path)
    if name == "":  # the public face gathers from every layer
        return
    own = layer_of(name)
    assert own >= 0, f"rlm.{name} stands in no layer: add it to LAYERS"
    for target in imports(path):
        if target.startswith("rlm.") and is_module(target):
            inner = target.removeprefix("rlm.")
            assert layer_of(inner) <= own, f"rlm.{name} imports rlm.{inner}, which stands above it"
            for here, there in STRANGERS:
                assert not (name.startswith(here) and inner.startswith(there)), (name, inner)


def test_only_the_plugin_knows_pytest() -> None:
    knowing = {module_name(p) for p in MODULES if {"pytest", "_pytest", "xdist"} & roots(p)}
    assert knowing == {"bench.plugin", "bench.controller", "bench.terminal"}


def test_only_clients_know_http() -> None:
    knowing = {module_name(p) for p in MODULES if {"httpx", "http", "urllib"} & roots(p)}
    assert knowing
    assert all(name.startswith("clients") for name in knowing)


def test_the_worker_knows_the_standard_library_only() -> None:
    beside = ("lockdown", "caseless", "lazylist")
    for name in ("worker", *beside):
        known = roots(PACKAGE / "sandbox" / f"{name}.py") - {"__future__", *beside}
        assert known <= sys.stdlib_module_names


def test_nothing_in_the_package_knows_training_or_torch() -> None:
    for path in MODULES:
        assert not {"training", "benchmarks"} & roots(path), path
        if module_name(path) != "clients.transformers":
            assert not {"torch", "transformers", "peft"} & roots(path), path


def test_the_plugin_imports_little() -> None:
    """Guards other people's test runs: the plugin is loaded in every pytest of the environment."""
    heavy = ("msgspec", "httpx", "torch", "pandas", "rich", "xllamacpp")
    code = f"import sys, rlm.bench.plugin; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    top = roots(PACKAGE / "bench" / "plugin.py", top_level=True)
    assert top - {"__future__", "pytest", "rlm"} <= sys.stdlib_module_names
