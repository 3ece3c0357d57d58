"""Record and replay of single calls. Whole sessions: tests/rlm/bench/test_plugin_cassette.py."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from rlm.clients import connect
from rlm.clients.base import Client, Counts, ModelInfo
from rlm.clients.cassette import Player, Recorder
from rlm.clients.llamacpp import Engine
from rlm.errors import (
    CallTimeout,
    ClientError,
    ModelNotFound,
    NotRecorded,
    PromptTooLong,
    ProtocolError,
    ServerUnreachable,
    UsageError,
)
from rlm.loop import RLM
from rlm.messages import Completion, Message, Options
from tests.rlm.scripted import Scripted, code
from tests.servers import openai

TALK = (Message("system", "Answer."), Message("user", "Which passcode?"))
WARM = Options(temperature=0.7)


def record(folder: Path, script: object, *calls: Options, talk: tuple[Message, ...] = TALK) -> None:
    """Make the calls, whatever comes of them."""
    with closing(Recorder(Scripted(script, window=4096), folder)) as client:
        for options in calls:
            try:
                client.chat(talk, options=options)
            except ClientError:
                continue


def player(folder: Path) -> Player:
    return Player(folder, "scripted")


def test_a_replayed_completion_is_the_recorded_one(tiny_gguf: Path, tmp_path: Path) -> None:
    """Ids, times, usage and all; the file of the model is gone by then."""
    model, tape = tmp_path / "model.gguf", tmp_path / "tape"
    model.write_bytes(tiny_gguf.read_bytes())
    spec, options = f"gguf/{model}", Options(max_tokens=5)
    with closing(connect(spec, num_ctx=512, record=tape)) as client:
        info, made = client.info(), client.chat(TALK, options=options)
    model.unlink()
    with closing(connect(spec, num_ctx=512, replay=tape)) as client:
        assert client.info() == info
        assert client.chat(TALK, options=options) == made
    assert made.completion_ids


def test_a_count_is_replayed_and_one_that_was_not_made_is_told(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    spec, tape = f"gguf/{tiny_gguf}", tmp_path / "tape"
    with closing(connect(spec, num_ctx=512, record=tape)) as client:
        assert isinstance(client, Counts)
        made = client.count(TALK)
        client.chat(TALK, options=Options(max_tokens=1))
    with closing(connect(spec, num_ctx=512, replay=tape)) as client:
        assert isinstance(client, Counts)
        assert client.count(TALK) == made
        assert made is not None
        with pytest.raises(NotRecorded, match="does not hold the count of this prompt"):
            client.count(TALK[:1])
        with pytest.raises(NotRecorded, match="the nearest of its 1 differs"):
            client.chat(TALK[:1], options=Options(max_tokens=1))


def test_that_nobody_counts_is_replayed_too(tmp_path: Path) -> None:
    with closing(Recorder(Scripted([]), tmp_path)) as client:
        assert client.count(TALK) is None
    assert player(tmp_path).count(TALK) is None


def test_seconds_are_no_part_of_a_request(tmp_path: Path) -> None:
    record(tmp_path, ["one"], Options(seconds=9.0))
    assert player(tmp_path).chat(TALK, options=Options()).text == "one"


@pytest.mark.parametrize(
    "error",
    [
        PromptTooLong("long", prompt_tokens=5000, window=4096),
        ServerUnreachable("gone"),
        ModelNotFound("no model"),
        ProtocolError("broken"),
        CallTimeout("slow"),
    ],
)
def test_an_error_is_replayed(tmp_path: Path, error: ClientError) -> None:
    record(tmp_path, [error], Options())
    with pytest.raises(type(error), match=str(error)) as caught:
        player(tmp_path).chat(TALK, options=Options())
    if isinstance(error, PromptTooLong):
        assert (caught.value.prompt_tokens, caught.value.window) == (5000, 4096)


@pytest.mark.parametrize("text", ["a\x00b", "half \ud800 pair", "\N{SNOWMAN}\u2028", "\r\n"])
def test_odd_text_is_replayed(tmp_path: Path, text: str) -> None:
    talk = (Message("user", text),)
    record(tmp_path, [text], Options(), talk=talk)
    assert player(tmp_path).chat(talk, options=Options()).text == text


def test_equal_requests_are_replayed_in_order(tmp_path: Path) -> None:
    record(tmp_path, ["one", "two", "three"], WARM, WARM, WARM)
    client = player(tmp_path)
    assert [client.chat(TALK, options=WARM).text for _ in range(3)] == ["one", "two", "three"]
    with pytest.raises(NotRecorded, match=r"holds 3 answers to this request.*all of them are used"):
        client.chat(TALK, options=WARM)


def test_the_last_answer_of_a_greedy_request_holds_for_good(tmp_path: Path) -> None:
    record(tmp_path, [ProtocolError("broken"), "one"], Options(), Options())
    client = player(tmp_path)
    with pytest.raises(ProtocolError):
        client.chat(TALK, options=Options())
    assert [client.chat(TALK, options=Options()).text for _ in range(2)] == ["one", "one"]


def test_a_later_recording_adds_to_an_earlier_one(tmp_path: Path) -> None:
    record(tmp_path, ["one"], Options(seed=1))
    record(tmp_path, ["two"], Options(seed=2))
    texts = [player(tmp_path).chat(TALK, options=Options(seed=seed)).text for seed in (1, 2)]
    assert texts == ["one", "two"]


def test_calls_at_once_are_all_kept(tmp_path: Path) -> None:
    talks = [(Message("user", f"number {n}"),) for n in range(64)]

    def ask(client: Client) -> list[Completion]:
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(lambda talk: client.chat(talk, options=Options()), talks))

    with closing(Recorder(Scripted(lambda m: m[0].content.upper()), tmp_path)) as client:
        made = ask(client)
    assert len({answer.text for answer in made}) == 64
    assert ask(player(tmp_path)) == made


def test_processes_that_begin_at_once_do_not_see_half_a_file(tmp_path: Path) -> None:
    """Guards against a worker that reads the file which another is just making."""

    def begin(_: int) -> ModelInfo:
        with closing(Recorder(Scripted([]), tmp_path)) as client:
            return client.info()

    with ThreadPoolExecutor(16) as pool:
        assert len(list(pool.map(begin, range(200)))) == 200
    assert len(list(tmp_path.glob("*.jsonl"))) == 200


def test_a_line_that_a_kill_has_torn_is_left_out(tmp_path: Path) -> None:
    record(tmp_path, ["one", "two"], Options(seed=1), Options(seed=2))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    client = player(tmp_path)
    assert client.chat(TALK, options=Options(seed=1)).text == "one"
    with pytest.raises(NotRecorded):
        client.chat(TALK, options=Options(seed=2))


# A request that is not there


def missing(folder: Path, talk: tuple[Message, ...], options: Options) -> list[str]:
    with pytest.raises(NotRecorded) as caught:
        player(folder).chat(talk, options=options)
    return str(caught.value).splitlines()


def test_a_drifted_prompt_is_shown_beside_the_nearest_recorded_one(tmp_path: Path) -> None:
    others = [(Message("user", "x" * n),) for n in range(60)]
    long = "The harbour is quiet. " * 500
    near = (TALK[0], Message("user", f"{long}Which passcode opens the gate? {long}"))
    for talk in (*others[:30], near, *others[30:]):
        record(tmp_path, ["one"], Options(), talk=talk)
    now = (TALK[0], Message("user", f"{long}Which password opens the gate? {long}"))
    told = missing(tmp_path, now, Options())
    assert told[0] == (
        f"the cassette {tmp_path} does not hold this request; the nearest of its 61 differs first "
        "in message 2 (user), at character 11010"
    )
    assert told[1].startswith(
        "  recorded  …'e harbour is quiet. Which passcode opens the gate? The har"
    )
    assert told[2].startswith(
        "  now       …'e harbour is quiet. Which password opens the gate? The har"
    )
    assert "record again" in told[3]
    assert max(map(len, told)) < 400


def test_other_options_are_the_first_difference(tmp_path: Path) -> None:
    record(tmp_path, ["one"], Options())
    told = missing(tmp_path, TALK, Options(seed=5))
    assert "differs first in the options" in told[0]
    assert "seed 0" in told[1]
    assert "seed 5" in told[2]


def test_a_message_more_is_the_first_difference(tmp_path: Path) -> None:
    record(tmp_path, ["one"], Options())
    told = missing(tmp_path, (*TALK, Message("assistant", "I look.")), Options())
    assert "differs first in message 3 (assistant)" in told[0]
    assert "there is no such message" in told[1]
    assert "'I look.'" in told[2]


def test_a_missing_sub_call_ends_the_loop(tmp_path: Path) -> None:
    """Guards against a model that goes on with the error, to an answer that nobody recorded."""
    script = [code("print(llm_query('a'))"), "A", code("FINAL(1)")]
    with closing(Recorder(Scripted(script), tmp_path)) as client:
        RLM(client).completion("text", "question")
    lines = next(tmp_path.iterdir()).read_text().splitlines()
    kept = [line for line in lines if '"content": "a"' not in line]
    assert len(kept) == len(lines) - 1
    next(tmp_path.iterdir()).write_text("\n".join(kept) + "\n")
    with pytest.raises(NotRecorded) as caught:
        RLM(player(tmp_path)).completion("text", "question")
    assert caught.value.trajectory is not None


# A folder that is no cassette, or another model's


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tape is not there: name a folder .* --rlm-record"):
        connect("embedded", replay=tmp_path / "tape")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no recorded call: name a folder"):
        connect("embedded", replay=tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "not JSON", '{"cassette": 2}', "\x00"])
def test_a_folder_of_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.jsonl").write_text(text + "\n")
    with pytest.raises(UsageError, match=r"a.jsonl is no part of a cassette of format 1"):
        connect("embedded", replay=tmp_path)


def test_a_damaged_line(tmp_path: Path) -> None:
    record(tmp_path, ["one"], Options())
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text() + "{\n")
    with pytest.raises(UsageError, match=r"line 3 of .* is damaged .*: remove it, or record again"):
        player(tmp_path)


@pytest.mark.parametrize(("spec", "num_ctx"), [("embedded", None), ("scripted", 512)])
def test_another_model_or_window(tmp_path: Path, spec: str, num_ctx: int | None) -> None:
    record(tmp_path, ["one"], Options())
    with pytest.raises(UsageError, match=r"was not recorded with .*, but with scripted: give the"):
        Player(tmp_path, spec, num_ctx=num_ctx)


class Other(Scripted):
    """Another model behind the same spec."""

    def info(self) -> ModelInfo:
        return ModelInfo("scripted", "1" * 64, None, "scripted 1")


def test_another_model_behind_the_same_spec_is_not_recorded(tmp_path: Path) -> None:
    record(tmp_path / "a", ["one"], Options())
    with (
        closing(Recorder(Other(["two"]), tmp_path / "a")) as client,
        pytest.raises(UsageError, match=r"holds another model behind scripted .*: record"),
    ):
        client.info()


def test_two_models_behind_one_spec_are_not_replayed(tmp_path: Path) -> None:
    record(tmp_path / "a", ["one"], Options())
    with closing(Recorder(Other(["two"]), tmp_path / "b")) as client:
        client.info()
    (file,) = (tmp_path / "b").iterdir()
    file.rename(tmp_path / "a" / file.name)
    with pytest.raises(UsageError, match=r"holds two models behind scripted: .*; remove one"):
        player(tmp_path / "a")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "tape").touch()
    with pytest.raises(UsageError, match=r"cannot record into .*tape: File exists; name a folder"):
        Recorder(Scripted([]), tmp_path / "tape")


def test_recording_and_replaying_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"either recorded or replayed"):
        connect("embedded", record=tmp_path, replay=tmp_path)


def test_the_key_of_a_server_is_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with openai.openai_server() as server:
        spec = f"openai/{openai.NAME}@{server.address}"
        with closing(connect(spec, record=tmp_path)) as client:
            client.chat(TALK, options=Options())
            refused = {"error": {"message": "no sk-very-secret here"}}
            server.standing["/v1/chat/completions"] = openai.Reply(refused, status=401)
            with pytest.raises(ProtocolError):
                client.chat(TALK, options=Options(seed=1))
    (file,) = tmp_path.iterdir()
    assert "very-secret" not in file.read_text()
    assert len(file.read_text().splitlines()) == 3


def test_the_key_of_an_engine_is_not_in_it(engine: Engine, tmp_path: Path) -> None:
    with closing(connect("embedded", engine=engine.address, record=tmp_path)) as client:
        client.chat(TALK, options=Options(max_tokens=2))
    (file,) = tmp_path.iterdir()
    assert engine.address.api_key not in file.read_text()
    assert json.loads(file.read_text().splitlines()[1])["completion"]["completion_ids"]
