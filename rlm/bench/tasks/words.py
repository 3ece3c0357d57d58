"""The frozen word list, and documents made of it.

The words are those of three to eight letters in the EFF large word list (CC BY 3.0 US, see NOTICE),
taken from the PyPI package ``xkcdpass`` 1.30.0. Their order in the file, the most frequent first,
is that of the PyPI package ``wordfreq`` 3.1.1 (see NOTICE).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import cache
from importlib.resources import files
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from rlm.bench.tasks.base import Span, Split
from rlm.bench.tasks.stream import NUMBERS, Stream, table
from rlm.errors import RLMError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORDS_SHA256 = "a6ac681ee3c78dcfaf57588cb76a917747291953ad1ebded0739dc2deb24407a"

Filler = Callable[[Stream, int], list[str]]
"""Makes so many filler sentences, each of which ends in a mark."""

ZIPF_SHIFT: Final = 15
"""Words are drawn with a chance of ``1 / (rank + ZIPF_SHIFT)``.

That is the law of Zipf and Mandelbrot. The list holds hardly any of the hundred words that English
text uses most, so its frequencies start out flat: they fall 52-fold from rank 10 to rank 1,000 in
``wordfreq``, 41-fold here. With less of a shift, train and eval documents would share runs of four
words by chance.
"""

FEWEST_WORDS: Final = 3
SENTENCE_WORDS: Final = (
    *(9, 29, 55, 79, 94, 99, 98, 90, 80, 69, 59, 49),
    *(40, 33, 27, 21, 17, 14, 11, 9, 7, 6, 5),
)
"""Of a thousand sentences, how many have `FEWEST_WORDS` words, one more, and so on.

A rounded lognormal with a median of 10 and a sigma of 0.45; written out, as logarithms differ in
their last bit from one platform to the next.
"""


@cache
def ranked_words() -> tuple[str, ...]:
    """All words, the most frequent in English first.

    Raises:
        RLMError: the file is not the one that the documents of this suite are made of.
    """
    raw = (files("rlm.bench.tasks") / "words.txt").read_bytes()
    if hashlib.sha256(raw).hexdigest() != WORDS_SHA256:
        raise RLMError("rlm/bench/tasks/words.txt was changed: documents would not be the same")
    return tuple(raw.decode().split())


@cache
def words() -> tuple[str, ...]:
    """All words, sorted.

    Raises:
        RLMError: as in `ranked_words`.
    """
    return tuple(sorted(ranked_words()))


def number(stream: Stream, split: Split, taken: set[str], *, digits: int = 5) -> str:
    """A number of `digits` digits without a leading zero that belongs to `split`."""
    low = 10 ** (digits - 1)
    return stream.until(lambda: str(stream.between(low, 10 * low - 1)), split, taken)


def entity(stream: Stream, split: Split, taken: set[str], pool: Sequence[str] = ()) -> str:
    """A name of two words of `pool` (all words by default), such as ``Copper Lantern``."""
    pool = pool or words()
    return stream.until(
        lambda: f"{stream.choice(pool).title()} {stream.choice(pool).title()}", split, taken
    )


def zipf(without: Set[str]) -> Sequence[str]:
    """A table of the words by their rank in English (see `ZIPF_SHIFT`), none of them in `without`.

    The entries of those that are left out are shared among the others in the same proportions.
    """
    return [ranked_words()[rank] for rank in zipf_ranks(without)]


def zipf_ranks(without: Set[str]) -> NDArray[np.intp]:
    """What `zipf` gives, but of each word its place in `ranked_words`."""
    import numpy as np

    entries, ranks = _zipf(), _ranks()
    gone = [ranks[word] for word in without if word in ranks]
    if not gone:
        return entries
    left = entries[~np.isin(entries, gone)]
    missing = NUMBERS - len(left)
    return np.append(left, left[np.arange(missing) * len(left) // missing])


@cache
def _ranks() -> Mapping[str, int]:
    return {word: rank for rank, word in enumerate(ranked_words())}


@cache
def _zipf() -> NDArray[np.intp]:
    """The table of all words."""
    import numpy as np

    ranks = range(len(ranked_words()))
    weights = [(1 << 40) // (rank + 1 + ZIPF_SHIFT) for rank in ranks]
    return np.array(table(ranks, weights), dtype=np.intp)


def random_sentences(without: Set[str]) -> Filler:
    """Sentences of random words, none of them in `without`: frequent words often, rare ones seldom.

    They have `FEWEST_WORDS` words or more, 11 on average.
    """
    import numpy as np

    of_number, count_of, different = zipf_ranks(without), _sentence_words(), len(ranked_words())

    def sentences(stream: Stream, count: int) -> list[str]:
        ends = np.append(0, np.cumsum(count_of[np.asarray(stream.block(count))]))
        forms = of_number[np.asarray(stream.block(int(ends[-1])))]
        forms[ends[:-1]] += different
        forms[ends[1:] - 1] += 2 * different
        return spelled(forms).splitlines()

    return sentences


def spelled(forms: NDArray[np.intp]) -> str:
    """Words of `ranked_words`, by their places there, with a space behind each.

    Those whose place is raised by the number of all words have a capital; by twice that number, a
    mark and the end of a line instead of the space. (So no sentence is of one word.)
    """
    return _forms()[forms].tobytes().translate(None, b"\0").decode("ascii")


@cache
def _forms() -> NDArray[np.bytes_]:
    import numpy as np

    of_word = ranked_words()
    forms = [f"{w} " for w in of_word] + [f"{w.capitalize()} " for w in of_word]
    return np.array(forms + [f"{w}.\n" for w in of_word], dtype=np.bytes_)


@cache
def _sentence_words() -> NDArray[np.intp]:
    import numpy as np

    counts = range(FEWEST_WORDS, FEWEST_WORDS + len(SENTENCE_WORDS))
    return np.array(table(counts, SENTENCE_WORDS), dtype=np.intp)


def document(
    stream: Stream,
    filler: Filler,
    chars: int,
    facts: Sequence[tuple[float, str]],
    asked: Sequence[tuple[float, str]] = (),
) -> tuple[str, list[Span]]:
    """A document of exactly `chars` characters with `asked` and `facts` at sentence boundaries.

    It is put together block by block, and takes little more than twice its size in memory.

    Args:
        stream: where the draws come from.
        filler: makes filler sentences.
        chars: exact length.
        facts: (depth in the filler from 0 to 1, sentence) pairs.
        asked: more of them, each at its depth in the whole document: no boundary of the others, be
            they filler or facts, is nearer. They stand further apart than they are long.

    Returns:
        The document, and the spans of all of `asked` and then of all `facts`, in the order given.

    Raises:
        ValueError: a depth is not from 0 to 1, the facts leave no room for a sentence, or two of
            `asked` are to stand at one place.
    """
    # places of `asked` are characters of the document, targets of `facts` of its filler
    every = [*asked, *facts]
    room = _room(chars, every)
    order = sorted(range(len(asked), len(every)), key=lambda i: every[i][0])
    targets = [every[i][0] * (room + 1) for i in order]
    waiting = [(depth * (chars - len(text)), i) for i, (depth, text) in enumerate(asked)]
    waiting.sort(reverse=True)
    parts: list[str] = []
    begins: dict[int, int] = {}
    done = of_filler = at = 0
    for block in _blocks(stream, filler, room):
        end = of_filler + _length(block)
        due = order[done : bisect_right(targets, end)]
        near = [target - of_filler for target in targets[done : done + len(due)]]
        woven, found = _woven(block, near, [every[i][1] for i in due])
        here = dict(zip(due, found, strict=True))
        while waiting and waiting[-1][0] - at <= _length(woven):
            place, i = waiting.pop()
            woven = _put(woven, here, i, every[i][1], place - at)
        begins |= {i: at + begin for i, begin in here.items()}
        parts.append(" ".join(woven))
        done, of_filler, at = done + len(due), end, at + len(parts[-1]) + 1
    if waiting:
        raise ValueError(f"{every[waiting[0][1]][1]!r} and another one are asked at the same depth")
    spans = [Span(begins[i], begins[i] + len(text)) for i, (_, text) in enumerate(every)]
    return " ".join(parts), spans


def _put(woven: list[str], begins: dict[int, int], i: int, text: str, target: float) -> list[str]:
    """`woven` with `text` at the boundary nearest to `target`, which moves what is behind it.

    `begins` has where numbered texts begin in `woven`, and then where this one, `i`, does, too.
    """
    woven, (begin,) = _woven(woven, [target], [text])
    for other, place in begins.items():
        begins[other] = place + (len(text) + 1) * (place >= begin)
    begins[i] = begin
    return woven


def _room(chars: int, facts: Sequence[tuple[float, str]]) -> int:
    """Characters that `facts` leave for filler."""
    room = chars - sum(len(text) + 1 for _, text in facts)
    if room < 1:
        raise ValueError(f"facts of {chars - room} characters in a document of {chars}: too short")
    for depth, text in facts:
        if not 0 <= depth <= 1:
            raise ValueError(f"depth {depth} of {text!r}: depths go from 0 to 1")
    return room


BLOCK: Final = 4096
"""How many sentences of a long document are made at once."""
SENTENCE: Final = 64
"""About how many characters a filler sentence has; a better guess only saves time."""
MIN_LAST: Final = 24
"""No last sentence shorter than this: the one before is made longer instead."""


def _blocks(stream: Stream, filler: Filler, chars: int) -> Iterator[list[str]]:
    """Sentences that make exactly `chars` characters when all are joined by spaces."""
    left = chars
    while left > 0:
        block = filler(stream, min(BLOCK, left // SENTENCE + 1))
        if left - _length(block) < MIN_LAST:
            ends = list(accumulate([len(part) + 1 for part in block], initial=0))
            last = max(0, bisect_right(ends, left - MIN_LAST) - 1)
            block[last:] = [_fit(block[last], left - ends[last], stream, filler)]
        left -= _length(block)
        yield block


def _length(sentences: Sequence[str]) -> int:
    """Characters of `sentences` with a space after each."""
    return sum(map(len, sentences)) + len(sentences)


def _fit(text: str, chars: int, stream: Stream, filler: Filler) -> str:
    """`text` cut to `chars` characters, or made longer by the words of other sentences."""
    while len(text) < chars:
        text = f"{text[:-1]} {filler(stream, 1)[0].lower()}"
    body = text[: chars - 1]
    return (body[:-1] + "s" if body.endswith(" ") else body) + "."


def _woven(
    block: list[str], targets: Sequence[float], texts: Sequence[str]
) -> tuple[list[str], list[int]]:
    """`block` with `texts` at the boundaries nearest to `targets`, and where each text begins."""
    if not texts:
        return block, []
    starts = list(accumulate([len(part) + 1 for part in block], initial=0))
    woven: list[str] = []
    begins: list[int] = []
    taken = moved = 0
    for target, text in zip(targets, texts, strict=True):
        boundary = _nearest(starts, target)
        woven += [*block[taken:boundary], text]
        begins.append(starts[boundary] + moved)
        taken, moved = boundary, moved + len(text) + 1
    return woven + block[taken:], begins


def _nearest(starts: Sequence[int], target: float) -> int:
    after = bisect_left(starts, target)
    return min(
        (i for i in (after - 1, after) if 0 <= i < len(starts)),
        key=lambda i: abs(starts[i] - target),
    )
