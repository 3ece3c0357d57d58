"""How `long_doc_hops` states and asks, in separate wordings for train and eval.

Braces are filled in: ``{place}`` and ``{person}`` with names, ``{value}`` with a number, ``{who}``
with a role's phrase, ``{first}`` and ``{second}`` with the names that are compared, ``{absent}``
with what to answer where the text does not say, ``{craft}`` and ``{noun}`` with any word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rlm.bench.tasks.base import Split


@dataclass(frozen=True, slots=True)
class Role:
    """What a person is to a place: the first hop, and how a question says it without the person."""

    statements: Sequence[str]
    phrases: Sequence[str]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is said of a person or a thing, and how it is asked for."""

    statements: Sequence[str]
    questions: Sequence[str]


@dataclass(frozen=True, slots=True)
class Wording:
    """All wordings of one split.

    Attributes:
        roles: first hops; any goes with any of `attributes`.
        attributes: second hops.
        comparisons: statements of one name each, questions of two.
        otherwise: what to do where the text does not say.
        absent: what to answer then.
    """

    roles: Sequence[Role]
    attributes: Sequence[Asked]
    comparisons: Sequence[Asked]
    otherwise: Sequence[str]
    absent: Sequence[str]


EVAL: Final = Wording(
    roles=(
        Role(("The keeper of the {place} is {person}.",), ("the keeper of the {place}",)),
        Role(
            ("The {place} gallery was designed by {person}.",),
            ("the designer of the {place} gallery",),
        ),
        Role(
            ("The ship {place} has a captain called {person}.",),
            ("the captain of the ship {place}",),
        ),
    ),
    attributes=(
        Asked(("{person} has badge {value}.",), ("Which badge does {who} have?",)),
        Asked(
            ("{person} pays {value} dollars of rent a year.",),
            ("How many dollars of rent does {who} pay a year?",),
        ),
        Asked(
            ("The house of {person} was built of {value} bricks.",),
            ("How many bricks are in the house of {who}?",),
        ),
    ),
    comparisons=(
        Asked(
            ("The {name} library has {value} books.",),
            ("Which has more books, the {first} library or the {second} library?",),
        ),
        Asked(
            ("There are {value} beds in the {name} hotel.",),
            ("Which has more beds, the {first} hotel or the {second} hotel?",),
        ),
        Asked(
            ("The {name} company employs {value} workers.",),
            ("Which has more workers, the {first} company or the {second} company?",),
        ),
    ),
    otherwise=("If the text does not say, answer: {absent}.",),
    absent=("not in the text",),
)

TRAIN: Final = Wording(
    roles=(
        Role(
            ("{person} runs {place}.", "At {place}, {person} is in charge."),
            ("whoever runs {place}", "the one in charge at {place}"),
        ),
        Role(
            ("{person} bought {place} long ago.", "Long ago {place} was sold to {person}."),
            ("the buyer of {place}", "the person who bought {place}"),
        ),
        Role(
            ("Letters for {place} go to {person}.", "{person} opens letters sent to {place}."),
            ("the one who opens letters for {place}", "the reader of letters sent to {place}"),
        ),
        Role(
            ("{person} grew up in {place}.", "{place} is where {person} grew up."),
            ("the one who grew up in {place}", "whoever in youth lived in {place}"),
        ),
        Role(
            ("{person} teaches {craft} at {place}.", "{craft} at {place} is taught by {person}."),
            ("the {craft} teacher at {place}", "whoever teaches {craft} at {place}"),
        ),
        Role(
            ("{person} painted {place} twice.", "Twice {place} was painted by {person}."),
            ("the painter of {place}", "the hand that painted {place}"),
        ),
        Role(
            (
                "{person} guards the {craft} door of {place}.",
                "At its {craft} door {place} has a guard, {person}.",
            ),
            ("the guard at the {craft} door of {place}", "whoever guards {place}"),
        ),
        Role(
            (
                "{person} took the {craft} from {place}.",
                "Its {craft} left {place} with {person}.",
            ),
            ("whoever took the {craft} from {place}", "the taker of the {craft}, once of {place}"),
        ),
        Role(
            ("{place} owes its {craft} to {person}.", "{person} gave {place} a {craft}."),
            ("the giver of a {craft} to {place}", "the one to whom {place} owes its {craft}"),
        ),
        Role(
            ("{person} won the {craft} race for {place}.", "{place} won by {person} in {craft}."),
            ("the {craft} winner for {place}", "whoever raced in {craft} for {place}"),
        ),
        Role(
            ("Nobody but {person} cooks for {place}.", "Meals at {place} come from {person}."),
            ("the cook of {place}", "the cook who works for {place}"),
        ),
        Role(
            ("{place} hired {person} as a clerk.", "As a clerk {person} serves {place}."),
            ("the clerk of {place}", "the clerk hired by {place}"),
        ),
        Role(
            ("{place} rents a room to {person}.", "{person} rents a room from {place}."),
            ("the tenant of {place}", "whoever rents a room from {place}"),
        ),
        Role(
            ("{person} wrote a song on {place}.", "A song on {place} is by {person}."),
            ("the author of a song on {place}", "the one who wrote about {place}"),
        ),
    ),
    attributes=(
        Asked(
            ("{person} saved {value} coins.", "{value} coins were saved by {person}."),
            ("How many coins did {who} save?", "Count the coins saved by {who}."),
        ),
        Asked(
            ("{person} keeps {value} {noun} stamps.", "{person} put away {value} {noun} stamps."),
            ("How many {noun} stamps are kept by {who}?", "Number of {noun} stamps with {who}?"),
        ),
        Asked(
            ("{person} signs with the code {value}.", "{person} signs as {value}."),
            ("With what code would {who} sign?", "Find the code used by {who}."),
        ),
        Asked(
            ("{person} uses locker {value}.", "Locker {value} is used by {person}."),
            ("Which locker is used by {who}?", "State the locker of {who}."),
        ),
        Asked(
            ("{person} walked {value} miles.", "By foot {person} went {value} miles."),
            ("How far in miles did {who} walk?", "Give the miles walked by {who}."),
        ),
        Asked(
            ("{person} raised {value} {noun} hens.", "{value} {noun} hens belong to {person}."),
            ("How many {noun} hens belong to {who}?", "Report the {noun} hens raised by {who}."),
        ),
        Asked(
            ("{person} sent {value} letters abroad.", "Abroad {person} sent {value} letters."),
            ("How many letters came abroad from {who}?", "What number of letters did {who} send?"),
        ),
        Asked(
            (
                "{person} wears a {noun} tag marked {value}.",
                "Marked {value} in {noun} is {person}.",
            ),
            ("What mark in {noun} has {who}?", "Read out the {noun} mark of {who}."),
        ),
        Asked(
            ("{person} can be reached under {value}.", "Call {value} to reach {person}."),
            ("Which number reaches {who}?", "Under what number can one call {who}?"),
        ),
        Asked(
            ("{person} lent {value} {noun} cards.", "{value} {noun} cards were lent by {person}."),
            ("How many {noun} cards did {who} lend?", "Say how many {noun} cards {who} lent."),
        ),
        Asked(
            ("{person} lives behind door {value}.", "Behind door {value} lives {person}."),
            ("Behind which door lives {who}?", "Name the door of {who}."),
        ),
        Asked(
            (
                "{person} dug up {value} {noun} pots.",
                "{value} {noun} pots {person} dug up.",
            ),
            ("How many {noun} pots were dug up by {who}?", "I need the pots dug up by {who}."),
        ),
        Asked(
            ("{person} counted {value} stars that week.", "{person} saw {value} stars that week."),
            ("How many stars were there for {who}?", "What count of stars had {who} that week?"),
        ),
        Asked(
            ("{person} scored {value} in {noun}.", "In {noun}, {person} scored {value}."),
            ("What did {who} score in {noun}?", "Which {noun} score is that of {who}?"),
        ),
    ),
    comparisons=(
        Asked(
            ("{name} stores {value} {noun} crates.", "{value} {noun} crates lie at {name}."),
            (
                "Who stores more {noun} crates, {first} or {second}?",
                "Between {first} and {second}, where are more {noun} crates?",
            ),
        ),
        Asked(
            ("{name} drilled {value} holes.", "{value} holes were drilled by {name}."),
            (
                "Did {first} or {second} drill more holes?",
                "By whom were more holes drilled, {first} or {second}?",
            ),
        ),
        Asked(
            ("{name} stands {value} feet high.", "{value} feet is how high {name} stands."),
            ("Is {first} higher, or {second}?", "Name the higher one: {first} or {second}."),
        ),
        Asked(
            ("{name} borrowed {value} pounds.", "{value} pounds were borrowed by {name}."),
            (
                "Whose debt is larger, that of {first} or that of {second}?",
                "Of {first} and {second}, which one borrowed more?",
            ),
        ),
        Asked(
            ("{name} welds {value} {noun} pipes.", "{value} {noun} pipes are welded by {name}."),
            (
                "More {noun} pipes come from which of the two, {first} or {second}?",
                "Where do they weld more {noun} pipes, at {first} or at {second}?",
            ),
        ),
        Asked(
            ("{name} sings {value} songs by heart.", "By heart {name} sings {value} songs."),
            (
                "Compare {first} with {second}: who sings more songs?",
                "Who sings more songs by heart, {first} or {second}?",
            ),
        ),
        Asked(
            ("{name} took {value} minutes to paint.", "Painting {name} took {value} minutes."),
            (
                "Which one took longer to paint, {first} or {second}?",
                "Painting which of them needed more minutes, {first} or {second}?",
            ),
        ),
        Asked(
            ("{name} got {value} votes for its {noun}.", "{value} votes went to {name}."),
            (
                "Who got more votes, {first} or {second}?",
                "Take {first} and {second}. Which one got more votes?",
            ),
        ),
        Asked(
            ("{name} burns {value} logs a month.", "Each month {name} burns {value} logs."),
            (
                "Which of {first} and {second} burns more logs?",
                "Does {first} burn more logs a month, or does {second}?",
            ),
        ),
        Asked(
            ("{name} is {value} days old.", "{value} days is the age of {name}."),
            ("Which is older, {first} or {second}?", "Say who is older, {first} or {second}."),
        ),
        Asked(
            ("{name} weighs {value} ounces.", "{value} ounces is what {name} weighs."),
            (
                "Tell me the heavier one, {first} or {second}.",
                "Which of these weighs more: {first} or {second}?",
            ),
        ),
        Asked(
            ("{name} ordered {value} {noun} spoons.", "{value} {noun} spoons went to {name}."),
            (
                "{first} or {second}: which ordered more {noun} spoons?",
                "Look up whether {first} or {second} ordered more {noun} spoons.",
            ),
        ),
        Asked(
            ("{name} has {value} {noun} windows.", "With {value} {noun} windows, {name} shines."),
            (
                "Which has more {noun} windows, {first} or {second}?",
                "Has {first} more {noun} windows, or has {second}?",
            ),
        ),
    ),
    otherwise=(
        "Reply {absent} where nothing tells.",
        "Without any word on it, write {absent}.",
        "Say {absent} should it be missing.",
        "Is it missing? Then say {absent}.",
        "Your answer is {absent} when it was left out.",
        "Should nobody tell it, reply with {absent}.",
        "Put {absent} in case it is never told.",
        "When it stays open, {absent} is the reply.",
        "Give {absent} for anything left out.",
        "If no line tells it, answer: {absent}.",
        "Where a text is silent, say {absent}.",
        "Does it not stand here? Answer: {absent}.",
        "If some text leaves that out, the answer is {absent}.",
        "Else write {absent}.",
    ),
    absent=("not found", "not stated", "not given", "nothing said", "no answer"),
)

WORDINGS: Final[Mapping[Split, Wording]] = {"eval": EVAL, "train": TRAIN}
