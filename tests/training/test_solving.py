"""The teacher on the task families, and what its sub-model is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlm import open_sandbox
from rlm.bench.tasks.kinds import kind_of
from rlm.bench.tasks.stream import Stream
from rlm.sandbox.base import Sandbox
from training.pretrain import solving
from training.pretrain.demos import make_demo, make_demos, read_demos
from training.pretrain.pages import ABSENT, Level, make_page
from training.pretrain.passages import LABEL, answer, kind_prompt, label_prompt, name_prompt
from training.pretrain.play import page_play
from training.pretrain.tokenizer import Chat, load_tokenizer, train_tokenizer
from training.pretrain.train import EMBEDDED, Settings, Trainer, train_end
from training.workers import Workers

PLAYS = [play for _, play in solving.SHARES]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    opened = open_sandbox()
    yield opened
    opened.close()


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: getattr(play, "__name__", str(play))[:40])
def test_the_teacher_reaches_the_answer_in_the_real_loop(play, sandbox: Sandbox) -> None:
    made = [make_demo(21, number, play, sandbox) for number in range(8)]
    kept = [demo for demo in made if demo is not None]
    assert len(kept) >= (2 if play is solving.pairs_play else 6)
    for demo in kept:
        assert "FINAL(" in demo.messages[-1].content
        assert demo.targets[-1]


def test_families_are_drawn_by_their_shares() -> None:
    lines = sum(
        "\n" in solving.solve_play(Stream("share", number)).text[:2000] for number in range(60)
    )
    assert 15 <= lines <= 50  # 6 of 14 shares are documents of lines


def test_a_label_is_given_to_each_line() -> None:
    for number in range(40):
        prompt, reply = label_prompt(Stream("label", number), 0.5)
        lines = prompt.removesuffix(f"\n\n{LABEL}").split("\n")
        said = [line.split() for line in reply.split("\n")]
        assert [index for index, _ in said] == [str(i) for i in range(len(lines))]
        for line, (index, kind) in zip(lines, said, strict=True):
            assert line.endswith(f" #{index}")
            nouns = set(re.findall(r"\w+", line.lower())) & kind_of().keys()
            assert {kind_of()[noun] for noun in nouns} == {kind}


def test_a_number_is_given_only_where_a_noun_is_of_the_asked_kind() -> None:
    told = []
    for number in range(60):
        prompt, reply = kind_prompt(Stream("kind", number), 0.5)
        thought = reply.partition("</think>")[0].removeprefix("<think> ")
        passage = prompt.rpartition("\n\nQuestion: ")[0]
        if answer(reply) != ABSENT:
            kind = re.match(r"\w+", thought)[0]
            sentences = [s for s in re.split(r"[.\n]", passage) if answer(reply) in s]
            nouns = set(re.findall(r"\w+", " ".join(sentences).lower())) & kind_of().keys()
            assert kind in {kind_of()[noun] for noun in nouns}
        told.append(answer(reply) != ABSENT)
    assert 20 <= sum(told) <= 55


def test_what_goes_with_a_name_stands_in_the_passage() -> None:
    answers = []
    for number in range(60):
        prompt, reply = name_prompt(Stream("name", number), 0.2)
        passage, _, question = prompt.rpartition("\n\nQuestion: ")
        name = re.search("goes with (.*)\\?", question)[1]
        answers.append(answer(reply))
        if answers[-1] == ABSENT:
            assert reply == f"<think> {name} nothing</think>{ABSENT}"
        else:
            assert name.lower() in passage.lower()
            assert answers[-1] in passage
    assert 3 <= answers.count(ABSENT) <= 25
    assert any(not each[0].isdigit() for each in answers if each != ABSENT)


def test_the_embedded_end_practises_the_families(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    page = (make_page(Stream("test", number), 1500, 5, Level()).text for number in range(200))
    train_tokenizer(page).save(str(tmp_path / "tokenizer.json"))
    make_demos(tmp_path / "demos.jsonl", 11, 4, draw=page_play)
    (tmp_path / EMBEDDED.folder).mkdir()
    make_demos(tmp_path / EMBEDDED.folder / "demos.jsonl", 12, 6, draw=solving.solve_play)
    chat = Chat(load_tokenizer(tmp_path / "tokenizer.json"))
    demos = list(read_demos(tmp_path / "demos.jsonl"))
    run = Trainer(tmp_path, chat, demos, Settings(tokens=1e6, seed=5))
    run.save()
    train_end(tmp_path, EMBEDDED, 1, Workers())
    done = torch.load(tmp_path / EMBEDDED.folder / "checkpoint.pt", weights_only=True)
    assert done["progress"]["step"] == 1
    assert {"label", "kind", "demo"} <= set(done["progress"]["accuracy"])
