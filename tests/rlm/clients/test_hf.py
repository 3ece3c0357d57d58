"""`hf/` before torch is needed: what is told without it. The model itself: tests/training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rlm.clients import connect, needs_engine
from rlm.errors import ModelNotFound, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What looks like a model at a glance."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text("{}", encoding="utf-8")
    return path


def test_folder_that_is_not_there_is_told_with_a_download(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"folder .*/none does not exist; .*hf download"):
        connect(f"hf/{tmp_path}/none")
    with pytest.raises(ModelNotFound, match=r"holds no config\.json; .*hf download"):
        connect(f"hf/{tmp_path}")


def test_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_text("GGUF", encoding="utf-8")
    with pytest.raises(ModelNotFound, match="a GGUF is gguf/PATH"):
        connect(f"hf/{file}")


def test_adapter_that_is_none_is_told(folder: Path, tmp_path: Path) -> None:
    for adapter in (tmp_path / "none", folder):
        with pytest.raises(ModelNotFound, match=r"no adapter in .*adapter_config\.json"):
            connect(f"hf/{folder}+{adapter}")


def test_adapter_alone_is_told(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")
    with pytest.raises(ModelNotFound, match=r"model is an adapter alone: .* hf/PATH\+.*/model$"):
        connect(f"hf/{folder}")


def test_folder_may_have_a_plus_in_its_name(folder: Path) -> None:
    """The error about the adapter shows which part was taken for the model."""
    odd = folder.rename(folder.with_name("m+1"))
    with pytest.raises(ModelNotFound, match=r"no adapter in none\+here"):
        connect(f"hf/{odd}+none+here")


@pytest.mark.parametrize("lacking", ["torch", "transformers", "peft"])
def test_missing_extra_is_named(lacking: str, folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    code = (
        f"import sys; sys.modules[{lacking!r}] = None\n"
        f"for name in {{'torch', 'transformers', 'peft'}} - {{{lacking!r}}}:\n"
        "    sys.modules[name] = sys\n"
        "from rlm.clients import connect\n"
        f"connect('hf/{folder}+{folder}')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UsageError" in done.stderr
    assert f"hf/ needs {lacking} " in done.stderr
    assert "pip install 'rlm-bench[training]'" in done.stderr


def test_no_engine_is_needed(folder: Path) -> None:
    assert needs_engine(f"hf/{folder}") is None


def test_folder_alone_is_understood(folder: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'hf/") as caught:
        connect(str(folder))
    assert f"'hf/{folder}'" in str(caught.value)
