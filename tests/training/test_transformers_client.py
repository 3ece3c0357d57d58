"""`hf/` on real models made here, and the same weights behind llama.cpp as the judge."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
)

from rlm import Message, Options, connect
from rlm.bench import records
from rlm.clients import needs_engine
from rlm.clients.base import Client
from rlm.clients.transformers import TransformersClient
from rlm.errors import CallTimeout, ModelNotFound, PromptTooLong, ProtocolError, UsageError
from tests.training.tiny_folder import write_adapter, write_tiny
from training.restore import hf_folder

pytestmark = pytest.mark.filterwarnings(  # PEFT asks transformers 5 for it
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)
TALK = (
    Message("system", "Answer briefly."),
    Message("user", "Where is the user?\n"),
    Message("assistant", "  Here: 12 345 é ☃ \U0001f600"),
    Message("user", "And now?"),
)
ROOT = Path(__file__).parents[2]
GREEDY = Options(max_tokens=24)
Copy = Callable[..., Path]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder and GGUF."""
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def adapter(tiny: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """PEFT folder and GGUF."""
    return write_adapter(tiny[0], tmp_path_factory.mktemp("adapter") / "lora")


@pytest.fixture(scope="module")
def client(tiny: tuple[Path, Path]) -> Iterator[Client]:
    with closing(connect(f"hf/{tiny[0]}", num_ctx=512)) as opened:
        yield opened


@pytest.fixture
def copy(tiny: tuple[Path, Path], tmp_path: Path) -> Copy:
    """A copy of the folder with one JSON file changed."""

    def make(file: str = "config.json", **changes: object) -> Path:
        out = Path(shutil.copytree(tiny[0], tmp_path / "copy"))
        settings = json.loads((out / file).read_text())
        (out / file).write_text(json.dumps(settings | changes))
        return out

    return make


def ids(spec: str, *, options: Options = GREEDY) -> tuple[int, ...] | None:
    with closing(connect(spec, num_ctx=512)) as opened:
        return opened.chat(TALK, options=options).completion_ids


def of_tokens(client: Client, count: int) -> list[Message]:
    """A conversation whose prompt takes exactly `count` tokens (no token joins two snowmen)."""
    assert isinstance(client, TransformersClient)

    def size(text: str) -> int:
        return client.count([Message("user", text)])

    frame, one = size(""), size("☃☃") - size("☃")
    text = "☃" * ((count - frame) // one)
    text += "x" * (count - size(text))
    assert size(text) == count
    return [Message("user", text)]


def test_greedy_tokens_equal_the_engines(client: Client, tiny: tuple[Path, Path]) -> None:
    with closing(connect(f"gguf/{tiny[1]}", num_ctx=512)) as engine:
        for text in (
            "x",
            "Line\n\n\nwith 12345 spaces  ",
            "",
            "<|im_end|>\n<|im_start|>user",
            "\ud800",
        ):
            talk = [*TALK, Message("assistant", text), Message("user", text)]
            ours, theirs = (c.chat(talk, options=GREEDY) for c in (client, engine))
            assert ours.prompt_ids == theirs.prompt_ids
            assert ours.completion_ids == theirs.completion_ids
            assert (ours.text, ours.usage, ours.finish_reason) == (
                theirs.text,
                theirs.usage,
                theirs.finish_reason,
            )


@pytest.mark.parametrize("stabilised", [False, True])
def test_adapter_gives_the_engines_tokens_and_not_the_models(
    tiny: tuple[Path, Path], tmp_path: Path, stabilised: bool
) -> None:
    """Guards the adapter's writer: a tensor in the wrong place, or another scale, would show."""
    peft, gguf = write_adapter(tiny[0], tmp_path / "lora", stabilised=stabilised)
    ours = ids(f"hf/{tiny[0]}+{peft}")
    assert ours == ids(f"gguf/{tiny[1]}+{gguf}")
    assert ours != ids(f"hf/{tiny[0]}")


SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
    "eos_token_id": 2,
    "bos_token_id": None,
    "pad_token_id": 0,
}
DENSE = SIZES | {"intermediate_size": 128, "max_position_embeddings": 256}


@pytest.mark.parametrize(
    ("config", "window"),
    [
        (LlamaConfig(**DENSE), 256),
        (MistralConfig(**DENSE, num_key_value_heads=2, sliding_window=32), 256),
        (GPT2Config(n_positions=256, n_head=4, **SIZES), 256),
        (MambaConfig(**SIZES), 512),  # no length of its own
    ],
    ids=lambda value: value.model_type if isinstance(value, PreTrainedConfig) else "",
)
def test_other_architectures_give_their_own_greedy_tokens(
    config: PreTrainedConfig, window: int, tiny: tuple[Path, Path], tmp_path: Path
) -> None:
    """By hand, without the cache: the likeliest token after all that stand before it."""
    tokenizer = AutoTokenizer.from_pretrained(tiny[0])
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    with closing(connect(f"hf/{tmp_path}", num_ctx=512)) as opened:
        answer = opened.chat(TALK, options=GREEDY)
    assert opened.info().window == window
    assert answer.prompt_ids is not None
    seen = list(answer.prompt_ids)
    while len(seen) < len(answer.prompt_ids) + GREEDY.max_tokens and seen[-1] != 2:
        with torch.inference_mode():
            seen.append(int(model(input_ids=torch.tensor([seen])).logits[0, -1].argmax()))
    assert answer.completion_ids == tuple(seen[len(answer.prompt_ids) :])


def test_completion_says_what_the_model_saw(client: Client) -> None:
    answer = client.chat(TALK, options=Options(max_tokens=7))
    assert answer.prompt_ids is not None
    assert answer.completion_ids is not None
    assert isinstance(client, TransformersClient)
    assert client.prompt_ids(TALK) == answer.prompt_ids
    assert (answer.usage.prompt_tokens, answer.usage.calls) == (client.count(TALK), 1)
    assert answer.usage.completion_tokens == len(answer.completion_ids) == 7
    assert (answer.finish_reason, answer.window, answer.truncated) == ("length", 512, False)
    assert answer.times.wall >= answer.times.prefill + answer.times.decode > 0
    assert answer.times.prefill > 0


def test_digest_is_what_sha256sum_says(
    client: Client, tiny: tuple[Path, Path], adapter: tuple[Path, Path]
) -> None:
    files = sorted(p.name for p in tiny[0].iterdir())
    lines = [f"{hashlib.sha256((tiny[0] / f).read_bytes()).hexdigest()}  {f}\n" for f in files]
    said = hashlib.sha256("".join(lines).encode()).hexdigest()
    info = client.info()
    assert info.digest == f"sha256:{said}"
    assert info.options["dtype"] == "float32"
    with closing(connect(f"hf/{tiny[0]}+{adapter[0]}")) as adapted:
        assert adapted.info().digest != info.digest
        assert adapted.info().window == 1024  # the model's own, which is less than the default


def test_digest_counts_what_decides_answers_only(copy: Copy) -> None:
    def digest() -> str:
        with closing(connect(f"hf/{folder}")) as opened:
            return opened.info().digest

    folder = copy()
    first = digest()
    (folder / "trainer_state.json").write_text("{}")
    (folder / "README.md").write_text("A model.")
    (folder / "pytorch_model_fsdp_0").mkdir()
    assert digest() == first
    (folder / "merges.txt").write_text("")
    assert digest() != first


def test_sampling_follows_the_seed_and_leaves_the_callers_alone(client: Client) -> None:
    def draw(seed: int) -> tuple[int, ...] | None:
        options = Options(max_tokens=16, temperature=1.0, seed=seed)
        return client.chat(TALK, options=options).completion_ids

    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = draw(1)
    assert torch.equal(torch.get_rng_state(), state)
    assert draw(1) == first
    assert draw(2) != first


def test_greedy_output_is_the_same_in_a_crowd(client: Client) -> None:
    talks = [[Message("user", f"tell {number}")] for number in range(4)]
    alone = [client.chat(talk, options=GREEDY).completion_ids for talk in talks]
    with ThreadPoolExecutor(4) as pool:
        crowd = list(pool.map(lambda talk: client.chat(talk, options=GREEDY), talks))
    assert [answer.completion_ids for answer in crowd] == alone
    assert max(answer.times.queue for answer in crowd) > min(a.times.decode for a in crowd)


def test_prompt_must_leave_room(client: Client) -> None:
    with pytest.raises(PromptTooLong, match="of 512 tokens leaves no room") as caught:
        client.chat(of_tokens(client, 512), options=Options())
    assert (caught.value.prompt_tokens, caught.value.window) == (512, 512)
    answer = client.chat(of_tokens(client, 511), options=Options(max_tokens=9))
    assert (answer.usage.completion_tokens, answer.finish_reason) == (1, "length")
    with pytest.raises(PromptTooLong, match="a lower bound, not counted"):
        client.chat([Message("user", "x" * 512 * 129)], options=Options())


def test_call_ends_with_its_seconds(client: Client) -> None:
    with pytest.raises(CallTimeout, match=r"within 0\.001 s"):
        client.chat(TALK, options=Options(max_tokens=400, seconds=0.001))
    assert client.chat(TALK, options=Options(max_tokens=3, seconds=60.0)).text is not None


@pytest.mark.parametrize("seconds", [0.0, -0.5])
def test_call_whose_seconds_are_over_is_late(client: Client, seconds: float) -> None:
    with pytest.raises(CallTimeout, match="gave no answer within"):
        client.chat(TALK, options=Options(max_tokens=400, seconds=seconds))


def test_a_prompt_is_not_read_once_its_seconds_are_over(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making its tokens, and waiting for the lock, count too."""
    assert isinstance(client, TransformersClient)
    render, read = client.prompt_ids, []

    def slowly(messages: Sequence[Message]) -> tuple[int, ...]:
        time.sleep(0.1)
        return render(messages)

    monkeypatch.setattr(client, "prompt_ids", slowly)
    monkeypatch.setattr(client._model, "generate", lambda **given: read.append(given))
    with pytest.raises(CallTimeout, match=r"within 0\.05 s"):
        client.chat(TALK, options=Options(seconds=0.05))
    assert read == []


def test_thinking_that_the_template_opened_is_no_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(client, TransformersClient)
    monkeypatch.setattr(client._tokenizer, "decode", lambda *_, **__: "5, then 6.</think>\n\n6")
    assert client.chat(TALK, options=Options(max_tokens=2)).text == "6"


def test_waiting_for_another_call_counts_as_seconds(client: Client) -> None:
    assert isinstance(client, TransformersClient)
    with client._lock, pytest.raises(CallTimeout):
        client.chat(TALK, options=Options(seconds=0.05))


def test_memory_that_a_cpu_lacks_is_told_with_its_remedy(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch's own allocator: 2**60 bytes are more than any address space holds."""
    assert isinstance(client, TransformersClient)
    monkeypatch.setattr(
        client._model, "generate", lambda **_: torch.empty(2**60, dtype=torch.uint8, device="cpu")
    )
    with pytest.raises(ProtocolError, match=r"no memory for a prompt of \d+ tokens: take a small"):
        client.chat(TALK, options=GREEDY)
    monkeypatch.setattr(client._model, "generate", lambda **_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        client.chat(TALK, options=GREEDY)


def test_any_end_token_of_the_folder_ends_an_answer(client: Client, copy: Copy) -> None:
    plain = client.chat(TALK, options=GREEDY).completion_ids
    assert plain is not None
    end = plain[5]
    folder = copy("generation_config.json", eos_token_id=[4000, end])
    with closing(connect(f"hf/{folder}", num_ctx=512)) as other:
        answer = other.chat(TALK, options=GREEDY)
    assert answer.completion_ids == plain[: plain.index(end) + 1]
    assert answer.finish_reason == "stop"


def test_folders_sampling_settings_do_not_count(client: Client, copy: Copy) -> None:
    """Guards greedy: Qwen's folders ask for a repetition penalty, which transformers would add."""
    settings = {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "top_k": 1, "do_sample": True}
    spec = f"hf/{copy('generation_config.json', **settings)}"
    drawn = Options(max_tokens=24, temperature=1.0, seed=4)
    for options in (GREEDY, drawn):
        assert ids(spec, options=options) == client.chat(TALK, options=options).completion_ids


def test_thinking_is_off(copy: Copy) -> None:
    folder = copy()
    template = (folder / "chat_template.jinja").read_text()
    switch = "{% if enable_thinking is defined and not enable_thinking %}QUIET{% endif %}"
    (folder / "chat_template.jinja").write_text(template + switch)
    with closing(connect(f"hf/{folder}")) as quiet:
        assert isinstance(quiet, TransformersClient)
        seen = quiet.chat(TALK, options=Options(max_tokens=1)).prompt_ids
        assert quiet._tokenizer.decode(seen).endswith("QUIET")


def test_template_that_refuses_is_no_crash(copy: Copy) -> None:
    folder = copy()
    refusal = "{{ raise_exception('System role not supported') }}"
    (folder / "chat_template.jinja").write_text(refusal)
    with (
        closing(connect(f"hf/{folder}")) as strict,
        pytest.raises(ProtocolError, match=r"copy refuses .*\(system, user, .*role not supported"),
    ):
        strict.chat(TALK, options=GREEDY)


def test_folder_without_a_template_is_told(copy: Copy) -> None:
    folder = copy()
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match=r"copy has no chat template.*-Instruct"):
        connect(f"hf/{folder}")


def test_folder_without_an_end_is_told(copy: Copy) -> None:
    folder = copy("generation_config.json", eos_token_id=None)
    for file in ("config.json", "tokenizer_config.json"):
        settings = json.loads((folder / file).read_text())
        settings = {k: v for k, v in settings.items() if not k.startswith("eos_token")}
        (folder / file).write_text(json.dumps(settings))
    with pytest.raises(ModelNotFound, match="names no token that ends an answer"):
        connect(f"hf/{folder}")


def test_weight_that_is_not_there_is_told(copy: Copy) -> None:
    """Guards against transformers' own way: it fills in random numbers and logs a warning."""
    folder = copy()
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelNotFound, match=r"not hold all .*such as model\.layers\.1\.mlp\.up_proj"
    ):
        connect(f"hf/{folder}")


def test_folder_that_cannot_be_read_is_told(copy: Copy) -> None:
    folder = copy()
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelNotFound, match=r"transformers cannot load .*copy: "):
        connect(f"hf/{folder}")


@pytest.mark.parametrize("other", [{"width": 96}, {"layers": 1}, {"layers": 3}])
def test_adapter_of_another_model_is_told(
    tiny: tuple[Path, Path], tmp_path: Path, other: dict[str, int]
) -> None:
    stranger, _ = write_tiny(tmp_path, **other)
    peft, _ = write_adapter(stranger, tmp_path / "lora")
    with pytest.raises(
        ModelNotFound, match=r"the adapter .*lora does not fit .*tiny; take the mod"
    ):
        connect(f"hf/{tiny[0]}+{peft}")


def test_closed_client_says_so(tiny: tuple[Path, Path]) -> None:
    opened = connect(f"hf/{tiny[0]}")
    opened.close()
    opened.close()
    with pytest.raises(ProtocolError, match="is closed: connect again"):
        opened.chat(TALK, options=GREEDY)


def test_no_hub_is_asked(
    tiny: tuple[Path, Path],
    adapter: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even about the model that the adapter names as its own, as PEFT would."""
    peft = Path(shutil.copytree(adapter[0], tmp_path / "lora"))
    settings = json.loads((peft / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "Qwen/Qwen3-0.6B"
    (peft / "adapter_config.json").write_text(json.dumps(settings))
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **_: asked.append(a))
    monkeypatch.setattr(socket.socket, "connect", lambda _, a: asked.append(a))
    assert ids(f"hf/{tiny[0]}+{peft}") == ids(f"hf/{tiny[0]}+{adapter[0]}")
    assert asked == []


def test_no_code_is_fetched_and_nothing_is_printed(
    tiny: tuple[Path, Path], adapter: tuple[Path, Path], tmp_path: Path
) -> None:
    """Guards against bitsandbytes, which loads kernels from a hub on some processors."""
    fetch = "def get_kernel(*_, **__):\n    print('fetched')\n"
    (tmp_path / "kernels.py").write_text(fetch, encoding="utf-8")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"from rlm.clients import connect; connect('hf/{tiny[0]}+{adapter[0]}')\n"
        "import kernels, bitsandbytes"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_cells_give_the_embedded_models_predictions(tmp_path: Path) -> None:
    """The shipped file as a folder: another engine, the same answers."""
    shipped = needs_engine("embedded")
    assert shipped is not None
    folder = hf_folder(shipped, tmp_path / "embedded")
    said = {}
    for name, spec, *more in (("hf", f"hf/{folder}", "-nauto"), ("gguf", "embedded")):
        command = [sys.executable, "-m", "pytest", "benchmarks", "-pno:cacheprovider", *more]
        cells = ["--rlm-tasks=niah", "--rlm-lengths=1k", "--rlm-samples=1", "--rlm-prompt=compact"]
        window = ["--rlm-num-ctx=4096", f"--rlm-model={spec}", f"--rlm-run={tmp_path / name}"]
        done = subprocess.run(
            [*command, *cells, *window], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not more or "created: 1/1 worker" in done.stdout  # one copy of the weights
        said[name] = {
            (r.depth, r.architecture): (r.verdict, r.prediction, r.usage.prompt_tokens)
            for r in records.load(tmp_path / name)
        }
    assert len(said["hf"]) == 6
    assert said["hf"] == said["gguf"]
