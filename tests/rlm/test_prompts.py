"""Guards the frozen protocol: the embedded model was trained on these exact bytes."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Sequence
from importlib.resources import files

import pytest

from rlm import open_sandbox, prompts

NANO = files("rlm") / "models" / "nano"
CARDS = sorted(p.name for p in NANO.iterdir() if p.name.endswith(".json"))


@pytest.mark.parametrize("card", CARDS)
def test_the_protocol_is_the_one_the_model_was_trained_on(card: str) -> None:
    facts = json.loads((NANO / card).read_text(encoding="utf-8"))
    assert facts["protocol"] == {"version": prompts.VERSION, "sha256": prompts.version_sha256()}


@pytest.mark.parametrize("card", CARDS)
def test_the_model_is_the_one_its_card_describes(card: str) -> None:
    facts = json.loads((NANO / card).read_text(encoding="utf-8"))
    digest = hashlib.sha256((NANO / facts["file"]).read_bytes()).hexdigest()
    assert digest == facts["sha256"]


def test_a_model_is_shipped() -> None:
    assert "embedded.json" in CARDS


def test_braces_in_values_are_left_alone() -> None:
    assert prompts.say("calls", "batch_slot", reason="{x} {{y}}") == "Error: {x} {{y}}"


def test_a_missing_value_is_an_error_not_a_hole() -> None:
    with pytest.raises(KeyError):
        prompts.say("feedback", "output", length=3)


@pytest.mark.parametrize("name", ["full", "compact", "vanilla", "deep_full", "deep_compact"])
def test_system_prompts_end_without_a_newline(name: prompts.System) -> None:
    text = prompts.system(name)
    assert text == text.rstrip()
    assert text


class _NoCalls:
    def llm_query(self, prompt: str) -> str:
        raise AssertionError(prompt)

    def llm_query_batched(self, prompts: Sequence[str]) -> list[str]:
        raise AssertionError(prompts)

    def rlm_query(self, context: str, query: str) -> str:
        raise AssertionError(query)


def test_system_prompts_name_only_helpers_that_exist() -> None:
    """Guards against a prompt that promises a function the session does not have."""
    names = [
        "context", "query", "context_len", "re", "json", "head", "tail", "context_slice",
        "chunk_text", "keyword_windows", "regex_windows", "llm_query", "llm_query_batched",
        "query_chunks", "FINAL", "FINAL_VAR", "SHOW_VARS",
    ]  # fmt: skip
    full = prompts.system("full")
    for name in names:
        assert name in full
    sandbox = open_sandbox()
    try:
        sandbox.start("text", _NoCalls())
        result = sandbox.run("\n".join(names))
    finally:
        sandbox.close()
    assert result.status == "ok", result.error


def test_every_template_has_only_named_fields() -> None:
    for section in ("vanilla", "root", "feedback", "rejected", "calls", "helpers", "died", "deep"):
        for text in prompts.templates(section).values():
            for _, field, _, _ in string.Formatter().parse(text):
                assert field is None or field.isidentifier()
