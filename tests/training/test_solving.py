"""The teacher on the task families, and what its sub-model is asked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlm import open_sandbox
from rlm.bench.tasks import lines
from rlm.bench.tasks.kinds import kind_of
from rlm.bench.tasks.stream import Stream
from rlm.sandbox.base import Sandbox
from training.pretrain import __main__ as pretrain
from training.pretrain import ship, solving
from training.pretrain.demos import make_demo, make_demos, read_demos
from training.pretrain.pages import ABSENT, Level, make_page
from training.pretrain.passages import KIND, answer, kind_prompt, name_prompt
from training.pretrain.play import page_play
from training.pretrain.tokenizer import Chat, load_tokenizer, train_tokenizer
from training.pretrain.train import BASE, TASKS, Settings, Trainer, train_end
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
    assert 8 <= lines <= 30  # 5 of 16.5 shares are documents of lines


def test_no_mark_of_a_label_is_that_of_an_eval_document() -> None:
    shown = {form.replace("KIND", "{kind}") for form in solving.MARKS}
    assert len(shown) == len(solving.MARKS)
    assert not shown & {*lines.EVAL.marks, *lines.TRAIN.marks}


def test_another_mark_takes_the_place_of_all_of_the_old_one() -> None:
    for mark in lines.TRAIN.marks:
        line = solving.restyled(Stream("mark", mark), f"Ann named owls.{mark.format(kind='bird')}")
        assert line.count("bird") == 1
        assert line.startswith("Ann named owls")
        assert line.count("kind") == line.count("[kind")


def test_each_word_is_given_its_kind() -> None:
    nouns = 0
    for number in range(40):
        prompt, reply = kind_prompt(Stream("kind", number))
        words = prompt.removesuffix(f"\n\n{KIND}").split(" ")
        assert 1 <= len(words) <= 40
        said = [word.partition("=") for word in reply.split(" ")]
        assert [word for word, _, _ in said] == words
        for word, _, kind in said:
            nouns += bool(kind)
            assert kind_of().get(word, "") == kind
    assert nouns > 100


def test_what_goes_with_a_name_stands_in_the_passage() -> None:
    answers = []
    for number in range(60):
        prompt, reply = name_prompt(Stream("name", number))
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


def test_the_end_of_tasks_practises_the_families(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    page = (make_page(Stream("test", number), 1500, 5, Level()).text for number in range(200))
    train_tokenizer(page).save(str(tmp_path / "tokenizer.json"))
    make_demos(tmp_path / "demos.jsonl", 11, 4, draw=page_play)
    (tmp_path / TASKS.folder).mkdir()
    make_demos(tmp_path / TASKS.folder / "demos.jsonl", 12, 6, draw=solving.solve_play)
    chat = Chat(load_tokenizer(tmp_path / "tokenizer.json"))
    demos = list(read_demos(tmp_path / "demos.jsonl"))
    run = Trainer(tmp_path, chat, demos, Settings(tokens=1e6, seed=5))
    run.save()
    train_end(tmp_path, TASKS, 1, Workers())
    done = torch.load(tmp_path / TASKS.folder / "checkpoint.pt", weights_only=True)
    assert done["progress"]["step"] == 1
    assert {"solve", "goal", "kind", "demo"} <= set(done["progress"]["accuracy"])


def test_the_command_makes_both_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--tokens=1", "--demos=6", "--tasks-tokens=1", "--tasks-demos=6")
    few += ("--base-tokens=1", "--base-demos=6", "--workers=1")
    pretrain.main(["--out", str(tmp_path / "out"), *few])
    ship.main(["--out", str(tmp_path / "out"), "--to", str(tmp_path)])
    for end, solves in ((TASKS, True), (BASE, False)):
        facts = json.loads((tmp_path / end.file).with_suffix(".json").read_text())
        assert facts["sha256"] == hashlib.sha256((tmp_path / end.file).read_bytes()).hexdigest()
        assert ("solve" in facts["progress"]["accuracy"]) is solves
        assert [each["progress"]["step"] for each in facts["before"]] == [1]
    capsys.readouterr()


def test_nothing_to_ship_says_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        ship.main(["--out", str(tmp_path)])
    assert "run python -m training.pretrain first" in capsys.readouterr().err
