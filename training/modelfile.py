"""A ``Modelfile`` for ``ollama create``, for a model whose chat template is ChatML.

Syntax: Ollama's docs/modelfile.mdx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jinja2 import TemplateError

from rlm.clients.llamacpp import CHATML_TEMPLATE
from training.pretrain.tokenizer import END, START

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WINDOW: Final = 16_384
"""Most tokens of the ``num_ctx``; `rlm.connect` asks Ollama for no more either."""
TEMPLATE: Final = (
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
    "<|im_start|>assistant\n"
)
"""ChatML as a template of Go, as Ollama fills it in: system messages are among the messages."""
_SYSTEM: Final = {"role": "system", "content": "Be brief."}
_TALK: Final = (
    {"role": "user", "content": "A question?"},
    {"role": "assistant", "content": "An answer."},
    {"role": "user", "content": "Another?"},
)


def modelfile(gguf: str, tokenizer: PreTrainedTokenizerFast, trained: int) -> str | None:
    """The text of the file; ``None`` if the folder's template is not ChatML on a short talk.

    Args:
        gguf: name of the model's file, beside it.
        tokenizer: of the folder, with its chat template.
        trained: window in tokens that the model was trained for.
    """
    system = _unasked_system(tokenizer)
    if system is None or '"""' in system:
        return None
    return (
        f'FROM ./{gguf}\nTEMPLATE """{TEMPLATE}"""\n'
        + (f'SYSTEM """{system}"""\n' if system else "")
        + f'PARAMETER num_ctx {min(trained, WINDOW)}\nPARAMETER stop "{END}"\n'
    )


def _unasked_system(tokenizer: PreTrainedTokenizerFast) -> str | None:
    """The system message that the template adds where there is none; ``None``: it is no ChatML."""
    has_tokens = {START, END} <= set(tokenizer.get_vocab())
    if not has_tokens or not isinstance(tokenizer.chat_template, str):
        return None
    talks = ([_SYSTEM, *_TALK], list(_TALK))
    wanted, plain = (_rendered(tokenizer, talk, CHATML_TEMPLATE) for talk in talks)
    try:
        found, bare = (_rendered(tokenizer, talk, None) for talk in talks)
    except TemplateError:  # some refuse a talk, such as one with a system message
        return None
    opening, closing = f"{START}system\n", f"{END}\n{plain}"
    if found != wanted:
        return None
    if bare == plain:
        return ""
    if bare.startswith(opening) and bare.endswith(closing):
        return bare[len(opening) : -len(closing)]
    return None


def _rendered(
    tokenizer: PreTrainedTokenizerFast, talk: list[dict[str, str]], template: str | None
) -> str:
    return str(
        tokenizer.apply_chat_template(
            talk,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
    )
