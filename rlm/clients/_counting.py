"""A server's own count of a prompt's tokens, without an answer.

OpenAI's protocol has no such route; vLLM and llama-server each have their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rlm.clients._http import Http

Body = Mapping[str, Any]

_DECIDES: Final = ("model", "messages", "chat_template_kwargs")
"""What of a call decides its prompt."""


def by_messages(http: Http, body: Body) -> int | None:
    """The count of vLLM's ``/tokenize``; ``None`` if the answer is another server's.

    Args:
        http: the server.
        body: of the call.

    Raises:
        ClientError: the server has no such route, or cannot be asked.
    """
    asked = {name: body[name] for name in _DECIDES} | {"add_generation_prompt": True}
    counted = http.post("/tokenize", asked).get("count")
    return counted if isinstance(counted, int) and counted > 0 else None


def by_template(http: Http, body: Body) -> int | None:
    """The count of llama-server: its rendering of the template, then ``/tokenize``.

    Args:
        http: the server.
        body: of the call.

    Raises:
        ClientError: the server has no such routes, or cannot be asked.
    """
    prompt = http.post("/apply-template", {name: body[name] for name in _DECIDES}).get("prompt")
    if not isinstance(prompt, str):
        return None
    asked = {"content": prompt, "add_special": True, "parse_special": True}
    tokens = http.post("/tokenize", asked).get("tokens")
    return len(tokens) if isinstance(tokens, list) and tokens else None
