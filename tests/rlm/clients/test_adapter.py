"""A LoRA adapter beside a model file: `gguf/PATH+LORA`, `embedded+LORA`."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from rlm import clients
from rlm.clients import connect, open_engine
from rlm.clients.base import ModelInfo
from rlm.clients.llamacpp import CHATML_TEMPLATE
from rlm.errors import ModelNotFound, UsageError
from rlm.messages import Message, Options
from tests.servers.tiny_gguf import write_tiny_gguf, write_tiny_lora

TALK = [Message("user", "Where is the user?")]
PLAIN = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}assistant:"


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_lora(tmp_path_factory.mktemp("lora") / "lora.gguf")


def ask(spec: str) -> tuple[str, ModelInfo]:
    with closing(connect(spec, num_ctx=256)) as client:
        return client.chat(TALK, options=Options(max_tokens=12)).text, client.info()


@pytest.mark.parametrize("template", [CHATML_TEMPLATE, PLAIN])
def test_adapter_changes_answers_and_digest(tmp_path: Path, lora: Path, template: str) -> None:
    """By token ids and by the engine's own template: each names the adapter in every request."""
    model = write_tiny_gguf(tmp_path / "tiny.gguf", template=template)
    other = write_tiny_lora(tmp_path / "other.gguf", seed=2)
    plain, with_lora, with_other = (
        ask(f"gguf/{model}{end}") for end in ("", f"+{lora}", f"+{other}")
    )
    assert len({text for text, _ in (plain, with_lora, with_other)}) == 3
    assert ask(f"gguf/{model}+{lora}") == with_lora
    hashes = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (model, lora)]
    both = hashlib.sha256("".join(f"{each}\n" for each in hashes).encode()).hexdigest()
    assert plain[1].digest == f"sha256:{hashes[0]}"
    assert with_lora[1].digest == f"sha256:{both}"
    assert (plain[1].options.get("lora_scale"), with_lora[1].options["lora_scale"]) == (None, 1.0)


def test_shared_engine_keeps_its_adapter(tiny_gguf: Path, lora: Path) -> None:
    """Guards workers of one session, which get the engine's address as plain data."""
    spec = f"gguf/{tiny_gguf}+{lora}"
    engine = open_engine(spec, num_ctx=256)
    assert engine is not None
    with engine:
        address = type(engine.address).from_dict(engine.address.to_dict())
        with closing(connect(spec, engine=address)) as client:
            text = client.chat(TALK, options=Options(max_tokens=12)).text
    assert text == ask(spec)[0]


@pytest.mark.parametrize("name", ["embedded", "embedded/base"])
def test_embedded_models_take_an_adapter(
    name: str, tmp_path: Path, lora: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("embedded.gguf", "embedded-base.gguf"):
        shutil.copy(tiny_gguf, tmp_path / file)
    monkeypatch.setattr(clients, "_NANO", tmp_path)
    text, info = ask(f"{name}+{lora}")
    assert info.spec == f"{name}+{lora}"
    assert (text, info.digest) == (ask(f"gguf/{tiny_gguf}+{lora}")[0], info.digest)
    assert text != ask(name)[0]


def test_path_with_a_plus_is_a_path(tmp_path: Path, tiny_gguf: Path, lora: Path) -> None:
    folder = tmp_path / "a+b"
    folder.mkdir()
    model = Path(shutil.copy(tiny_gguf, folder / "m+1.gguf"))
    adapter = Path(shutil.copy(lora, folder / "l+2.gguf"))
    assert ask(f"gguf/{model}")[0] == ask(f"gguf/{tiny_gguf}")[0]
    assert ask(f"gguf/{model}+{adapter}")[0] == ask(f"gguf/{tiny_gguf}+{lora}")[0]


def of_another_width(path: Path) -> Path:
    return write_tiny_lora(path, width=32)


def a_model(path: Path) -> Path:
    return write_tiny_gguf(path, template=None)


def no_gguf(path: Path) -> Path:
    path.write_text("weights", encoding="utf-8")
    return path


def nothing(path: Path) -> Path:
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            of_another_width,
            r"cannot load the adapter .*odd\.gguf on .*tiny\.gguf: .*wrong base mod",
        ),
        (a_model, r"cannot load the adapter .*odd\.gguf on .*tiny\.gguf: .*'adapter'"),
        (no_gguf, r"cannot load the adapter .*odd\.gguf on .*tiny\.gguf: invalid magic"),
        (nothing, r"there is no adapter file .*odd\.gguf"),
    ],
)
def test_adapter_that_is_none_is_told(
    make: Callable[[Path], Path], reason: str, tmp_path: Path, tiny_gguf: Path
) -> None:
    odd = make(tmp_path / "odd.gguf")
    with pytest.raises(ModelNotFound, match=reason) as caught:
        connect(f"gguf/{tiny_gguf}+{odd}")
    assert "LoRA of this very model as GGUF" in str(caught.value)


@pytest.mark.parametrize("name", ["none.gguf", "none.gguf+lora.gguf", "none.gguf+"])
def test_model_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model file .*none\.gguf"):
        connect(f"gguf/{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("embedded+", "embedded+LORA.gguf"),
        ("embedded/bse+a/l.gguf", "embedded/base+a/l.gguf"),
        ("embeded+l.gguf", "embedded+l.gguf"),
        ("gguf+l.gguf", "gguf/gguf+l.gguf"),
    ],
)
def test_nearest_spec_keeps_the_adapter(spec: str, meant: str) -> None:
    with pytest.raises(UsageError, match="did you mean") as caught:
        connect(spec)
    assert f"did you mean {meant!r}?" in str(caught.value)
