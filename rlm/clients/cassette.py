"""Record and replay: every call of a model kept in a folder, and answered from it later.

A cassette is a folder of JSONL files, one for each client that recorded, so that no two processes
write the same one. A file's first line is the model, every other line a call:

    {"cassette": 1, "num_ctx": …, "model": {…}}
    {"key": …, "nth": …, "options": {…}, "messages": […], "completion": {…}, "error": {…}}

or, where the server was asked for the tokens of a prompt alone (``null`` if it cannot tell them):

    {"key": …, "count": …}

`key` is the hash of the whole request: model (spec, digest, window, server, settings), messages and
options, without `Options.seconds`. `nth` counts equal requests of a client from 0. The full text of
all prompts and answers is there, but no key of a server: requests hold none, errors mask it.

What only a clock decides does not replay: a recorded `CallTimeout` is raised again, but at once, so
that a budget of seconds may not be spent where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from rlm import errors
from rlm.clients.base import Client, Counts, ModelInfo
from rlm.errors import ClientError, NotRecorded, PromptTooLong, ProtocolError, UsageError
from rlm.messages import Completion, Message, Options

FORMAT: Final = 1
_COMPARED: Final = 1000
"""Most recorded requests, those of the nearest length, that a missing one is compared with."""
_BEFORE, _AFTER = 30, 90
"""Characters shown around the first difference."""

Json = dict[str, Any]


class Recorder:
    """A client whose calls are kept. Thread-safe if `client` is.

    Args:
        client: who answers; closed with this one.
        folder: the cassette; made if it is not there, added to if it is.
        num_ctx: the window that was asked for, which a replay must ask for too.

    Raises:
        UsageError: the folder cannot be written.
    """

    def __init__(
        self, client: Client, folder: str | os.PathLike[str], *, num_ctx: int | None = None
    ) -> None:
        self._client, self._folder, self._num_ctx = client, Path(folder), num_ctx
        self._lock, self._asked = threading.Lock(), Counter[str]()
        self._info: ModelInfo | None = None
        self._file: IO[str] | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self._folder, error) from error

    def info(self) -> ModelInfo:
        """Describe the model, and begin the file with it.

        Raises:
            UsageError: the cassette holds another model behind the same spec, or cannot be written.
        """
        with self._lock:
            if self._info is None:
                info = self._client.info()
                self._file = self._begin(info)
                self._info = info
            return self._info

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        """Pass on a call, and keep what came of it; see `Client.chat`."""
        key = _key(self.info(), self._num_ctx, messages, options)
        with self._lock:
            nth = self._asked[key]
            self._asked[key] += 1
        call = {
            "key": key,
            "nth": nth,
            "options": _sampling(options),
            "messages": [asdict(message) for message in messages],
        }
        try:
            completion = self._client.chat(messages, options=options)
        except ClientError as error:
            self._write({**call, "completion": None, "error": _told(error)})
            raise
        self._write({**call, "completion": asdict(completion), "error": None})
        return completion

    def count(self, messages: Sequence[Message]) -> int | None:
        """Pass on a count, and keep it; see `rlm.clients.base.Counts`."""
        key = _key(self.info(), self._num_ctx, messages, None)
        tokens = self._client.count(messages) if isinstance(self._client, Counts) else None
        self._write({"key": key, "count": tokens})
        return tokens

    def close(self) -> None:
        """Close the file and the client. Idempotent."""
        if self._file is not None:
            self._file.close()
        self._client.close()

    def _begin(self, info: ModelInfo) -> IO[str]:
        head = _head(info, self._num_ctx)
        for other in map(_read_head, _files(self._folder)):
            if _chosen(other) == _chosen(head) and other != head:
                raise UsageError(
                    f"the cassette {self._folder} holds another model behind {info.spec} "
                    f"({_shown(other)}, now {_shown(head)}): record into another folder"
                )
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(4)}"
        new, path = (self._folder / f"{name}.{end}" for end in ("new", "jsonl"))
        try:
            new.write_text(json.dumps(head) + "\n", encoding="ascii")
            new.replace(path)  # other processes see a file with its head, or none
            return path.open("a", encoding="ascii")
        except OSError as error:
            raise _unusable(self._folder, error) from error

    def _write(self, call: Json) -> None:
        line = json.dumps(call) + "\n"
        with self._lock:
            assert self._file is not None
            self._file.write(line)
            self._file.flush()


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Where a call stands: sorted, equal requests are in the order in which they were made."""

    file: Path
    nth: int
    offset: int
    size: int

    def read(self) -> Json:
        with self.file.open("rb") as file:
            file.seek(self.offset)
            call: Json = json.loads(file.readline())
        return call


class Player:
    """A client that answers from a cassette: no model, no engine and no server. Thread-safe.

    Equal requests are answered in the order in which they were recorded. After the last of them, at
    temperature 0 its answer holds for good.

    Args:
        folder: the cassette.
        spec: of the model that was recorded.
        num_ctx: the window that was asked for.

    Raises:
        UsageError: there is no such cassette, or it does not hold this model.
    """

    def __init__(
        self, folder: str | os.PathLike[str], spec: str, *, num_ctx: int | None = None
    ) -> None:
        self._folder, self._num_ctx = Path(folder), num_ctx
        files = self._find(spec)
        self._info = ModelInfo(**_read_head(files[0])["model"])
        self._places: defaultdict[str, list[_Place]] = defaultdict(list)
        self._counts: dict[str, int | None] = {}
        for key, found in (pair for file in files for pair in _index(file)):
            if isinstance(found, _Place):
                self._places[key].append(found)
            else:
                self._counts[key] = found
        for places in self._places.values():
            places.sort()
        self._asked, self._lock = Counter[str](), threading.Lock()

    def info(self) -> ModelInfo:
        """Describe the model as it was recorded."""
        return self._info

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        """The recorded answer, or the recorded error.

        Raises:
            NotRecorded: the cassette does not hold this request (any more).
        """
        key = _key(self._info, self._num_ctx, messages, options)
        with self._lock:
            nth = self._asked[key]
            self._asked[key] += 1
        places = self._places.get(key, [])
        if nth >= len(places) and (options.temperature > 0 or not places):
            raise NotRecorded(self._missing(messages, options, times=len(places)))
        call = places[min(nth, len(places) - 1)].read()
        if call["completion"] is None:
            raise _error(call["error"])
        return msgspec.convert(call["completion"], Completion)

    def count(self, messages: Sequence[Message]) -> int | None:
        """The recorded count; see `rlm.clients.base.Counts`.

        Raises:
            NotRecorded: the cassette does not hold it.
        """
        key = _key(self._info, self._num_ctx, messages, None)
        if key not in self._counts:
            raise NotRecorded(
                f"the cassette {self._folder} does not hold the count of this prompt, which a "
                "document that is cut to fit needs: replay with the options that were recorded, or "
                "record again"
            )
        return self._counts[key]

    def close(self) -> None:
        """Nothing is open."""

    def _find(self, spec: str) -> list[Path]:
        """The files of one model."""
        folder, heads = self._folder, {file: _read_head(file) for file in _files(self._folder)}
        if not heads:
            what = "holds no recorded call" if folder.is_dir() else "is not there"
            raise UsageError(
                f"the cassette {folder} {what}: name a folder that was filled with --rlm-record, "
                "or rlm ask --record"
            )
        found = [file for file, head in heads.items() if _chosen(head) == (spec, self._num_ctx)]
        if not found:
            held = "; ".join(sorted({_way(*_chosen(head)) for head in heads.values()}))
            raise UsageError(
                f"the cassette {folder} was not recorded with {_way(spec, self._num_ctx)}, but "
                f"with {held}: give the same"
            )
        for one, other in pairwise(found):
            if heads[one] != heads[other]:
                raise UsageError(
                    f"the cassette {folder} holds two models behind {spec}: "
                    f"{_shown(heads[one])} in {one.name}, {_shown(heads[other])} in {other.name}; "
                    "remove one of these files"
                )
        return found

    def _missing(self, messages: Sequence[Message], options: Options, *, times: int) -> str:
        if times:
            return (
                f"the cassette {self._folder} holds {times} answers to this request, at a "
                "temperature at which each may differ, and all of them are used: record again"
            )
        total = sum(map(len, self._places.values()))
        told = f"the cassette {self._folder} does not hold this request"
        nearest = self._nearest(_parts(messages, options))
        if nearest is not None:
            told += f"; the nearest of its {total} differs first in {nearest}"
        return (
            f"{told}\nThe prompts, options or cells are not those that were recorded: replay "
            "those, or record again"
        )

    def _nearest(self, asked: Mapping[str, str]) -> str | None:
        """The first difference to the recorded request that has most in common with `asked`."""
        text = "".join(asked.values())
        size = len(json.dumps(text))
        places = sorted(
            (place for places in self._places.values() for place in places),
            key=lambda place: abs(place.size - size),
        )
        best: tuple[float, dict[str, str]] | None = None
        for place in places[:_COMPARED]:
            call = place.read()
            recorded = [Message(**message) for message in call["messages"]]
            held = _parts(recorded, Options(**call["options"]))
            likeness = _likeness(text, "".join(held.values()))
            if best is None or likeness > best[0]:
                best = likeness, held
        return _difference(best[1], asked) if best else None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def _read_head(file: Path) -> Json:
    """The first line of a file.

    Raises:
        UsageError: it is no file of a cassette.
    """
    try:
        with file.open("rb") as lines:
            head: Json = json.loads(lines.readline())
        if head["cassette"] == FORMAT and {"num_ctx", "model"} <= head.keys():
            return head
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UsageError(
        f"{file} is no part of a cassette of format {FORMAT}: name a folder that holds only files "
        "made by --rlm-record, or rlm ask --record"
    )


def _index(file: Path) -> Iterator[tuple[str, _Place | int | None]]:
    """Key and place of each call, key and tokens of each count.

    A last line that a kill has torn is none.

    Raises:
        UsageError: a line is damaged.
    """
    offset = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number > 1 and line.endswith(b"\n"):
                try:
                    call = json.loads(line)
                    found = call["key"], _found(call, file, offset, len(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise UsageError(
                        f"line {number} of {file} is damaged ({error}): remove it, or record again"
                    ) from error
                yield found
            offset += len(line)


def _found(call: Json, file: Path, offset: int, size: int) -> _Place | int | None:
    """What a line holds."""
    if "count" not in call:
        return _Place(file, call["nth"], offset, size)
    count: int | None = call["count"]
    return count


def _head(info: ModelInfo, num_ctx: int | None) -> Json:
    model = {**asdict(info), "options": dict(info.options)}
    head: Json = json.loads(json.dumps({"cassette": FORMAT, "num_ctx": num_ctx, "model": model}))
    return head


def _chosen(head: Json) -> tuple[str, int | None]:
    """What a person chose: the spec and the window."""
    return head["model"]["spec"], head["num_ctx"]


def _way(spec: str, num_ctx: int | None) -> str:
    return spec if num_ctx is None else f"{spec} in a window of {num_ctx}"


def _shown(head: Json) -> str:
    model = head["model"]
    return f"{model['digest'][:19]}, window {model['window']}, {model['server']}"


def _unusable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot record into {folder}: {error.strerror or error}; name a folder")


def _key(
    info: ModelInfo, num_ctx: int | None, messages: Sequence[Message], options: Options | None
) -> str:
    """Hash of a request; without options it is one for a count."""
    request = {
        **_head(info, num_ctx),
        "messages": [[message.role, message.content] for message in messages],
        "options": _sampling(options) if options else None,
    }
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _sampling(options: Options) -> Json:
    """All but the seconds, which no server is told."""
    return {name: value for name, value in asdict(options).items() if name != "seconds"}


def _told(error: ClientError) -> Json:
    told: Json = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, PromptTooLong):
        told |= {"prompt_tokens": error.prompt_tokens, "window": error.window}
    return told


def _error(told: Json) -> ClientError:
    """The error that `_told` describes; of a type unknown here, a `ProtocolError`."""
    kind, message = told["type"], told["message"]
    if kind == PromptTooLong.__name__:
        return PromptTooLong(message, prompt_tokens=told["prompt_tokens"], window=told["window"])
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, ClientError):
        return found(message)
    return ProtocolError(f"{kind}: {message}")


def _parts(messages: Sequence[Message], options: Options) -> dict[str, str]:
    """The parts of a request by name."""
    sampling = ", ".join(f"{name} {value}" for name, value in _sampling(options).items())
    told = enumerate(messages, 1)
    return {"the options": sampling} | {
        f"message {number} ({message.role})": message.content for number, message in told
    }


def _likeness(one: str, other: str) -> float:
    """Share of the longer text that both have in common at their start and end."""
    longer, start = max(len(one), len(other)), _start(one, other)
    end = _most(lambda n: one[-n:] == other[-n:], min(len(one), len(other)) - start)
    return (start + end) / longer if longer else 1.0


def _most(holds: Callable[[int], bool], limit: int) -> int:
    """The largest number up to `limit` for which `holds`, if it does for all smaller ones."""
    return bisect_left(range(1, limit + 1), True, key=lambda n: not holds(n))


def _difference(recorded: Mapping[str, str], asked: Mapping[str, str]) -> str:
    """The first difference of two requests, on three lines."""
    for held, now in zip_longest(recorded.items(), asked.items(), fillvalue=("", "")):
        if held != now:
            name, at = now[0] or held[0], _start(held[1], now[1])
            shown = [_excerpt(*part, at) for part in (held, now)]
            return f"{name}, at character {at}\n  recorded  {shown[0]}\n  now       {shown[1]}"
    return "nothing that a person would see"


def _start(one: str, other: str) -> int:
    """How many characters two texts have in common at their start."""
    return _most(lambda n: one[:n] == other[:n], min(len(one), len(other)))


def _excerpt(name: str, text: str, at: int) -> str:
    if not name:
        return "there is no such message"
    start, end = max(0, at - _BEFORE), at + _AFTER
    before, after = "…" if start else "", "…" if end < len(text) else ""
    return f"{before}{text[start:end]!r}{after}"
