"""A story of a lighthouse and its log, as long as one likes, with one fact to be found in it."""

from __future__ import annotations

import random
from typing import Final

FACT: Final = "The vault combination is 48213."
QUESTION: Final = "What is the vault combination?"
ANSWER: Final = "48213"

_KEEPERS: Final = ("Émile", "Old Tamsin", "The new keeper", "His sister", "The pilot", "The cook")
_PLACES: Final = ("Grey Rock", "the harbour", "the north stair", "the boat house", "the lamp room")
_DEEDS: Final = (
    "trimmed the wick and counted the ships that passed",
    "wrote the weather into the log with a steady hand",
    "carried oil up the stairs until the moon was gone",
    "mended the net that the seals had torn",
    "read the same letter twice and put it away",
    "rowed out to meet the mail boat and came back wet",
    "painted the railing that the salt had eaten",
)
_WEATHER: Final = (
    "The fog stood so thick that the bell was the only neighbour",
    "A gale from the west shook every pane of the lantern",
    "The sea lay flat and grey, and nothing moved on it but gulls",
    "Rain came in over the reef, and then it left again",
    "It was a clear night, and the light reached as far as the islands",
)


def story(chars: int, *, fact: str = FACT, seed: int = 7) -> str:
    """A story of exactly `chars` characters, with the fact in its last third."""
    dice, parts, size = random.Random(seed), [], 0
    night = 0
    while size < chars + 200:
        night += 1
        lines = [f"Night {night} at {dice.choice(_PLACES)}. {dice.choice(_WEATHER)}."]
        lines += [
            f"{dice.choice(_KEEPERS)} {dice.choice(_DEEDS)}." for _ in range(dice.randint(3, 6))
        ]
        parts.append(" ".join(lines))
        size += len(parts[-1]) + 2
    place = len(parts) * 7 // 10
    parts[place] = f"{parts[place]} {fact}"
    return "\n\n".join(parts)[:chars]
