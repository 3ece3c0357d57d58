"""Merging for real: an adapter that was trained on NF4, and llama.cpp as the judge of the files."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from contextlib import closing
from pathlib import Path

import pytest
import torch
from jinja2 import Environment
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from rlm import Message, Options, connect
from rlm.clients.llamacpp import CHATML_TEMPLATE
from rlm.clients.transformers import adapted
from tests.training.tiny import tiny_samples
from tests.training.tiny_folder import write_adapter, write_tiny
from training import merge
from training.lora import open_base
from training.trainer import Settings, Trainer

pytestmark = pytest.mark.filterwarnings(  # PEFT asks transformers 5 for it
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
TALKS = tuple(
    [Message("system", "Answer briefly."), Message("user", text)]
    for text in ("Where is 12 345?", "Line\n\n\nwith é ☃  ", "<|im_end|>x")
)
IDS = torch.arange(48)[None] * 37


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder and GGUF."""
    torch.set_num_threads(1)
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def adapter(tiny: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the real loop, on NF4."""
    out = tmp_path_factory.mktemp("run")
    settings = Settings(str(tiny[0]), optimizer="muon", lr=0.05, rank=4, epochs=1)
    Trainer(out, settings, tiny_samples()).run()
    return out / "adapter"


@pytest.fixture(scope="module")
def dequantised(
    tiny: tuple[Path, Path], adapter: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("merged") / "deep" / "out"
    merge.main([str(tiny[0]), str(adapter), str(out)])
    return out


def greedy(spec: str) -> list[tuple[int, ...] | None]:
    with closing(connect(spec, num_ctx=512)) as client:
        return [client.chat(t, options=Options(max_tokens=16)).completion_ids for t in TALKS]


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


def test_what_is_trained_on_nf4_is_merged_into_what_nf4_stands_for(
    tiny: tuple[Path, Path], adapter: Path, dequantised: Path
) -> None:
    wanted = logits(adapted(open_base(tiny[0], "nf4"), tiny[0], adapter))
    found = logits(AutoModelForCausalLM.from_pretrained(dequantised))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * wanted.abs().max().item())
    original = logits(adapted(open_base(tiny[0], "none"), tiny[0], adapter))
    bare = logits(open_base(tiny[0], "nf4"))
    assert min((other - wanted).abs().max() for other in (original, bare)) > 0.1


def test_nothing_is_left_in_four_bits(dequantised: Path) -> None:
    config = json.loads((dequantised / "config.json").read_text())
    assert "quantization_config" not in config
    assert (config["dtype"], config["use_cache"]) == ("float32", True)
    weights = load_file(dequantised / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_engine_writes_the_folders_tokens(tiny: tuple[Path, Path], dequantised: Path) -> None:
    ours = greedy(f"hf/{dequantised}")
    assert ours == greedy(f"gguf/{dequantised}/merged.gguf")
    assert ours != greedy(f"hf/{tiny[0]}")


def test_merged_into_the_original_all_forms_write_the_adapters_tokens(
    tiny: tuple[Path, Path], adapter: Path, tmp_path: Path
) -> None:
    facts = merge.merge(tiny[0], adapter, tmp_path / "out", "original")
    ours = greedy(f"hf/{tiny[0]}+{adapter}")
    assert facts["onto"] == "original"
    for spec in (
        f"hf/{tmp_path}/out",
        f"gguf/{tmp_path}/out/merged.gguf",
        f"gguf/{tiny[1]}+{tmp_path}/out/adapter.gguf",
    ):
        assert greedy(spec) == ours


def test_facts_hold_the_hash_of_each_file(
    tiny: tuple[Path, Path], adapter: Path, dequantised: Path
) -> None:
    facts = json.loads((dequantised / merge.FACTS).read_text())
    assert facts["onto"] == "dequantised"
    assert 0 <= facts["difference"] <= merge.BOUND * facts["largest"] < facts["effect"]
    for name, folder in (("model", tiny[0]), ("adapter", adapter), ("out", dequantised)):
        for file, digest in facts[name].items():
            assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest
    assert {file.name for file in dequantised.iterdir()} == {*facts["out"], merge.FACTS}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= facts["model"].keys()
    assert facts["adapter"].keys() == {"adapter_config.json", "adapter_model.safetensors"}
    assert {"merged.gguf", "adapter.gguf", "Modelfile"} <= facts["out"].keys()


def test_other_weights_than_those_trained_on_are_noticed(
    tiny: tuple[Path, Path], adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged into the original, compared with the adapter on NF4: nothing is left behind."""
    monkeypatch.setattr(merge, "_dequantise", lambda *_: None)
    with pytest.raises(merge.MergeError, match=r"differ from the adapter's by up to .*nothing was"):
        merge.merge(tiny[0], adapter, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_difference_that_is_no_number_is_refused() -> None:
    one = torch.ones(2)
    with pytest.raises(merge.MergeError, match="by up to nan"):
        merge._compared(one * torch.nan, one, one)


def as_jinja(template: str) -> str:
    for go, jinja in (
        ("{{ range .Messages }}", "{% for m in messages %}"),
        ("{{ .Role }}", "{{ m.role }}"),
        ("{{ .Content }}", "{{ m.content }}"),
        ("{{ end }}", "{% endfor %}"),
    ):
        assert template.count(go) == 1
        template = template.replace(go, jinja)
    return template


def test_modelfile_renders_what_the_model_was_trained_to_see(dequantised: Path) -> None:
    """A template of Go that trims nothing is a template of Jinja that trims nothing."""
    text = (dequantised / "Modelfile").read_text()
    start, template, end = text.split('"""')
    assert start == "FROM ./merged.gguf\nTEMPLATE "
    assert end == '\nPARAMETER num_ctx 1024\nPARAMETER stop "<|im_end|>"\n'
    talk = [*TALKS[0], Message("assistant", " Here.\n"), Message("user", "And now? ")]
    messages = [{"role": m.role, "content": m.content} for m in talk]
    rendered = Environment(keep_trailing_newline=True).from_string(as_jinja(template))
    tokenizer = AutoTokenizer.from_pretrained(dequantised)
    assert tokenizer.chat_template == CHATML_TEMPLATE
    assert rendered.render(messages=messages) == tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )


def test_for_another_architecture_the_commands_are_told(
    tiny: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=5120, intermediate_size=128, max_position_embeddings=256, **sizes
    )
    model, out = tmp_path / "a model", tmp_path / "out"
    for part in (AutoModelForCausalLM.from_config(config), AutoTokenizer.from_pretrained(tiny[0])):
        part.save_pretrained(model)
    peft, _ = write_adapter(model, tmp_path / "lora")
    merge.main([str(model), str(peft), str(out), "--onto", "original"])
    told = capsys.readouterr().out.splitlines()
    assert told[2].startswith("no GGUF, as training.export cannot write a llama; llama.cpp's")
    assert told[3:5] == [
        f"python llama.cpp/convert_hf_to_gguf.py {out} --outfile {out}/merged.gguf --outtype f32",
        f"python llama.cpp/convert_lora_to_gguf.py {peft} --base '{model}' "
        f"--outfile {out}/adapter.gguf --outtype f32",
    ]
    assert told[5] == f"for Ollama: ollama create out -f {out}/Modelfile"
    assert not list(out.glob("*.gguf"))
    assert (out / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("there", "out is there already: choose another OUT"),
        ("model", "there is no Hugging Face folder"),
        ("adapter", "there is no adapter .*python -m training.sft writes it to adapter/ of its"),
        ("unknown", "there is no .*result.json, which says what was trained on: give --onto"),
        ("weights", "was trained on other weights than those of .*other, on those .* in .*tiny"),
        ("quantised", "other is quantised itself: give the folder that it was made from"),
        ("misfit", "the adapter .*alone does not fit .*other"),
    ],
)
def test_what_cannot_be_merged_says_why(
    case: str,
    message: str,
    tiny: tuple[Path, Path],
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = Path(shutil.copytree(tiny[0], tmp_path / "other"))
    alone = Path(shutil.copytree(adapter, tmp_path / "alone"))
    out, more = tmp_path / "out", list[str]()
    model, peft = tiny[0], adapter
    if case == "there":
        out.mkdir()
    elif case == "model":
        model = tmp_path / "absent"
    elif case == "adapter":
        peft = tmp_path / "absent"
    elif case == "unknown":
        peft = alone
    else:
        model = other
        change(other, case)
    if case == "misfit":
        peft, more = alone, ["--onto", "original"]
    with pytest.raises(SystemExit) as ended:
        merge.main([str(model), str(peft), str(out), *more])
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (out / "config.json").exists()
    assert not out.with_name("out.part").exists()


def change(folder: Path, case: str) -> None:
    """Make the folder one that the case is about."""
    if case == "weights":
        weights = load_file(folder / "model.safetensors")
        weights["model.norm.weight"][3] += 1
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    config = json.loads((folder / "config.json").read_text())
    changes = {"quantised": {"quantization_config": {}}, "misfit": {"num_hidden_layers": 1}}[case]
    config = {**config, **changes}
    config.pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
