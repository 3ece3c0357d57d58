"""Qwen2.5 and Qwen3 as they are published, merged and exported; llama.cpp is the judge."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen3Config

from rlm import Message, Options, connect
from rlm.bench.tasks.stream import Stream
from rlm.clients.llamacpp import CHATML_TEMPLATE, LlamaCppClient, start_engine
from tests.training.tiny_folder import write_adapter
from tests.training.tiny_qwen import (
    KINDS,
    ROWS,
    SPECIAL,
    TEMPLATE,
    WRITTEN,
    qwen_tokenizer,
    write_qwen,
)
from training import merge
from training.export import export_gguf, misfits
from training.modelfile import modelfile
from training.pretrain.pages import Level, make_page
from training.vocabulary import Speech, split_rule, tokenizer_misfits

pytestmark = pytest.mark.filterwarnings(  # PEFT asks transformers 5 for it
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
TEXTS = (
    "The secret passcode is 48213, and 1234567 is 12,345.678 or 0x1F.",
    "def f(x):\n    return [x[i]\tfor i in range(10)]\n\n\n\n# it's WE'LL don't\r\n\r\n",
    "\u00dcn\u00efc\u00f6d\u00e9 \u6771\u4eac \u0968\u0969 \U0001f388\U0001f389 \u00a0nbsp \u200b.",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|><tool_call>{}</tool_call>  ",
)
TALKS = [[Message("system", "Be brief."), Message("user", text)] for text in TEXTS]
SHORT = Options(max_tokens=16)


@dataclass(frozen=True, slots=True)
class Merged:
    """A folder, a random adapter of it, and what the two became."""

    base: Path
    adapter: Path
    out: Path
    engine: LlamaCppClient


@pytest.fixture(scope="module", params=KINDS)
def merged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Merged]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("qwen")
    texts = [make_page(Stream("test", n), 1500, 5, Level()).text for n in range(100)]
    base = write_qwen(request.param, [*texts, *TEXTS], folder / "base")
    adapter, _ = write_adapter(base, folder / "lora")
    merge.main([str(base), str(adapter), str(folder / "out"), "--onto", "original"])
    with (
        start_engine(folder / "out" / merge.MERGED, n_ctx=512) as engine,
        closing(LlamaCppClient(engine.address, spec="gguf/merged")) as client,
    ):
        yield Merged(base, adapter, folder / "out", client)


def greedy(folder: str) -> list[tuple[int, ...] | None]:
    with closing(connect(f"hf/{folder}", num_ctx=512)) as client:
        return [client.chat(talk, options=SHORT).completion_ids for talk in TALKS]


def engine_greedy(client: LlamaCppClient) -> list[tuple[int, ...] | None]:
    """By token ids, as the embedded models are asked; the file's own template is tested below."""
    return [client._chat_ids(talk, SHORT, []).completion_ids for talk in TALKS]


def engine_ids(client: LlamaCppClient, text: str, *, special: bool = True) -> list[int]:
    body = {"content": text, "add_special": True, "parse_special": special}
    ids: list[int] = client._http.post("/tokenize", body)["tokens"]
    return ids


@pytest.mark.parametrize("text", [*TEXTS, *SPECIAL, WRITTEN, "", " ", "\n"])
def test_ids_equal_the_engines(text: str, merged: Merged) -> None:
    """The engine is asked for its opening tokens too: there are none."""
    tokenizer = AutoTokenizer.from_pretrained(merged.out)
    assert engine_ids(merged.engine, text) == tokenizer(text)["input_ids"]


def test_documents_have_no_power_in_either(merged: Merged) -> None:
    with closing(connect(f"hf/{merged.out}", num_ctx=512)) as folder:
        for talk in TALKS:
            assert folder.prompt_ids(talk) == merged.engine.prompt_ids(talk)


def test_engine_does_not_normalise(merged: Merged) -> None:
    """What docs/training.md says of NFC; if it fails, llama.cpp has learned it."""
    text = unicodedata.normalize("NFD", "d\u00e9j\u00e0")
    tokenizer = AutoTokenizer.from_pretrained(merged.out)
    assert tokenizer(text)["input_ids"] == engine_ids(merged.engine, "d\u00e9j\u00e0")
    assert tokenizer(text)["input_ids"] != engine_ids(merged.engine, text)


def test_engine_writes_the_folders_tokens(merged: Merged) -> None:
    ours = greedy(str(merged.out))
    assert ours == engine_greedy(merged.engine)
    assert ours != greedy(str(merged.base))


def test_engine_fills_in_the_folders_template(merged: Merged) -> None:
    """Without a system message too, where this template adds its own."""
    with (
        closing(connect(f"gguf/{merged.out}/merged.gguf", num_ctx=512)) as engine,
        closing(connect(f"hf/{merged.out}", num_ctx=512)) as folder,
    ):
        for talk in (*TALKS[:3], TALKS[0][1:]):
            asked = engine.chat(talk, options=SHORT).usage
            assert asked.prompt_tokens == len(folder.prompt_ids(talk))
        assert len(folder.prompt_ids(TALKS[0][1:])) > len(merged.engine.prompt_ids(TALKS[0][1:]))


def test_adapter_alone_writes_the_same(merged: Merged, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(merged.base)
    tokenizer = AutoTokenizer.from_pretrained(merged.base).backend_tokenizer
    file, lora = tmp_path / "base.gguf", merged.out / merge.LORA
    export_gguf(file, model.state_dict(), model.config, tokenizer, name="base")
    with (
        start_engine(file, adapter=lora, n_ctx=512) as engine,
        closing(LlamaCppClient(engine.address, spec="gguf/base+adapter")) as client,
    ):
        assert engine_greedy(client) == greedy(f"{merged.base}+{merged.adapter}")


def test_logits_equal_the_engines(merged: Merged) -> None:
    """The log probabilities of the twenty likeliest, to 0.001."""
    model = AutoModelForCausalLM.from_pretrained(merged.out).eval()
    for text in TEXTS:
        ids = engine_ids(merged.engine, text)
        body = {"prompt": ids, "n_predict": 1, "n_probs": 20, "temperature": 0.0}
        answer = merged.engine._http.post(
            "/completion", {**body, "cache_prompt": False, "stream": False}
        )
        theirs = answer["completion_probabilities"][0]["top_logprobs"]
        assert len(theirs) == 20
        with torch.no_grad():
            ours = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        for token in theirs:
            assert token["logprob"] == pytest.approx(ours[token["id"]].item(), abs=1e-3)


def told(file: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}


def test_file_says_what_the_folder_says(merged: Merged) -> None:
    found = told(merged.out / "merged.gguf")
    tokenizer = AutoTokenizer.from_pretrained(merged.base)
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    kinds = gguf.TokenType
    assert found["tokenizer.ggml.pre"] == "qwen2"
    assert found["tokenizer.ggml.eos_token_id"] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert found["tokenizer.ggml.padding_token_id"] == tokenizer.pad_token_id
    assert found["tokenizer.ggml.add_bos_token"] is False
    assert "tokenizer.ggml.bos_token_id" not in found  # Qwen's tokenizers have none
    assert "general.license" not in found
    assert found["tokenizer.chat_template"] == TEMPLATE
    assert {types[tokens.index(token)] for token in SPECIAL} == {kinds.CONTROL}
    assert types[tokens.index(WRITTEN)] == kinds.USER_DEFINED
    assert len(tokens) == len(types) == ROWS > len(tokenizer)
    assert tokens[len(tokenizer) :] == [f"[PAD{row}]" for row in range(len(tokenizer), ROWS)]
    assert set(types[len(tokenizer) :]) == {kinds.UNUSED}
    assert types.count(kinds.UNUSED) == ROWS - len(tokenizer)


def test_modelfile_asks_for_the_templates_system_message(merged: Merged) -> None:
    text = (merged.out / "Modelfile").read_text()
    assert text.count('"""\nSYSTEM """You are tiny."""\nPARAMETER num_ctx 1024\n') == 1


@pytest.mark.parametrize(
    "template",
    [
        None,
        "{{ messages[0]['content'] }}",
        "{{ raise_exception('no system message') }}",
        CHATML_TEMPLATE + "<think></think>",
        "Listen! " + CHATML_TEMPLATE,
    ],
)
def test_template_that_is_not_chatml_gets_no_modelfile(template: str | None) -> None:
    tokenizer = qwen_tokenizer(list(TEXTS))
    tokenizer.chat_template = CHATML_TEMPLATE
    text = modelfile("x.gguf", tokenizer, 99)
    assert text is not None
    assert "SYSTEM" not in text
    tokenizer.chat_template = template
    assert modelfile("x.gguf", tokenizer, 99) is None


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = write_qwen(KINDS[0], list(TEXTS), tmp_path_factory.mktemp("qwen") / "base")
    return AutoTokenizer.from_pretrained(folder).backend_tokenizer


def changed(tokenizer: Tokenizer, **parts: Any) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(json.loads(tokenizer.to_str()) | parts))


def test_split_rule_is_compared_to_the_letter(tokenizer: Tokenizer) -> None:
    assert (split_rule(tokenizer), tokenizer_misfits(tokenizer)) == ("qwen2", [])
    rule = json.loads(tokenizer.to_str())["pre_tokenizer"]
    pattern = rule["pretokenizers"][0]["pattern"]
    pattern["Regex"] = pattern["Regex"].replace(r"\p{N}|", r"\p{N}{1,2}|")
    other = changed(tokenizer, pre_tokenizer=rule)
    assert (split_rule(other), tokenizer_misfits(other)) == (None, ["another split rule"])


def test_what_llama_cpp_would_do_otherwise_is_refused(tokenizer: Tokenizer) -> None:
    written = json.loads(tokenizer.to_str())
    lowered = changed(tokenizer, normalizer={"type": "Lowercase"})
    assert tokenizer_misfits(lowered) == ["another normalizer"]
    greedy_token = [{**token, "rstrip": True} for token in written["added_tokens"]]
    assert tokenizer_misfits(changed(tokenizer, added_tokens=greedy_token)) == [
        "tokens that take spaces or whole words"
    ]
    whole = {**written["model"], "ignore_merges": True}
    assert tokenizer_misfits(changed(tokenizer, model=whole)) == []  # merges reach every token
    whole["merges"] = whole["merges"][:-1]
    assert tokenizer_misfits(changed(tokenizer, model=whole)) == ["tokens that merges do not reach"]
    ends = [
        {"SpecialToken": {"id": SPECIAL[0], "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    number = tokenizer.token_to_id(SPECIAL[0])
    opening = {
        "type": "TemplateProcessing",
        "single": ends,
        "pair": ends,
        "special_tokens": {SPECIAL[0]: {"id": SPECIAL[0], "ids": [number], "tokens": [SPECIAL[0]]}},
    }
    assert tokenizer_misfits(changed(tokenizer, post_processor=opening)) == [
        "tokens that are put around each text"
    ]


@pytest.mark.parametrize(
    ("config", "odd"),
    [
        (Qwen2Config(use_sliding_window=True), "a sliding window"),
        (Qwen2Config(hidden_act="gelu"), "another activation"),
        (Qwen3Config(attention_bias=True), "biases"),
        (
            Qwen2Config(rope_parameters={"rope_type": "linear", "rope_theta": 1e6, "factor": 2.0}),
            "scaled positions",
        ),
    ],
)
def test_models_with_parts_of_their_own_are_refused(
    config: Any, odd: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    assert misfits(config, tokenizer) == [odd]
    with pytest.raises(ValueError, match=rf"x\.gguf cannot hold {odd}"):
        export_gguf(tmp_path / "x.gguf", {}, config, tokenizer, name="x")


def test_more_tokens_than_rows_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot hold \d+ tokens in 9 rows"):
        export_gguf(tmp_path / "x.gguf", {}, Qwen2Config(vocab_size=9), tokenizer, name="x")


def test_a_role_needs_its_token(tokenizer: Tokenizer, tmp_path: Path) -> None:
    speech = Speech(eos="<absent>")
    with pytest.raises(ValueError, match="the tokenizer has no token <absent>"):
        export_gguf(tmp_path / "x.gguf", {}, Qwen2Config(), tokenizer, name="x", speech=speech)
