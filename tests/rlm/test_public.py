"""The public face: what it shows, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import rlm
from rlm import errors

HEAVY = ("torch", "pytest", "httpx", "rich", "numpy", "pandas", "xllamacpp", "transformers")


def test_all_is_what_is_public() -> None:
    public = {
        name
        for name in dir(rlm)
        if not name.startswith("_") and not isinstance(getattr(rlm, name), types.ModuleType)
    }
    assert public - {"annotations", "import_module", "TYPE_CHECKING"} == set(rlm.__all__)


def test_what_is_imported_late_is_the_same_object() -> None:
    from rlm.loop import RLM

    assert rlm.RLM is RLM
    with pytest.raises(AttributeError, match="'rlm' has no attribute 'nothing'"):
        rlm.nothing  # noqa: B018


def test_all_has_no_name_twice() -> None:
    assert len(set(rlm.__all__)) == len(rlm.__all__)


def test_every_error_is_public() -> None:
    tree = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert tree <= set(rlm.__all__)


@pytest.mark.parametrize("name", rlm.__all__)
def test_public_name_is_documented(name: str) -> None:
    assert getattr(rlm, name).__doc__


def test_import_is_light() -> None:
    code = f"import sys, rlm; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
