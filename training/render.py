"""Trajectories as rows of token ids: what inference rendered, token for token.

A record keeps the ids of every prompt and answer where the server gave them, as the embedded engine
does; these are taken as they are. Other servers give text alone; then, or to train another model
than the one that was asked, `training.pretrain.tokenizer.Chat` renders the messages with that
model's tokenizer in ChatML, as `rlm.clients.llamacpp` sends them (a test compares the two).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from rlm.trajectory import Call, Trajectory
from training.pretrain.tokenizer import END, START, Chat, load_tokenizer

Span = tuple[int, int]

TOO_LONG: Final = "longer than --max-seq in one piece"
CHANGED: Final = "an earlier turn was shown in other tokens"


@dataclass(frozen=True, slots=True)
class Seen:
    """One root turn in ids.

    Attributes:
        number: of the turn, from 1.
        prompt: all that the model saw, up to where its answer begins.
        reply: what it wrote, with the token that ends it.
    """

    number: int
    prompt: tuple[int, ...]
    reply: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row to train on.

    Attributes:
        ids: tokens.
        targets: spans ``[begin, end)`` of `ids` that are learned, each a whole reply.
        turns: which turns these are.
    """

    ids: tuple[int, ...]
    targets: tuple[Span, ...]
    turns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The rows of one trajectory.

    Attributes:
        rows: one, or one for each learned turn.
        by_turn: why it is not one; empty if it is.
        too_long: turns that were left out, since prompt and reply take more than the limit.
    """

    rows: tuple[Row, ...]
    by_turn: str = ""
    too_long: int = 0


def seen_turns(trajectory: Trajectory, chat: Chat | None = None) -> tuple[Seen, ...] | None:
    """The root turns that were answered, in ids.

    Args:
        trajectory: of a loop.
        chat: renders the messages anew; ``None`` takes the ids that the server gave.

    Returns:
        ``None`` where ids are asked for and the trajectory lacks them.
    """
    found = []
    for call in trajectory.calls:
        if call.kind == "root" and call.completion is not None:
            seen = _recorded(call) if chat is None else _rendered(call, chat)
            if seen is None:
                return None
            found.append(seen)
    return tuple(found)


def render(seen: Sequence[Seen], learned: Collection[int], max_seq: int) -> Rendered:
    """One row of the whole conversation, or one for each learned turn with the prompt it had.

    One row shows the model what inference did only if each prompt begins with the one before it and
    its reply. It does not where the loop dropped an old output, or where a sampled reply was cut
    into tokens in another way than its text is in the next prompt.

    Args:
        seen: the turns.
        learned: numbers of those that are targets.
        max_seq: most tokens of a row.
    """
    last = seen[-1]
    whole = last.prompt + last.reply
    if not all(_continues(turn, after) for turn, after in pairwise(seen)):
        why = CHANGED
    elif len(whole) > max_seq:
        why = TOO_LONG
    else:
        turns = [turn for turn in seen if turn.number in learned]
        spans = tuple((len(t.prompt), len(t.prompt) + len(t.reply)) for t in turns)
        return Rendered((Row(whole, spans, tuple(t.number for t in turns)),))
    single = [_alone(turn) for turn in seen if turn.number in learned]
    fitting = tuple(row for row in single if len(row.ids) <= max_seq)
    return Rendered(fitting, why, len(single) - len(fitting))


def load_chat(path: Path) -> Chat:
    """The ChatML renderer of a Hugging Face folder or of a GGUF.

    Raises:
        ValueError: there is no tokenizer, it is none of ChatML, or its split rule is not known.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"there is no {file}: give a Hugging Face folder or a GGUF of the model")
    tokenizer = load_tokenizer(file)
    absent = [token for token in (START, END) if tokenizer.token_to_id(token) is None]
    if absent:
        raise ValueError(f"{file} has no token {absent[0]}: only models of ChatML can be rendered")
    return Chat(tokenizer)


def _recorded(call: Call) -> Seen | None:
    done = call.completion
    if done is None or not done.prompt_ids or not done.completion_ids:
        return None
    return Seen(call.turn, done.prompt_ids, done.completion_ids)


def _rendered(call: Call, chat: Chat) -> Seen:
    assert call.completion is not None
    prompt, _ = chat.render(call.messages)
    reply = [*chat.encode(call.completion.text), chat.end]
    return Seen(call.turn, (*prompt, *chat.opening), tuple(reply))


def _continues(turn: Seen, after: Seen) -> bool:
    before = turn.prompt + turn.reply
    return after.prompt[: len(before)] == before


def _alone(turn: Seen) -> Row:
    ids = turn.prompt + turn.reply
    return Row(ids, ((len(turn.prompt), len(ids)),), (turn.number,))
