"""What training writes, it can read back; what a format cannot hold is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlm.clients import needs_engine
from tests.servers.tiny_gguf import write_tiny_gguf
from training import restore
from training.export import export_gguf, export_lora
from training.restore import hf_folder

LORA = {
    "peft_type": "LORA",
    "bias": "none",
    "r": 2,
    "lora_alpha": 4,
    "use_rslora": False,
    "use_dora": False,
}
TENSOR = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize("spec", ["embedded", "embedded/base", "embedded/sft"])
def test_shipped_files_come_back_byte_for_byte(spec: str, tmp_path: Path) -> None:
    """Guards both directions at once: weights, sizes, tokens, merges, template and end token."""
    shipped = needs_engine(spec)
    assert shipped is not None
    folder = hf_folder(shipped, tmp_path / "folder")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    again = tmp_path / "again.gguf"
    export_gguf(again, model.state_dict(), model.config, tokenizer, name=shipped.stem)
    assert again.read_bytes() == shipped.read_bytes()


def test_other_files_are_not_restored(tmp_path: Path) -> None:
    other = write_tiny_gguf(tmp_path / "tiny.gguf", template=None)
    with pytest.raises(
        ValueError, match="a qwen3 with the split rule qwen2 in F32; only a qwen3 w"
    ):
        hf_folder(other, tmp_path / "out")


@pytest.mark.parametrize("content", [None, "no GGUF"])
def test_a_file_that_cannot_be_restored_is_named(
    content: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "given.gguf"
    if content:
        file.write_text(content)
    monkeypatch.setattr("sys.argv", ["restore", str(file), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="2"):
        restore.main()
    assert f"{file} cannot be restored: " in capsys.readouterr().err


def write_adapter(folder: Path, tensor: str = TENSOR, **settings: object) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(LORA | settings), encoding="utf-8")
    save_file({tensor: torch.zeros(2, 4)}, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 8}},
        {"alpha_pattern": {"q_proj": 8}},
        {"modules_to_save": ["lm_head"]},
        {"bias": "all"},
        {"peft_type": "IA3"},
    ],
)
def test_adapter_that_gguf_cannot_hold_is_refused(
    settings: dict[str, object], tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "lora", **settings)
    with pytest.raises(ValueError, match=f"lora cannot become .*{next(iter(settings))} = .*merge"):
        export_lora(tmp_path / "out.gguf", folder, name="x")
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize(
    "tensor",
    [
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.lm_head.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.qkv.lora_A.weight",
    ],
)
def test_tensor_without_a_place_is_refused(tensor: str, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "lora", tensor)
    with pytest.raises(ValueError, match=f"no place for the tensor {tensor}"):
        export_lora(tmp_path / "out.gguf", folder, name="x")
