"""The pre-training recipe at small scale: real pages, real demonstrations, real steps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from rlm import open_sandbox, prompts
from rlm.bench.tasks import get, names
from rlm.bench.tasks.stream import Stream, split_of
from rlm.sandbox import Sandbox
from training.pretrain.__main__ import corpus
from training.pretrain.batches import collate, page_row, sub_row
from training.pretrain.demos import Demo, make_demo, make_demos, read_demos
from training.pretrain.pages import ABSENT, Level, Page, make_page
from training.pretrain.tokenizer import Chat, load_tokenizer, train_tokenizer
from training.pretrain.train import Settings, Trainer

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
    made = [make_demo(11, number, Level(), sandbox) for number in range(40)]
    return [demo for demo in made if demo is not None]


def page(number: int, chars: int = 1500) -> Page:
    return make_page(Stream("test", number), chars, 5, Level())


def ngrams(texts: Sequence[str]) -> set[tuple[str, ...]]:
    found = set()
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        found |= {tuple(words[i : i + N]) for i in range(len(words) - N + 1)}
    return found


def test_train_and_eval_share_no_wording() -> None:
    """Guards the score: the embedded model has seen no sentence of the benchmark."""
    train: list[str] = []
    for number in range(300):
        made = page(number)
        train += [made.text, *(f.question for f in made.facts), *(f.sentence for f in made.facts)]
    evaluated: list[str] = []
    for name in names():
        for seed in range(150):
            item = get(name).generate(1500, 50, seed)
            evaluated += [item.document, item.question]
    shared = ngrams(train) & ngrams(evaluated)
    assert not shared, sorted(shared)[:10]


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
    assert make_demo(11, 0, Level(), sandbox) == demos[0]


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


def test_the_tokenizer_sees_the_system_prompt(tmp_path: Path) -> None:
    """Guards the last text of the corpus, which an early return once left out."""
    path = tmp_path / "demos.jsonl"
    make_demos(path, 11, 1)
    path.write_text(path.read_text() * 600)
    *_, last = corpus(1, path)
    assert last == prompts.system("compact")


def test_targets_are_the_answers(chat: Chat) -> None:
    stream = Stream("targets")
    batch = collate("page", [page_row(stream, chat, Level(), 600) for _ in range(4)], pad=0)
    first = batch.answers == 0
    ids = batch.ids[batch.rows[first], batch.positions[first]].tolist()
    text = chat.tokenizer.decode(ids, skip_special_tokens=False)
    assert text.endswith("<|im_end|>")
    assert re.fullmatch(rf"\d+|{ABSENT}", text.removesuffix("<|im_end|>"))


def test_sub_calls_answer_only_what_the_passage_holds(chat: Chat) -> None:
    stream = Stream("sub")
    answers = set()
    for _ in range(60):
        ids, positions = sub_row(stream, chat, Level(absent=0.3), 300)
        prompt = chat.tokenizer.decode(ids[: positions[0][0]])
        answer = chat.tokenizer.decode([ids[i] for i in positions[0][:-1]])
        assert answer == ABSENT or answer in prompt
        answers.add(answer == ABSENT)
    assert answers == {True, False}


def test_a_run_learns_and_resumes_bit_for_bit(
    chat: Chat, demos: Sequence[Demo], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    settings = Settings(tokens=1e6, seed=5)
    (tmp_path / "whole").mkdir()
    (tmp_path / "halves").mkdir()

    whole = Trainer(tmp_path / "whole", chat, lambda: demos, settings)
    losses = [whole.step()["page_loss"] for _ in range(6)]
    assert losses[-1] < losses[0]

    first = Trainer(tmp_path / "halves", chat, lambda: demos, settings)
    for _ in range(3):
        first.step()
    first.save()
    second = Trainer(tmp_path / "halves", chat, lambda: demos, settings)
    for _ in range(3):
        second.step()
    assert second.progress.step == 6
    for mine, theirs in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
