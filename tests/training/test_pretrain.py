"""The pre-training recipe at small scale: real pages, real demonstrations, real steps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from rlm import open_sandbox, prompts
from rlm.bench.tasks import get, names
from rlm.bench.tasks.base import Item
from rlm.bench.tasks.stream import Stream, split_of
from rlm.sandbox import Sandbox
from training.pretrain import alone, play, solving
from training.pretrain.__main__ import corpus
from training.pretrain.batches import (
    by_length,
    collate,
    goal_row,
    page_row,
    repeat_row,
    sub_row,
)
from training.pretrain.demos import NOISY_PAGES, Demo, make_demo, make_demos, read_demos
from training.pretrain.model import blocks, new_model
from training.pretrain.pages import ABSENT, Level, Page, make_page, reply
from training.pretrain.passages import PROMPTS
from training.pretrain.play import Play, page_play
from training.pretrain.stages import Stage
from training.pretrain.tokenizer import Chat, load_tokenizer, train_tokenizer
from training.pretrain.train import BASE, Settings, Trainer, train_end
from training.pretrain.workers import run_workers
from training.workers import Workers

N = 4
"""Length of the word n-grams that train and eval must not share."""


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(page(number).text for number in range(400)).save(str(path))
    return Chat(load_tokenizer(path))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    opened = open_sandbox()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def demos(sandbox: Sandbox) -> Sequence[Demo]:
    made = [make_demo(11, number, page_play, sandbox) for number in range(40)]
    return [demo for demo in made if demo is not None]


def page(number: int, chars: int = 1500) -> Page:
    return make_page(Stream("test", number), chars, 5, Level())


def ngrams(texts: Sequence[str]) -> set[tuple[str, ...]]:
    found = set()
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        found |= {tuple(words[i : i + N]) for i in range(len(words) - N + 1)}
    return found


def solved(monkeypatch: pytest.MonkeyPatch, each: int) -> Sequence[Item]:
    """Items of every family that the teacher plays, `each` of one, with the teacher's questions."""
    items: list[Item] = []
    make = play.item_play

    def note(item: Item, *rest: Any) -> Play:
        items.append(item)
        return make(item, *rest)

    monkeypatch.setattr(solving, "item_play", note)
    monkeypatch.setattr(alone, "item_play", note)
    for family in (*(family for _, family in solving.SHARES), *alone.PLAYS):
        for number in range(each):
            family(Stream("wording", number))
    return items


def texts(item: Item) -> Sequence[str]:
    """Of an item that asks for what is not there the answers are any ways to say so."""
    said = () if item.absent else (item.gold, *item.answers)
    return (item.document, item.question, *said)


def test_train_and_eval_share_no_wording(
    demos: Sequence[Demo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the score: the embedded model has seen no sentence of the benchmark, and no answer."""
    monkeypatch.setattr(play, "LENGTHS", (2_000, 4_000, 6_000))
    train: list[str] = []
    for number in range(300):
        made = page(number)
        train += [made.text, *(f.question for f in made.facts), *(f.sentence for f in made.facts)]
        train += [reply(fact, told=True) for fact in made.facts]
    train += [message.content for demo in demos for message in demo.messages[1:]]
    items = solved(monkeypatch, each=20)
    drawn = Counter(item.task for item in items)
    assert drawn.keys() == set(names()) - {"niah", "long_doc_qa"}  # of these are the pages
    assert min(drawn.values()) >= 20
    train += [text for item in items for text in texts(item)]
    for number in range(60):
        train += [text for make in PROMPTS.values() for text in make(Stream("asked", number))]
    tested = [get(name).generate(4096, 50, seed) for name in names() for seed in range(150)]
    shared = ngrams(train) & ngrams([text for item in tested for text in texts(item)])
    assert not shared, sorted(shared)[:10]
    shared_golds = golds(items) & golds(tested)
    assert not shared_golds, sorted(shared_golds)[:10]


def golds(items: Sequence[Item]) -> set[str]:
    """Answers that are values or names: not those that are counted, or not there."""
    return {i.gold for i in items if not i.absent and not i.task.startswith("aggregate")}


def test_values_and_names_are_of_the_train_split() -> None:
    for number in range(50):
        for fact in page(number).facts:
            assert split_of(fact.value) == "train"
            if fact.key.istitle():
                assert split_of(fact.key) == "train"


def test_a_page_holds_its_facts_and_not_the_missing_one() -> None:
    made = page(1)
    assert len(made.text) == 1500
    for fact in made.facts:
        assert made.text.count(fact.sentence) == 1
        assert fact.value in fact.sentence
    assert made.missing.value not in made.text


def test_twins_say_the_same_of_other_keys_and_names() -> None:
    level = Level(twins=1.0, word_values=0.0)
    shapes = Counter[bool]()
    for number in range(60):
        page = make_page(Stream("twins", number), 400, 4, level)
        said = {
            fact.sentence.lower().replace(fact.key.lower(), "*").replace(fact.value, "#")
            for fact in (*page.facts, page.missing)
        }
        asked = {
            fact.question.lower().replace(fact.key.lower(), "*")
            for fact in (*page.facts, page.missing)
        }
        assert (len(said), len(asked)) == (1, 1)
        shapes[page.missing.key.istitle()] += 1
    assert min(shapes.values()) > 15


def test_demonstrations_end_in_a_final_that_is_learned(demos: Sequence[Demo]) -> None:
    assert len(demos) >= 38  # a window now and then cuts the fact in two
    for demo in demos:
        assert demo.messages[-1].role == "assistant"
        assert "FINAL" in demo.messages[-1].content
        assert demo.targets[-1]


def test_what_was_rejected_or_failed_is_no_target(demos: Sequence[Demo]) -> None:
    bad = 0
    for demo in demos:
        told = [m.content for m in demo.messages[3::2]]
        for learn, feedback in zip(demo.targets, told, strict=False):
            if feedback.startswith("Error:") or "FINAL was rejected" in feedback:
                bad += 1
                assert not learn
    assert bad


def test_demonstrations_are_the_same_for_the_same_seed(
    demos: Sequence[Demo], sandbox: Sandbox
) -> None:
    assert make_demo(11, 0, page_play, sandbox) == demos[0]


def test_demonstrations_go_on_after_a_kill(tmp_path: Path) -> None:
    """Guards a file whose last line was torn from stopping the recipe, or from a number twice."""
    path, whole = tmp_path / "demos.jsonl", tmp_path / "whole.jsonl"
    make_demos(path, 11, 2)
    with path.open("a") as out:
        out.write('{"number": 2, "messa')
    make_demos(path, 11, 4)
    make_demos(whole, 11, 4)
    assert path.read_text() == whole.read_text()
    assert len(list(read_demos(path))) >= 3


def test_a_teacher_that_errs_is_learned_from_as_it_is(sandbox: Sandbox) -> None:
    """Guards `embedded/base`: its errors are there, and wrong ends are learned like others."""
    made = [make_demo(12, number, NOISY_PAGES, sandbox) for number in range(80)]
    noisy = [demo for demo in made if demo is not None]
    assert all(demo.targets[-1] for demo in noisy)
    last = [demo.messages[-1].content for demo in noisy]
    assert 8 <= sum(f'FINAL("{ABSENT}")' in text for text in last) <= 40
    assert any('FINAL("a")' in text for text in last)


def test_readers_quote_the_text_then_say_the_value() -> None:
    for number in range(40):
        made = make_page(Stream("reply", number), 900, 4, Level(value_first=0.3))
        for fact in made.facts:
            thought, _, said = reply(fact, told=True).rpartition("</think>")
            assert said == fact.value
            assert thought.startswith(f"<think> {fact.key}")
            quoted = thought.removeprefix(f"<think> {fact.key}")
            assert not fact.key_first or quoted in fact.sentence
        assert reply(made.missing, told=False).endswith(f"</think>{ABSENT}")


def test_the_tokenizer_sees_the_system_prompt(tmp_path: Path) -> None:
    """Guards the last text of the corpus, which an early return once left out."""
    path = tmp_path / "demos.jsonl"
    make_demos(path, 11, 1)
    path.write_text(path.read_text() * 600)
    *_, last = corpus(1, path)
    assert last == prompts.system("compact")


def test_targets_are_the_answers(chat: Chat) -> None:
    stream = Stream("targets")
    batch = collate([("page", page_row(stream, chat, Level(), 600)) for _ in range(4)], pad=0)
    first = batch.answers == 0
    ids = batch.ids[batch.rows[first], batch.positions[first]].tolist()
    text = chat.tokenizer.decode(ids, skip_special_tokens=False)
    assert text.endswith("<|im_end|>")
    said = text.removesuffix("<|im_end|>").rpartition("</think>")[2]
    assert re.fullmatch(rf"\w+|{ABSENT}", said)


def test_sub_calls_answer_only_what_the_passage_holds(chat: Chat) -> None:
    stream = Stream("sub")
    answers = set()
    for _ in range(60):
        ids, positions = sub_row(stream, chat, Level(absent=0.3), 300)
        prompt = chat.tokenizer.decode(ids[: positions[0][0]])
        answer = chat.tokenizer.decode([ids[i] for i in positions[0][:-1]]).rpartition(">")[2]
        assert answer == ABSENT or answer in prompt
        answers.add(answer == ABSENT)
    assert answers == {True, False}


def test_a_new_model_can_copy(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the initial weights: repeated strings of random tokens are right before any step.

    Those that share their middles are left to training.
    """
    monkeypatch.setattr("training.pretrain.batches.TWINS", 0.0)
    torch.set_num_threads(1)
    model, stream = new_model(seed=1).eval(), Stream("copy")
    right = total = 0
    for _ in range(8):
        ids, answers = repeat_row(stream, chat)
        with torch.no_grad():
            greedy = model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        for positions in answers:
            right += all(greedy[i - 1] == ids[i] for i in positions)
            total += 1
    assert right > 0.6 * total


def test_blocks_of_queries_are_plain_causal_attention() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 3, 600, 8)
    mixed, _ = blocks(torch.nn.Identity(), query, key, value, None, scaling=0.3)
    plain = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3)
    torch.testing.assert_close(mixed, plain.transpose(1, 2))


def test_rows_of_like_length_go_together(chat: Chat) -> None:
    rows = [("sub", (list(range(3, 3 + n)), [[1, 2]])) for n in (5, 90, 7, 80, 6)]
    batches = by_length(rows, 200, pad=0)
    assert [batch.ids.shape for batch in batches] == [(2, 90), (3, 7)]
    assert sum(len(batch.kinds) for batch in batches) == 5


def quick(kinds: dict[str, int]) -> Sequence[Stage]:
    return (Stage(Level(), (300,), kinds, ("page", 2.0), 1e12),)


def test_a_run_learns_and_resumes_bit_for_bit(
    chat: Chat, demos: Sequence[Demo], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    settings = Settings(tokens=1e6, seed=5, warmup=4)
    stages = quick({"recall": 300, "repeat": 200, "page": 300, "sub": 300, "demo": 1500})
    (tmp_path / "whole").mkdir()
    (tmp_path / "halves").mkdir()

    whole = Trainer(tmp_path / "whole", chat, demos, settings, stages=stages)
    losses = [whole.step()["loss"] for _ in range(6)]
    assert sum(losses[4:]) < sum(losses[:2])

    first = Trainer(tmp_path / "halves", chat, demos, settings, stages=stages)
    for _ in range(3):
        first.step()
    first.save()
    second = Trainer(tmp_path / "halves", chat, demos, settings, stages=stages)
    for _ in range(3):
        second.step()
    assert second.progress.step == 6
    for mine, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_other_end_goes_on_where_the_first_ended(
    chat: Chat, demos: Sequence[Demo], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    settings, stages = Settings(tokens=9_000, seed=5), quick({"demo": 1500, "page": 500})
    Trainer(tmp_path, chat, demos, settings, stages=stages).run()
    first = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    chat.tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / BASE.folder).mkdir()
    make_demos(tmp_path / BASE.folder / "demos.jsonl", 12, 4, draw=NOISY_PAGES)
    train_end(tmp_path, BASE, 1, Workers())
    other = torch.load(tmp_path / BASE.folder / "checkpoint.pt", weights_only=True)
    assert other["progress"]["step"] == 1
    assert other["settings"]["muon_lr"] == 0.25 * first["settings"]["muon_lr"]
    start = new_model(5).state_dict()
    for name in (name for name in start if "proj" in name):
        near, far = (weights[name] - first["model"][name] for weights in (other["model"], start))
        assert 0 < near.norm() < far.norm(), name

    train_end(tmp_path, BASE, 1, Workers())  # again, when all is done
    again = torch.load(tmp_path / BASE.folder / "checkpoint.pt", weights_only=True)
    assert again["progress"] == other["progress"]


def test_two_workers_take_the_same_steps(chat: Chat, tmp_path: Path) -> None:
    """Guards the sums over workers: both hold one model, and count each other's rows."""
    run_workers(partial(take_steps, tmp_path, chat.tokenizer.to_str()), 2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["tokens"] == second["tokens"] > 0
    for name, tensor in first["model"].items():
        assert torch.equal(tensor, second["model"][name]), name


def take_steps(folder: Path, tokenizer: str, workers: Workers) -> None:
    chat = Chat(Tokenizer.from_str(tokenizer))
    stages = quick({"recall": 600, "repeat": 300})
    trainer = Trainer(folder, chat, [], Settings(tokens=1e6), workers, stages)
    for _ in range(2):
        trainer.step()
    state = {"model": trainer.model.state_dict(), "tokens": trainer.progress.tokens}
    torch.save(state, folder / f"{workers.rank}.pt")


def test_a_row_of_goals_teaches_the_lines(chat: Chat) -> None:
    ids, answers = goal_row(Stream("rows", 1), chat)
    assert 2 <= len(answers) <= 6
    for positions in answers:
        text = chat.tokenizer.decode([ids[i] for i in positions])
        assert " = " in text
