"""Where a keyword stands in a text in upper or lower case, at the speed of ``str.find``.

The text is lower-cased once, block by block as far as a search has to go, and the blocks are kept;
each search then is ``str.find`` in the copy. An interrupt loses one block. The copy has a character
for each of the text, so that places in one are places in the other: two characters are one in it if
and only if ``re.IGNORECASE`` takes them for one. What it takes is memory, at most as much as the
text itself.

The worker imports this, so it imports nothing.
"""

BLOCK = 65_536
"""Characters of a block: few beside a hit that comes early, many beside a call of ``str.find``."""
PIECE = 2048
"""Characters of a piece: one of Latin letters is lower-cased faster than one of others."""
LATIN = bytes(ord(chr(code).lower()) for code in range(256))
"""The lower case of each character of Latin-1, which all have in Latin-1 themselves."""
KEPT = (
    "is\u00b5\u0345\u0345\u0390\u03b0\u03b2\u03b5\u03b8\u03ba\u03c0\u03c1"
    "\u03c2\u03c6\u0432\u0434\u043e\u0441\u0442\u0442\u044a\u0463\u1c88\u1e61\ufb05"
)
OTHER = (
    "\u0131\u017f\u03bc\u03b9\u1fbe\u1fd3\u1fe3\u03d0\u03f5\u03d1\u03f0\u03d6\u03f1"
    "\u03c3\u03d5\u1c80\u1c81\u1c82\u1c83\u1c84\u1c85\u1c86\u1c87\ua64b\u1e9b\ufb06"
)
"""Lower-case letters that `re` takes for one, place by place (`re._casefix`): one of OTHER becomes
that of KEPT, which is never a wider character."""


class Caseless:
    """Finds keywords in one text.

    Args:
        text: any string, of any length; lone surrogates are characters like others.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._blocks: dict[int, str] = {}

    def find(self, keyword: str, start: int = 0) -> int:
        """Where `keyword`, not empty, stands first from `start` on; -1 if nowhere."""
        wanted = fold(keyword)
        if len(wanted) > BLOCK:  # which nobody writes; it would lie across many
            return fold(self._text).find(wanted, start)
        while start + len(wanted) <= len(self._text):
            number, inside = divmod(start, BLOCK)
            found = self._block(number).find(wanted, inside)
            if found >= 0:
                return number * BLOCK + found
            end = (number + 1) * BLOCK
            first = max(start, end - len(wanted) + 1)  # that reaches into the next block
            found = fold(self._text[first : end + len(wanted) - 1]).find(wanted)
            if found >= 0:
                return first + found
            start = end
        return -1

    def _block(self, number: int) -> str:
        if number not in self._blocks:
            self._blocks[number] = fold(self._text[number * BLOCK : (number + 1) * BLOCK])
        return self._blocks[number]


def fold(text: str) -> str:
    """`text` with one form of each letter, character by character."""
    if text.isascii():
        return text.lower()
    starts = range(0, len(text), PIECE)
    return "".join([_fold_piece(text[start : start + PIECE]) for start in starts])


def _fold_piece(piece: str) -> str:
    if piece.isascii():
        return piece.lower()
    try:
        return piece.encode("latin-1").translate(LATIN).decode("latin-1")
    except UnicodeEncodeError:
        pass
    piece = piece.replace("İ", "i").lower()  # the one letter whose lower case is two characters
    for kept, other in zip(KEPT, OTHER, strict=True):
        piece = piece.replace(other, kept)
    return piece
